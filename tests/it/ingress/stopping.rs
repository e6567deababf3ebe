//! A stop is not a failure: idle connections end at once, requests under way are answered, nothing answered is lost.

use std::time::Duration;

use clerk_relay::http::Drained;
use clerk_relay::ingress::Timing;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::client::{Client, PATIENCE, Post};
use super::faults::Fault;
use super::relay::{Relay, Setup, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_loses_nothing_that_was_answered() {
    let mut relay = Relay::start(Setup::default()).await;
    let mut senders = JoinSet::new();
    for sender in 0..8 {
        let (address, clock) = (relay.address, relay.clock.clone());
        senders.spawn(async move {
            let mut client = Client::connect(address).await;
            let mut answered = Vec::new();
            for n in 0.. {
                let id = format!("msg_{sender}_{n}");
                let post = Post::new(id.clone(), clock.now(), "{}");
                if client.try_send(&post.bytes()).await.is_err() {
                    break;
                }
                match client.try_answer().await {
                    Some(answer) if answer.status == 200 => answered.push(id),
                    Some(answer) => panic!("{answer:?}"),
                    None => break,
                }
            }
            answered
        });
    }
    until("200 events", || relay.counts().received >= 200).await;
    relay.shutdown.stop.cancel();
    let answered =
        timeout(PATIENCE, senders.join_all()).await.expect("connections outlive the stop").concat();
    assert!(answered.len() >= 200);
    for id in &answered {
        assert!(relay.stored(id).await.is_some(), "{id} was answered 200 and is not there");
    }
    assert_eq!(relay.ended().await, Drained::Whole);
}

#[tokio::test]
async fn a_stop_ends_idle_connections_at_once_and_takes_no_new_ones() {
    let mut relay = Relay::start(Setup::default()).await;
    let mut fresh = relay.connect().await;
    let mut used = relay.connect().await;
    assert_eq!(used.ask(&relay.post("msg_1", "{}")).await.status, 200);
    let address = relay.address;
    assert_eq!(relay.stop().await, Drained::Whole);
    assert!(fresh.try_answer().await.is_none());
    assert!(used.try_answer().await.is_none());
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_request_under_way_is_finished_after_the_stop() {
    let mut relay = Relay::start(Setup::default()).await;
    let mut client = relay.connect().await;
    client.send(&relay.post("msg_1", "{}").line("Expect: 100-continue").head()).await;
    assert_eq!(client.answer().await.status, 100);
    relay.shutdown.stop.cancel();
    while TcpStream::connect(relay.address).await.is_ok() {
        tokio::task::yield_now().await; // until the listener is gone
    }
    client.send(b"{}").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert!(relay.stored("msg_1").await.is_some());
    assert_eq!(relay.ended().await, Drained::Whole);
}

#[tokio::test]
async fn what_outlasts_the_grace_is_cut_and_told() {
    let mut relay = Relay::start(Setup::default()).await;
    let mut client = relay.connect().await;
    client.send(&relay.post("msg_1", "{}").line("Expect: 100-continue").head()).await;
    assert_eq!(client.answer().await.status, 100);
    relay.shutdown.stop.cancel();
    relay.shutdown.abort.cancel();
    assert_eq!(relay.ended().await, Drained::Cut(1));
    assert!(client.try_answer().await.is_none());
}

#[tokio::test]
async fn refusals_of_the_last_second_are_kept() {
    let mut relay = Relay::start(Setup::default()).await;
    for n in 0..5 {
        let post = relay.post(&format!("msg_{n}"), "{}").signed_with(super::client::secret(9));
        assert_eq!(relay.ask(&post).await.status, 401);
    }
    assert_eq!(relay.stop().await, Drained::Whole);
    assert_eq!(relay.refusals_now().await.len(), 5);
}

#[tokio::test]
async fn a_store_that_hangs_does_not_hold_a_stop_beyond_its_deadline() {
    let timing = Timing { store: Duration::from_millis(200), ..Timing::default() };
    let mut relay = Relay::start(Setup { timing, ..Setup::default() }).await;
    relay.faults.set(Fault::Hangs);
    let mut client = relay.connect().await;
    client.send(&relay.post("msg_1", "{}").bytes()).await;
    assert_eq!(client.answer().await.status, 503);
    relay.faults.set(Fault::None);
    assert_eq!(relay.stop().await, Drained::Whole);
}
