//! The real relay against targets that are down and come back: few attempts while they are down, nothing used up, and a
//! gentle recovery; and against targets that only look as if they were down.

use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::clerk::{Clerk, SECRET};
use crate::support::receiver::{Receiver, Reply};
use crate::support::redis::RedisServer;
use crate::support::relay::{Home, Relay, client, eventually};

/// A configuration with one target that is tried again soon and has a breaker of this form.
fn config(url: &str, breaker: Value) -> Value {
    json!({
        "sources": { "clerk": { "signing_secrets": [SECRET] } },
        "targets": { "app": {
            "url": url, "timeout": "1s", "breaker": breaker,
            "retry": { "initial": "50ms", "multiplier": 1, "jitter": 0 },
        } },
    })
}

/// A receiver that answers with a status which the test may change.
async fn switched(status: u16) -> (Receiver, Arc<AtomicU16>) {
    let switch = Arc::new(AtomicU16::new(status));
    let status = switch.clone();
    (Receiver::start(move |_, _| Reply::status(status.load(Ordering::Relaxed))).await, switch)
}

async fn send(relay: &Relay, count: usize, event_type: &str) {
    let clerk = Clerk::new(relay);
    for _ in 0..count {
        clerk.send(event_type).await;
    }
}

async fn target(relay: &Relay) -> Value {
    relay.get("targets").await["targets"][0].clone()
}

async fn state(relay: &Relay) -> String {
    target(relay).await["breaker"]["state"].as_str().unwrap().to_owned()
}

async fn becomes(relay: &Relay, wanted: &str) {
    eventually(&format!("the breaker is {wanted}"), async || (state(relay).await == wanted).then_some(()))
        .await;
}

/// Waits until nothing is unfinished, and returns the target.
async fn all_ended(relay: &Relay) -> Value {
    eventually("everything has ended", async || {
        let target = target(relay).await;
        let unfinished =
            ["queued", "in_flight", "waiting", "parked"].map(|state| target[state].as_u64().unwrap());
        (unfinished == [0; 4]).then_some(target)
    })
    .await
}

/// The attempts that the relay has counted.
async fn counted(relay: &Relay) -> u64 {
    relay.list("deliveries").await.iter().map(|row| row["attempts"].as_u64().unwrap()).sum()
}

#[tokio::test]
async fn a_dead_target_gets_only_probes_and_no_delivery_is_used_up() {
    let (receiver, status) = switched(503).await;
    let home = Home::new();
    let mut config = config(&receiver.url, json!({ "failures": 3, "probe_every": "100ms" }));
    config["targets"]["app"]["concurrency"] = json!(1);
    config["targets"]["app"]["retry"] = json!({ "initial": "1s", "multiplier": 1, "attempts": 2 });
    let relay = home.start(&config);
    send(&relay, 4, "user.created").await;
    let failed_probes = eventually("four probes have failed", async || {
        let failed = target(&relay).await["breaker"]["failed_probes"].as_u64().unwrap();
        (failed >= 4).then_some(failed)
    })
    .await;
    let requests = receiver.requests().len() as u64;
    assert!(requests <= 3 + failed_probes + 1, "{requests} requests, {failed_probes} failed probes");
    let down = target(&relay).await;
    assert_eq!(down["dead"], 0, "every delivery was probed with, and two attempts are the limit");
    assert!(down["breaker"]["since"].is_string() && down["breaker"]["next_probe_at"].is_string());

    status.store(200, Ordering::Relaxed);
    becomes(&relay, "closed").await;
    assert_eq!(all_ended(&relay).await["dead"], 0);
    assert_eq!(receiver.counts().len(), 4);
    let log = relay.log();
    let told = |mark: &str| log.lines().filter(|line| line.contains(mark)).count();
    assert_eq!((told("breaker.opened"), told("breaker.closed")), (1, 1), "{log}");
    assert!(told("breaker.probed") >= 4 && log.contains("failures_in_a_row"), "{log}");
}

#[tokio::test]
async fn what_waited_for_hours_is_due_again_when_the_target_is_back() {
    let (receiver, status) = switched(503).await;
    let home = Home::new();
    let mut config = config(&receiver.url, json!({ "failures": 1, "probe_every": "100ms" }));
    config["targets"]["app"]["retry"] = json!({ "initial": "6h" });
    let relay = home.start(&config);
    send(&relay, 1, "user.created").await;
    becomes(&relay, "open").await;
    status.store(200, Ordering::Relaxed);
    send(&relay, 1, "user.updated").await;
    all_ended(&relay).await;
    assert_eq!(receiver.counts().len(), 2);
}

#[tokio::test]
async fn what_waits_for_its_turn_goes_back_uncounted_when_the_breaker_opens() {
    let status = Arc::new(AtomicU16::new(0));
    let receiver = {
        let status = status.clone();
        Receiver::start(move |_, _| match status.load(Ordering::Relaxed) {
            0 => Reply::Hang,
            status => Reply::status(status),
        })
        .await
    };
    let home = Home::new();
    let mut config = config(&receiver.url, json!({ "failures": 4, "probe_every": "5m" }));
    config["targets"]["app"]["concurrency"] = json!(4);
    let relay = home.start(&config);
    send(&relay, 60, "user.created").await;
    becomes(&relay, "open").await;
    eventually("nothing is in flight", async || (target(&relay).await["in_flight"] == 0).then_some(())).await;
    let requests = receiver.requests().len();
    assert!(
        (4..=12).contains(&requests),
        "{requests} attempts: 4, and those that began before the 4th ended"
    );
    assert_eq!(counted(&relay).await, requests as u64);

    status.store(200, Ordering::Relaxed);
    config["targets"]["app"]["breaker"] = json!("off");
    relay.stop();
    let relay = home.start(&config);
    all_ended(&relay).await;
    assert_eq!(state(&relay).await, "closed", "off closes what was open");
    assert_eq!(counted(&relay).await, 60 + requests as u64);
}

#[tokio::test]
async fn an_open_breaker_survives_a_restart() {
    let (receiver, _) = switched(503).await;
    let home = Home::new();
    let config = config(&receiver.url, json!({ "probe_every": "5m" }));
    let relay = home.start(&config);
    send(&relay, 10, "user.created").await;
    becomes(&relay, "open").await;
    let before = target(&relay).await["breaker"].clone();
    let (_, log) = relay.stop();
    let requests = receiver.requests().len();
    let relay = home.start(&config);
    send(&relay, 1, "user.created").await;
    assert_eq!(target(&relay).await["breaker"], before, "{log}");
    assert_eq!(receiver.requests().len(), requests);
}

#[tokio::test]
async fn an_operator_closes_the_breaker_without_waiting_for_a_probe() {
    let (receiver, status) = switched(503).await;
    let home = Home::new();
    let relay = home.start(&config(&receiver.url, json!({ "probe_every": "5m" })));
    send(&relay, 5, "user.created").await;
    becomes(&relay, "open").await;
    status.store(200, Ordering::Relaxed);
    let close = async |target: &str| {
        let url = format!("{}/api/v1/targets/{target}/close-breaker", relay.admin);
        client().post(url).send().await.unwrap().status().as_u16()
    };
    assert_eq!((close("app").await, close("nobody").await), (204, 404));
    all_ended(&relay).await;
    assert_eq!((state(&relay).await.as_str(), receiver.counts().len()), ("closed", 5));
    assert_eq!(close("app").await, 204, "it is closed already");
}

/// How long an app takes for each request.
const SLOW: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_back_gets_one_attempt_at_once_then_more() {
    let (status, arrivals) = (Arc::new(AtomicU16::new(503)), Arc::new(Mutex::new(Vec::new())));
    let receiver = {
        let (status, arrivals) = (status.clone(), arrivals.clone());
        Receiver::start(move |_, _| {
            if status.load(Ordering::Relaxed) != 200 {
                return Reply::status(503);
            }
            arrivals.lock().unwrap().push(Instant::now());
            Reply::Slow(SLOW, 200)
        })
        .await
    };
    let home = Home::new();
    let relay = home.start(&config(&receiver.url, json!({ "probe_every": "100ms" })));
    send(&relay, 60, "user.created").await;
    becomes(&relay, "open").await;
    status.store(200, Ordering::Relaxed);
    all_ended(&relay).await;
    let arrivals = arrivals.lock().unwrap().clone();
    assert_eq!(arrivals.len(), 60);
    let mut peak = 0;
    for (index, at) in arrivals.iter().enumerate() {
        // Whatever came less than 200 ms before is still under way.
        let under_way = arrivals[..=index].iter().filter(|other| at.duration_since(**other) < SLOW).count();
        let secs = at.duration_since(arrivals[0]).as_secs();
        assert!(under_way <= 1 << secs, "{under_way} under way {secs} s after the first");
        peak = peak.max(under_way);
    }
    assert!(peak > 1, "it never became more");
}

#[tokio::test]
async fn events_that_the_target_does_not_want_do_not_hold_up_its_probes() {
    let (receiver, status) = switched(503).await;
    let home = Home::new();
    let mut config = config(&receiver.url, json!({ "failures": 2, "probe_every": "100ms" }));
    config["targets"]["app"]["events"] = json!(["user.*"]);
    let relay = home.start(&config);
    send(&relay, 2, "user.created").await;
    becomes(&relay, "open").await;
    send(&relay, 30, "session.created").await;
    status.store(200, Ordering::Relaxed);
    // Each of the thirty would take the 7 s of a probe's hold, were it one that failed.
    all_ended(&relay).await;
    assert_eq!((state(&relay).await.as_str(), receiver.counts().len()), ("closed", 2));
}

#[tokio::test]
async fn a_few_bad_events_do_not_stop_a_healthy_app() {
    let receiver = Receiver::start(|request, _| {
        Reply::status(if request.body.windows(3).any(|word| word == b"bad") { 400 } else { 200 })
    })
    .await;
    let home = Home::new();
    let mut config = config(&receiver.url, json!({ "probe_every": "5m" }));
    config["targets"]["app"]["retry"]["attempts"] = json!(30); // more than fill a window
    let relay = home.start(&config);
    let clerk = Clerk::new(&relay);
    for number in 0..40 {
        let id = if number % 10 == 0 { "bad" } else { "good" };
        let body = json!({ "type": "user.created", "data": { "id": format!("{id}_{number}") } });
        clerk.send_body(body.to_string().into_bytes()).await;
    }
    let target = all_ended(&relay).await;
    assert_eq!((&target["dead"], &target["breaker"]["state"]), (&json!(4), &json!("closed")));
    assert_eq!(receiver.requests().len(), 36 + 4 * 30);
    assert!(!relay.log().contains("breaker."), "{}", relay.log());
}

#[tokio::test]
async fn an_app_that_rejects_everything_is_left_alone() {
    let (receiver, _) = switched(404).await;
    let home = Home::new();
    let relay = home.start(&config(&receiver.url, json!({ "probe_every": "5m" })));
    send(&relay, 19, "user.created").await;
    eventually("each was attempted twice", async || {
        let counts = receiver.counts();
        (counts.len() == 19 && counts.values().all(|count| *count >= 2)).then_some(())
    })
    .await;
    assert_eq!(state(&relay).await, "closed");
    send(&relay, 1, "user.created").await;
    becomes(&relay, "open").await;
    assert!(relay.log().contains("only_rejections"), "{}", relay.log());
}

#[tokio::test]
async fn overload_errors_hangs_and_refused_connections_open_the_breaker() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}/hook", listener.local_addr().unwrap());
    drop(listener);
    let (overloaded, _) = switched(429).await;
    let (broken, _) = switched(500).await;
    let hanging = Receiver::start(|_, _| Reply::Hang).await;
    let urls = [&overloaded.url, &broken.url, &hanging.url, &nobody];
    for url in urls {
        let home = Home::new();
        let relay = home.start(&config(url, json!({ "probe_every": "5m" })));
        send(&relay, 5, "user.created").await;
        becomes(&relay, "open").await;
    }
}

#[tokio::test]
async fn a_breaker_that_is_off_never_opens() {
    let (receiver, _) = switched(503).await;
    let home = Home::new();
    let mut config = config(&receiver.url, json!("off"));
    config["targets"]["app"]["retry"]["attempts"] = json!(3);
    let relay = home.start(&config);
    send(&relay, 20, "user.created").await;
    let target = all_ended(&relay).await;
    assert_eq!((&target["dead"], &target["breaker"]["state"]), (&json!(20), &json!("closed")));
    assert_eq!(receiver.requests().len(), 60);
    assert!(!relay.log().contains("breaker."), "{}", relay.log());
}

#[tokio::test]
async fn all_relays_of_one_store_obey_one_breaker() {
    let server = RedisServer::start().await;
    let (receiver, status) = switched(503).await;
    let mut config = config(&receiver.url, json!({ "failures": 3, "probe_every": "100ms" }));
    config["targets"]["app"]["concurrency"] = json!(2);
    config["store"] = json!({ "url": server.url() });
    let homes = [Home::new(), Home::new()];
    let relays = [homes[0].start(&config), homes[1].start(&config)];
    for relay in &relays {
        send(relay, 5, "user.created").await;
    }
    for relay in &relays {
        becomes(relay, "open").await;
    }
    let failed = || async { target(&relays[0]).await["breaker"]["failed_probes"].as_u64().unwrap() };
    eventually("five probes have failed", async || (failed().await >= 5).then_some(())).await;
    // Two failures are noted by either relay at most before one opens it, and two attempts are under way at each.
    let (requests, failed) = (receiver.requests().len() as u64, failed().await);
    assert!(requests <= 2 * 2 + 2 * 2 + failed + 1, "{requests} requests, {failed} failed probes");

    status.store(200, Ordering::Relaxed);
    for relay in &relays {
        becomes(relay, "closed").await;
    }
    assert_eq!(all_ended(&relays[1]).await["dead"], 0);
    assert_eq!(receiver.counts().len(), 10);
    let told = |mark: &str| relays.iter().map(|relay| relay.log().matches(mark).count()).sum::<usize>();
    assert_eq!((told("breaker.opened"), told("breaker.closed")), (1, 1));
}
