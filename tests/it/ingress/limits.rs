//! A number bounds everything that a sender can make the relay hold.

use std::time::Duration;

use clerk_relay::http::{Drained, HEAD_BYTES_MAX};
use clerk_relay::ingress::Timing;

use super::client::Client;
use super::relay::{Relay, Setup, source, until};

/// Sends a request up to its body and waits until the relay asks for that: from then on the request is under way.
async fn hold(relay: &Relay, id: &str, body: &str) -> Client {
    let mut client = relay.connect().await;
    client.send(&relay.post(id, body).line("Expect: 100-continue").head()).await;
    assert_eq!(client.answer().await.status, 100);
    client
}

#[tokio::test]
async fn past_in_flight_a_request_is_503_before_its_body_is_read() {
    let mut setup = Setup::default();
    setup.limits.in_flight = 2;
    let relay = Relay::start(setup).await;
    let mut held = [hold(&relay, "msg_1", "{}").await, hold(&relay, "msg_2", "{}").await];
    let mut late = relay.connect().await;
    late.send(&relay.post("msg_3", "{}").line("Expect: 100-continue").head()).await;
    let answer = late.answer().await; // not a 100
    assert_eq!((answer.status, answer.code().as_str()), (503, "too_busy"));
    assert_eq!(answer.header("retry-after"), Some("5"));
    assert_eq!(answer.header("connection"), Some("close"));
    late.wait_for_end().await;
    for client in &mut held {
        client.send(b"{}").await;
        assert_eq!(client.answer().await.status, 200);
    }
    assert_eq!(relay.ask(&relay.post("msg_3", "{}")).await.body, r#"{"received":true}"#);
}

#[tokio::test]
async fn a_client_that_is_gone_gives_its_place_back() {
    let mut setup = Setup::default();
    setup.limits.in_flight = 1;
    let relay = Relay::start(setup).await;
    drop(hold(&relay, "msg_1", "{}").await);
    relay.refusals(1).await; // the broken body is noticed
    assert_eq!(relay.ask(&relay.post("msg_2", "{}")).await.status, 200);
}

#[tokio::test]
async fn past_in_flight_bytes_a_request_is_503_by_what_it_declares() {
    let mut setup = Setup::default();
    setup.limits.in_flight_bytes = 1000;
    let relay = Relay::start(setup).await;
    let body = " ".repeat(600);
    let mut held = hold(&relay, "msg_1", &body).await;
    assert_eq!(relay.ask(&relay.post("msg_2", body.clone())).await.code(), "too_busy");
    assert_eq!(relay.ask(&relay.post("msg_3", "{}")).await.status, 200, "there is room for a small one");
    let chunked = relay.post("msg_4", "").without("Content-Length").line("Transfer-Encoding: chunked");
    assert_eq!(relay.ask(&chunked).await.code(), "too_busy", "it may become as large as body_max");
    held.send(body.as_bytes()).await;
    assert_eq!(held.answer().await.status, 200);
    assert_eq!(relay.ask(&relay.post("msg_2", body)).await.status, 200);
}

#[tokio::test]
async fn a_body_that_declares_too_much_is_413_before_it_is_read() {
    let mut clerk = source("clerk");
    clerk.body_max = 1000;
    let relay = Relay::start(Setup { sources: vec![clerk], ..Setup::default() }).await;
    let mut client = relay.connect().await;
    client.send(&relay.post("msg_1", " ".repeat(1001)).line("Expect: 100-continue").head()).await;
    let answer = client.answer().await; // not a 100
    assert_eq!((answer.status, answer.code().as_str()), (413, "body_too_large"));
    client.wait_for_end().await;
    assert_eq!(relay.ask(&relay.post("msg_1", " ".repeat(1000))).await.status, 200);
}

#[tokio::test]
async fn a_sender_that_does_not_look_up_still_reads_its_413() {
    let mut clerk = source("clerk");
    clerk.body_max = 1000;
    let relay = Relay::start(Setup { sources: vec![clerk], ..Setup::default() }).await;
    let mut client = relay.connect().await;
    let post = relay.post("msg_1", " ".repeat(1024 * 1024));
    client.send(&post.head()).await;
    until("it is refused", || relay.counts().refused == 1).await;
    for part in post.body.chunks(64 * 1024) {
        client.send(part).await; // a relay that had closed would reset the connection, and its answer with it
        tokio::time::sleep(Duration::from_millis(5)).await; // room for that reset
    }
    assert_eq!(client.answer().await.status, 413);
}

#[tokio::test]
async fn a_chunked_body_is_413_as_soon_as_it_is_too_large() {
    let mut clerk = source("clerk");
    clerk.body_max = 1000;
    let relay = Relay::start(Setup { sources: vec![clerk], ..Setup::default() }).await;
    let post = relay.post("msg_1", "").without("Content-Length").line("Transfer-Encoding: chunked");
    let mut client = relay.connect().await;
    client.send(&post.head()).await;
    client.send(format!("3e8\r\n{}\r\n1\r\nx\r\n", " ".repeat(1000)).as_bytes()).await; // and no end
    assert_eq!(client.answer().await.code(), "body_too_large");
}

#[tokio::test]
async fn a_head_that_is_too_large_is_431() {
    let relay = Relay::start(Setup::default()).await;
    let large = relay.post("msg_1", "{}").line(format!("X-Large: {}", "a".repeat(HEAD_BYTES_MAX)));
    let mut client = relay.connect().await;
    client.send(&large.bytes()).await;
    assert_eq!(client.answer().await.status, 431);
    let mut many = relay.post("msg_1", "{}");
    many.lines.extend((0..200).map(|n| format!("X-{n}: a")));
    assert_eq!(relay.ask(&many).await.status, 431);
    let fits = relay.post("msg_1", "{}").line(format!("X-Large: {}", "a".repeat(HEAD_BYTES_MAX - 1024)));
    assert_eq!(relay.ask(&fits).await.status, 200);
}

#[tokio::test]
async fn an_endless_head_ends_at_the_limit() {
    let relay = Relay::start(Setup::default()).await;
    let mut client = relay.connect().await;
    client.send(b"POST /webhooks/clerk HTTP/1.1\r\nX-Endless: ").await;
    client.send(&[b'a'; 2 * HEAD_BYTES_MAX]).await;
    assert_eq!(client.answer().await.status, 431);
}

#[tokio::test]
async fn a_head_that_drips_in_is_ended_with_408() {
    let timing = Timing { request: Duration::from_millis(100), ..Timing::default() };
    let relay = Relay::start(Setup { timing, ..Setup::default() }).await;
    let mut client = relay.connect().await;
    client.send(&relay.post("msg_1", "{}").head()[..40]).await;
    assert_eq!(client.answer().await.status, 408);
    assert!(client.try_answer().await.is_none(), "and the connection ends");
}

#[tokio::test]
async fn each_byte_of_a_head_buys_no_more_time() {
    let timing = Timing { request: Duration::from_millis(200), ..Timing::default() };
    let relay = Relay::start(Setup { timing, ..Setup::default() }).await;
    let mut client = relay.connect().await;
    let head = relay.post("msg_1", "{}").head();
    for byte in head.chunks(1).take(head.len() - 1) {
        if client.try_send(byte).await.is_err() || client.has_input() {
            return; // ended while dripping
        }
        tokio::time::sleep(Duration::from_millis(5)).await; // the drip itself: over 1 s in all
    }
    panic!("a head may drip as long as it likes");
}

#[tokio::test]
async fn a_body_that_drips_in_is_408() {
    let timing = Timing { request: Duration::from_millis(100), ..Timing::default() };
    let relay = Relay::start(Setup { timing, ..Setup::default() }).await;
    let mut client = relay.connect().await;
    client.send(&relay.post("msg_1", " ".repeat(100)).head()).await;
    client.send(b"     ").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.code().as_str()), (408, "body_too_slow"));
    assert_eq!(relay.refusals(1).await[0].body_bytes, 5);
    assert!(client.try_answer().await.is_none());
}

#[tokio::test]
async fn a_resting_connection_outlives_the_request_deadline_and_then_ends() {
    let timing =
        Timing { request: Duration::from_millis(50), idle: Duration::from_secs(2), ..Timing::default() };
    let relay = Relay::start(Setup { timing, ..Setup::default() }).await;
    let mut client = relay.connect().await;
    for id in ["msg_1", "msg_2", "msg_3"] {
        assert_eq!(client.ask(&relay.post(id, "{}")).await.status, 200);
        tokio::time::sleep(Duration::from_millis(150)).await; // the rest itself, three deadlines long
    }
    assert!(client.try_answer().await.is_none(), "the idle timeout ends it, without a word");
}

#[tokio::test]
async fn a_client_that_never_sends_anything_is_let_go() {
    let wait = Duration::from_millis(100);
    let timing = Timing { idle: wait, request: wait, ..Timing::default() };
    let mut relay = Relay::start(Setup { timing, ..Setup::default() }).await;
    let mut client = relay.connect().await;
    assert!(client.try_answer().await.is_none());
    client = relay.connect().await;
    client.send(b"PRI * HT").await; // half of an HTTP/2 greeting
    client.wait_for_end().await;
    assert_eq!(relay.stop().await, Drained::Whole);
}

#[tokio::test]
async fn further_connections_wait_until_one_ends() {
    let mut setup = Setup::default();
    setup.limits.connections = 2;
    let relay = Relay::start(setup).await;
    let mut first = relay.connect().await;
    let mut second = relay.connect().await;
    assert_eq!(first.ask(&relay.post("msg_1", "{}")).await.status, 200);
    assert_eq!(second.ask(&relay.post("msg_2", "{}")).await.status, 200);
    let mut third = relay.connect().await; // the kernel takes it, the relay does not
    third.send(&relay.post("msg_3", "{}").bytes()).await;
    for n in 0..20 {
        assert_eq!(first.ask(&relay.post(&format!("msg_x{n}"), "{}")).await.status, 200);
    }
    assert!(!third.has_input(), "it was served beyond the limit");
    drop(first);
    assert_eq!(third.answer().await.status, 200);
}

#[tokio::test]
async fn a_client_that_never_reads_its_answers_is_let_go() {
    let timing = Timing { idle: Duration::from_millis(200), ..Timing::default() };
    let relay = Relay::start(Setup { timing, ..Setup::default() }).await;
    let mut client = relay.connect().await;
    let questions = b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
    while client.try_send(&questions).await.is_ok() {} // until the buffers of both sides are full, and then the end
}
