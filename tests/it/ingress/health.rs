//! The two health paths, and what stands behind them in detail.

use clerk_relay::store::figures;

use super::faults::Fault;
use super::relay::{Relay, Setup};

async fn get(relay: &Relay, path: &str) -> (u16, String) {
    let mut client = relay.connect().await;
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await;
    let answer = client.answer().await;
    (answer.status, answer.body)
}

#[tokio::test]
async fn a_relay_that_takes_events_is_live_and_ready() {
    let relay = Relay::start(Setup::default()).await;
    assert_eq!(get(&relay, "/health/live").await, (200, "ok\n".to_owned()));
    assert_eq!(get(&relay, "/health/ready").await.0, 200); // its text tells of the disk it runs on
    let mut client = relay.connect().await;
    client.send(b"POST /health/ready HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")));
}

#[tokio::test]
async fn without_its_store_it_is_live_but_not_ready() {
    let relay = Relay::start(Setup::default()).await;
    relay.faults.set(Fault::Unavailable);
    assert_eq!(get(&relay, "/health/live").await.0, 200);
    assert_eq!(get(&relay, "/health/ready").await, (503, "degraded\n".to_owned()));
}

#[tokio::test]
async fn a_relay_that_is_leaving_still_takes_events_but_is_not_ready() {
    let relay = Relay::start(Setup::default()).await;
    relay.leaving.cancel();
    assert_eq!(get(&relay, "/health/ready").await.0, 503);
    assert_eq!(relay.ask(&relay.post("msg_1", "{}")).await.status, 200);
}

#[tokio::test]
async fn however_often_it_is_asked_the_store_is_asked_at_most_once_a_second() {
    let relay = Relay::start(Setup::default()).await;
    assert_eq!(get(&relay, "/health/ready").await.0, 200);
    relay.faults.set(Fault::Panics); // whoever asks the store now gets a 500
    assert_eq!(get(&relay, "/health/ready").await.0, 200);
}

#[tokio::test]
async fn what_is_wrong_is_told_in_detail_with_a_reason_for_each() {
    let relay = Relay::start(Setup::default()).await;
    let metrics = async || relay.telemetry.meters.encode(&figures::of(&relay.readiness.health().await));
    relay.faults.set(Fault::Unavailable);
    assert_eq!(relay.ask(&relay.post("msg_1", "{}")).await.status, 503);
    relay.leaving.cancel();
    let health = relay.readiness.health().await;
    let codes: Vec<&str> = health.reasons.iter().map(|reason| reason.code()).collect();
    assert_eq!(codes, ["leaving", "ingest_failing", "store_unreachable"]);
    assert!(health.reasons[1].message().contains("503"), "{health:?}");
    assert_eq!((health.state(), health.overview.is_none()), ("down", true));
    assert_eq!(health.identity.fingerprint, "000000000000");
    let text = metrics().await;
    assert!(text.contains("clerk_relay_store_up 0\n") && text.contains("clerk_relay_ready 0\n"), "{text}");
    assert!(!text.contains("clerk_relay_store_bytes"), "what is not known is not shown as 0: {text}");
}
