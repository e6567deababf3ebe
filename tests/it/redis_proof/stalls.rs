//! Relays, or Redis, that are away for longer than a lease, and then go on as if nothing had been.

use std::time::{Duration, Instant};

use serde_json::json;

use super::app::App;
use super::books::{drained, judge};
use super::fleet::{Apps, Fleet};
use super::load::{Answer, Load, Sender};
use crate::support::relay::{Relay, eventually};

/// What the take-over may need beyond the lease: beats are a third of the lease apart, and this machine may be busy.
const TAKEOVER_MAX: Duration = Duration::from_secs(10);
/// Longer than the lease of 1 s.
const OUTAGE: Duration = Duration::from_secs(2);
/// Answers before and after each change.
const ANSWERS: usize = 150;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_stopped_beyond_its_lease_loses_its_deliveries_to_the_other_and_goes_on_under_a_new_one()
 {
    let apps = Apps::start().await;
    let fleet = Fleet::start(2, apps.targets(), "1s").await;
    let load = Load::start(&fleet.doors, usize::MAX);
    load.reach(ANSWERS).await;
    apps.all().iter().for_each(|(_, app)| app.hold()); // so that both have deliveries in flight
    load.reach(load.answers() + ANSWERS).await;
    fleet.relay(0).signal("STOP");
    apps.all().iter().for_each(|(_, app)| app.release());
    load.reach(load.answers() + ANSWERS / 10).await; // by the other one
    one_is_dead(&fleet).await;
    fleet.relay(0).signal("CONT");
    eventually("the relay notices", async || {
        log_count(fleet.relay(0), "store.lease_lost").gt(&0).then_some(())
    })
    .await;
    load.reach(load.answers() + ANSWERS).await;
    let answered = load.stop().await;
    let result = judge(&fleet, &apps, &answered).await;
    println!("a relay was stopped\n{result}");
    assert!(result.lines.iter().any(|line| line.takeovers > 0), "nothing was in flight when it was stopped");
    assert_eq!(log_count(fleet.relay(0), "store.lease_lost"), 1, "it took one new lease, not several");
}

/// Waits until the stopped relay's lease is dead for the other one.
async fn one_is_dead(fleet: &Fleet) {
    eventually("the lease runs out", async || {
        let dead = fleet.redis.command(&["ZCOUNT", "{relay}:relays", "-inf", "0"]).await;
        let all = fleet.redis.command(&["ZCARD", "{relay}:relays"]).await;
        (dead == redis::Value::Int(1) || all == redis::Value::Int(1)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_relay_takes_over_within_the_lease_and_the_stopped_one_delivers_again_afterwards() {
    let app = App::start(|_, _| 200).await;
    app.hold();
    let mut fleet = Fleet::start(1, json!({ "app": { "url": app.url } }), "1s").await;
    let sender = Sender::new();
    let id = Sender::new_id();
    assert_eq!(sender.post(&fleet.door(0), &id).await, Answer::Kept);
    eventually("it is in flight", async || (app.came(&id).requests == 1).then_some(())).await;
    fleet.relay(0).signal("STOP");
    let since = Instant::now();
    fleet.add();
    app.release();
    eventually("the other one delivers it", async || (app.came(&id).requests == 2).then_some(())).await;
    let took = since.elapsed();
    assert!(took < Duration::from_secs(1) + TAKEOVER_MAX, "the take-over took {took:?}");
    drained(fleet.relay(1)).await;

    fleet.relay(0).signal("CONT");
    eventually("it notices", async || log_count(fleet.relay(0), "store.lease_lost").gt(&0).then_some(()))
        .await;
    eventually("its settle is lost", async || {
        log_count(fleet.relay(0), "delivery.lease_lost").gt(&0).then_some(())
    })
    .await;
    assert!(fleet.take(1).stop().0.success());
    let again = Sender::new_id();
    assert_eq!(sender.post(&fleet.door(0), &again).await, Answer::Kept);
    eventually("it delivers again", async || (app.came(&again).taken == 1).then_some(())).await;
    drained(fleet.relay(0)).await;
    let event = fleet.relay(0).get(&format!("events/{id}")).await;
    let delivery = &event["deliveries"][0];
    assert_eq!((&delivery["state"], &delivery["takeovers"]), (&json!("delivered"), &json!(1)), "{event:#}");
    assert_eq!(delivery["attempts"], 1, "the attempt of the stopped relay is not counted: {event:#}");
    assert_eq!(app.came(&id).requests, 2, "one duplicate, no more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_away_for_longer_than_every_lease_loses_nothing() {
    let apps = Apps::start().await;
    let mut fleet = Fleet::start(3, apps.targets(), "1s").await;
    let load = Load::start(&fleet.doors, usize::MAX);
    for _ in 0..2 {
        load.reach(load.answers() + ANSWERS).await;
        apps.all().iter().for_each(|(_, app)| app.hold());
        load.reach(load.answers() + ANSWERS).await;
        fleet.redis.kill();
        apps.all().iter().for_each(|(_, app)| app.release()); // taken, and nobody can be told
        tokio::time::sleep(OUTAGE).await;
        fleet.redis.restart().await;
    }
    load.reach(load.answers() + ANSWERS).await;
    let answered = load.stop().await;
    let result = judge(&fleet, &apps, &answered).await;
    println!("Redis was away twice for {OUTAGE:?}\n{result}");
}

fn log_count(relay: &Relay, word: &str) -> usize {
    relay.log().lines().filter(|line| line.contains(word)).count()
}
