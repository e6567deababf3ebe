//! Relays that are told to stop among others that go on: a stop is not a failure. The lease is so long here that nothing
//! can come back by running out; it comes back because it is given back.

use std::time::Duration;

use serde_json::json;

use super::app::App;
use super::books::{drained, judge};
use super::fleet::{Apps, Fleet};
use super::load::{Answer, Load, Sender};
use crate::support::receiver::{Receiver, Reply};
use crate::support::relay::eventually;

/// Longer than any test.
const LEASE: &str = "5m";
/// Answers between two stops.
const ANSWERS: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_that_stop_one_after_the_other_under_load_duplicate_nothing_and_use_up_no_attempt() {
    let apps = Apps::start_slow(Duration::from_millis(20)).await; // so that there is always something in flight
    let mut fleet = Fleet::start(3, apps.targets(), LEASE).await;
    let load = Load::start(&fleet.doors, usize::MAX);
    for index in 0..3 {
        load.reach(load.answers() + ANSWERS).await;
        let relay = fleet.take(index);
        let (status, log) = tokio::task::block_in_place(|| relay.stop());
        assert!(status.success(), "{log}");
        fleet.revive(index);
    }
    let answered = load.stop().await;
    let result = judge(&fleet, &apps, &answered).await;
    println!("three graceful stops\n{result}");
    for line in &result.lines {
        assert_eq!((line.duplicates, line.takeovers), (0, 0), "{line:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stop_interrupts_is_delivered_by_another_relay_at_once_and_counts_no_attempt() {
    let hanging =
        Receiver::start(|_, before| if before == 0 { Reply::Hang } else { Reply::status(200) }).await;
    let mut fleet = Fleet::start_with(
        1,
        json!({ "shutdown_grace": "200ms" }),
        json!({ "app": { "url": hanging.url } }),
        LEASE,
    )
    .await;
    let (sender, id) = (Sender::new(), Sender::new_id());
    assert_eq!(sender.post(&fleet.door(0), &id).await, Answer::Kept);
    eventually("it is in flight", async || (hanging.counts().get(&id) == Some(&1)).then_some(())).await;
    fleet.add();
    let relay = fleet.take(0);
    let (status, log) = tokio::task::block_in_place(|| relay.stop());
    assert!(!status.success() || log.contains("delivery.interrupted"), "{log}");
    eventually("another relay delivers it", async || (hanging.counts()[&id] == 2).then_some(())).await;
    drained(fleet.relay(1)).await;
    let event = fleet.relay(1).get(&format!("events/{id}")).await;
    let delivery = &event["deliveries"][0];
    assert_eq!(delivery["state"], "delivered", "{event:#}");
    assert_eq!((&delivery["attempts"], &delivery["takeovers"]), (&json!(1), &json!(0)), "{event:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_stopped_is_forgotten_and_its_share_goes_to_the_others() {
    let app = App::start(|_, _| 200).await;
    let mut fleet = Fleet::start(2, json!({ "app": { "url": app.url } }), "1s").await;
    let relay = fleet.take(0);
    assert!(tokio::task::block_in_place(|| relay.stop()).0.success());
    eventually("it is forgotten", async || {
        let relays = fleet.redis.command(&["ZCARD", "{relay}:relays"]).await;
        (relays == redis::Value::Int(1)).then_some(())
    })
    .await;
    let (sender, id) = (Sender::new(), Sender::new_id());
    assert_eq!(sender.post(&fleet.door(1), &id).await, Answer::Kept);
    eventually("the other one delivers", async || (app.came(&id).taken == 1).then_some(())).await;
}
