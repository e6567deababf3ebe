//! Moments at which a call to Redis, its reply or Redis itself is lost, one by one, and what comes of the one event that
//! is under way. The lease is so long that nothing comes back by running out.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use redis::Value;
use serde_json::json;

use super::app::App;
use super::books::drained;
use super::fleet::Fleet;
use super::load::{Answer, Sender};
use crate::support::proxy::{Mode, Proxy};
use crate::support::receiver::{Receiver, Reply};
use crate::support::relay::{Relay, eventually};

/// Longer than any test.
const LEASE: &str = "5m";

/// Well below the half minute after which a loop looks without a ring.
const SOON: Duration = Duration::from_secs(15);

/// Waits until the event's delivery has ended, and compares it with what it must be.
async fn ends_delivered(relay: &Relay, id: &str, attempts: u64) {
    drained(relay).await;
    let event = relay.get(&format!("events/{id}")).await;
    let delivery = &event["deliveries"][0];
    assert_eq!(delivery["state"], "delivered", "{event:#}");
    assert_eq!(delivery["attempts"], attempts, "{event:#}");
    assert_eq!(delivery["takeovers"], 0, "{event:#}");
    let log = relay.list("events").await;
    assert_eq!(log.iter().filter(|row| row["svix_id"] == id).count(), 1, "it is in the log once: {log:?}");
}

/// Posts until it is answered 2xx; what the last answer was.
async fn post_until_kept(sender: &Sender, door: &str, id: &str) -> Answer {
    eventually("it is answered 2xx", async || match sender.post(door, id).await {
        Answer::Refused | Answer::Nothing => None,
        answer @ (Answer::Kept | Answer::Known) => Some(answer),
    })
    .await
}

/// One event, so that every connection is made and every script known.
async fn warm_up(sender: &Sender, fleet: &Fleet) {
    assert_eq!(sender.post(&fleet.door(0), &Sender::new_id()).await, Answer::Kept);
    drained(fleet.relay(0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_redis_never_got_is_refused_and_kept_when_it_comes_again() {
    let app = App::start(|_, _| 200).await;
    let (fleet, proxy) = Fleet::start_behind_proxy(json!({ "app": { "url": app.url } }), LEASE).await;
    let (sender, id) = (Sender::new(), Sender::new_id());
    proxy.set(Mode::Refuse);
    proxy.cut();
    assert_eq!(sender.post(&fleet.door(0), &id).await, Answer::Refused);
    proxy.set(Mode::Pass);
    assert_eq!(post_until_kept(&sender, &fleet.door(0), &id).await, Answer::Kept);
    ends_delivered(fleet.relay(0), &id, 1).await;
    assert_eq!(app.came(&id).requests, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_whose_keeping_was_never_confirmed_is_refused_then_known_and_delivered_once() {
    let app = App::start(|_, _| 200).await;
    let (fleet, proxy) = Fleet::start_behind_proxy(json!({ "app": { "url": app.url } }), LEASE).await;
    let (sender, id) = (Sender::new(), Sender::new_id());
    warm_up(&sender, &fleet).await;
    let lost = proxy.lose_reply(&id); // it stands in the key of its mark
    assert_eq!(sender.post(&fleet.door(0), &id).await, Answer::Refused);
    lost.await.unwrap();
    let since = Instant::now();
    assert_eq!(post_until_kept(&sender, &fleet.door(0), &id).await, Answer::Known);
    ends_delivered(fleet.relay(0), &id, 1).await;
    assert!(since.elapsed() < SOON, "it was found after {:?}", since.elapsed());
    assert_eq!(app.came(&id).requests, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_redis_keeps_after_the_relay_gave_it_up_is_known_when_it_comes_again() {
    let app = App::start(|_, _| 200).await;
    let fleet = Fleet::start(1, json!({ "app": { "url": app.url } }), LEASE).await;
    let (sender, id) = (Sender::new(), Sender::new_id());
    fleet.redis.pause();
    assert_eq!(sender.post(&fleet.door(0), &id).await, Answer::Refused);
    fleet.redis.resume();
    post_until_kept(&sender, &fleet.door(0), &id).await; // new or known: Redis may drop what it has not read
    ends_delivered(fleet.relay(0), &id, 1).await;
    assert_eq!(app.came(&id).requests, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_killed_before_its_answer_leaves_an_event_that_is_known_and_delivered_once() {
    let app = App::start(|_, _| 200).await;
    let (mut fleet, proxy) = Fleet::start_behind_proxy(json!({ "app": { "url": app.url } }), "1s").await;
    let (sender, id) = (Sender::new(), Sender::new_id());
    warm_up(&sender, &fleet).await;
    proxy.set(Mode::Delay(crate::support::relay::PATIENCE)); // Redis hears everything and is not heard
    let (posting, door) = (sender.clone(), fleet.door(0));
    let post = {
        let id = id.clone();
        tokio::spawn(async move { posting.post(&door, &id).await })
    };
    eventually("Redis has it", async || {
        (fleet.redis.command(&["XLEN", "{relay}:ev"]).await == Value::Int(2)).then_some(())
    })
    .await;
    fleet.kill(0);
    assert_eq!(post.await.unwrap(), Answer::Nothing);
    proxy.set(Mode::Pass);
    fleet.revive(0);
    assert_eq!(post_until_kept(&sender, &fleet.door(0), &id).await, Answer::Known);
    drained(fleet.relay(0)).await;
    assert_eq!(app.came(&id).requests, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lost_claim_took_is_found_and_delivered_once() {
    let app = App::start(|_, _| 200).await;
    let (fleet, proxy) = Fleet::start_behind_proxy(json!({ "app": { "url": app.url } }), LEASE).await;
    let sender = Sender::new();
    for _ in 0..3 {
        let id = Sender::new_id();
        let lost = proxy.lose_reply("\r\nready\r\n"); // the scope of a claim for delivery
        post_until_kept(&sender, &fleet.door(0), &id).await;
        lost.await.unwrap();
        ends_delivered(fleet.relay(0), &id, 1).await;
        assert_eq!(app.came(&id).requests, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settle_that_was_never_confirmed_is_repeated_and_nothing_is_delivered_again() {
    let proxy = Arc::new(OnceLock::<Arc<Proxy>>::new());
    let (setting, losses) = (proxy.clone(), Arc::new(Mutex::new(Vec::new())));
    let lost = losses.clone();
    let app = Receiver::start(move |_, before| {
        // While the event is at the app, the next call that names its type is its settle.
        lost.lock().unwrap().push(setting.get().unwrap().lose_reply("user.updated"));
        Reply::status(if before == 0 { 503 } else { 200 })
    })
    .await;
    let targets = json!({ "app": { "url": app.url, "retry": { "initial": "20ms" } } });
    let (fleet, started) = Fleet::start_behind_proxy(targets, LEASE).await;
    proxy.set(started).ok().unwrap();
    let (sender, id) = (Sender::new(), Sender::new_id());
    assert_eq!(sender.post(&fleet.door(0), &id).await, Answer::Kept);
    ends_delivered(fleet.relay(0), &id, 2).await;
    let losses = std::mem::take(&mut *losses.lock().unwrap());
    assert_eq!(losses.len(), 2, "one attempt failed, one was taken");
    for lost in losses {
        lost.await.unwrap();
    }
    assert_eq!(app.counts()[&id], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_dies_between_an_attempt_and_its_settle_and_comes_back_hears_of_it_then() {
    let app = App::start(|_, _| 200).await;
    let mut fleet = Fleet::start(2, json!({ "app": { "url": app.url } }), LEASE).await;
    let (sender, id) = (Sender::new(), Sender::new_id());
    app.hold();
    assert_eq!(sender.post(&fleet.door(0), &id).await, Answer::Kept);
    eventually("it is in flight", async || (app.came(&id).requests == 1).then_some(())).await;
    fleet.redis.kill();
    app.release();
    eventually("its settle fails", async || {
        let log = [fleet.relay(0).log(), fleet.relay(1).log()].concat();
        log.contains("delivery.settle_failed").then_some(())
    })
    .await;
    fleet.redis.restart().await; // with no script in its memory
    ends_delivered(fleet.relay(0), &id, 1).await;
    assert_eq!(app.came(&id).requests, 1);
    let again = Sender::new_id();
    post_until_kept(&sender, &fleet.door(1), &again).await;
    ends_delivered(fleet.relay(1), &again, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_refuses_new_events_knows_old_ones_and_takes_every_settle() {
    let app = App::start(|_, before| if before == 0 { 503 } else { 200 }).await;
    let targets = json!({ "app": { "url": app.url, "breaker": "off", "retry": { "initial": "20ms" } } });
    let fleet = Fleet::start(1, targets, LEASE).await;
    let (sender, door, mut ids) = (Sender::new(), fleet.door(0), Vec::new());
    app.hold();
    for _ in 0..40 {
        ids.push(Sender::new_id());
        assert_eq!(sender.post(&door, ids.last().unwrap()).await, Answer::Kept);
    }
    fleet.redis.config_set("maxmemory", "1mb").await; // less than an empty server has
    eventually("new events are refused", async || {
        (sender.post(&door, &Sender::new_id()).await == Answer::Refused).then_some(())
    })
    .await;
    assert_eq!(sender.post(&door, &ids[0]).await, Answer::Known);
    app.release();
    for id in &ids {
        eventually("it is delivered all the same", async || (app.came(id).taken == 1).then_some(())).await;
    }
    for id in &ids {
        ends_delivered(fleet.relay(0), id, 2).await;
        assert_eq!(app.came(id).requests, 2);
    }
    fleet.redis.config_set("maxmemory", "0").await;
    assert_eq!(post_until_kept(&sender, &door, &Sender::new_id()).await, Answer::Kept);
}
