//! HTTP/1.1 as clients really speak it: pipelined, half-closed, interrupted, malformed.

use std::time::Duration;

use clerk_relay::http::Drained;

use super::faults::Fault;
use super::relay::{Relay, Setup, until};

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let relay = Relay::start(Setup::default()).await;
    let mut client = relay.connect().await;
    for n in 0..50 {
        assert_eq!(client.ask(&relay.post(&format!("msg_{n}"), "{}")).await.status, 200);
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let relay = Relay::start(Setup::default()).await;
    let mut client = relay.connect().await;
    let posts = [relay.post("msg_1", "{}"), relay.post("msg_1", "{}"), relay.post("msg_2", "[1]")];
    client.send(&posts.iter().flat_map(|post| post.bytes()).collect::<Vec<u8>>()).await;
    let received = r#"{"received":true}"#;
    for body in [received, r#"{"received":true,"duplicate":true}"#, received] {
        assert_eq!(client.answer().await.body, body);
    }
}

#[tokio::test]
async fn a_client_that_is_done_sending_still_gets_its_answer() {
    let relay = Relay::start(Setup::default()).await;
    relay.faults.set(Fault::Hangs);
    let mut client = relay.connect().await;
    client.send(&relay.post("msg_1", "{}").bytes()).await;
    client.finish().await;
    until("the store is asked", || relay.faults.hanging() == 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await; // room for a relay that would give up on it
    relay.faults.set(Fault::None);
    assert_eq!(client.answer().await.status, 200);
    assert!(client.try_answer().await.is_none());
}

#[tokio::test]
async fn a_client_that_hangs_up_while_the_store_works_leaves_a_whole_event() {
    let relay = Relay::start(Setup::default()).await;
    relay.faults.set(Fault::Hangs);
    let mut client = relay.connect().await;
    client.send(&relay.post("msg_1", "{}").bytes()).await;
    until("the store is asked", || relay.faults.hanging() == 1).await;
    drop(client);
    relay.faults.set(Fault::None);
    until("it is counted", || relay.counts().received == 1).await;
    assert_eq!(relay.stored("msg_1").await.unwrap().body, "{}");
}

#[tokio::test]
async fn a_client_that_hangs_up_in_the_body_leaves_nothing() {
    let relay = Relay::start(Setup::default()).await;
    let post = relay.post("msg_1", r#"{"type":"user.created"}"#);
    let whole = post.bytes();
    for cut in [whole.len() - 1, whole.len() - 20] {
        let mut client = relay.connect().await;
        client.send(&whole[..cut]).await;
    }
    let refusals = relay.refusals(2).await;
    assert!(refusals.iter().all(|refusal| refusal.code == "body_broken"), "{refusals:?}");
    assert!(relay.stored("msg_1").await.is_none());
    assert_eq!(relay.ask(&post).await.body, r#"{"received":true}"#);
}

#[tokio::test]
async fn a_client_that_hangs_up_before_the_answer_leaves_a_whole_event() {
    let mut relay = Relay::start(Setup::default()).await;
    for n in 0..20 {
        let mut client = relay.connect().await;
        client.send(&relay.post(&format!("msg_{n}"), "{}").bytes()).await;
        drop(client);
    }
    let mut kept = 0;
    for n in 0..20 {
        // Whatever was kept is whole; what was not can be sent again.
        let id = format!("msg_{n}");
        kept += usize::from(relay.stored(&id).await.is_some_and(|event| event.body == "{}"));
        assert_eq!(relay.ask(&relay.post(&id, "{}")).await.status, 200);
    }
    assert!(kept > 0, "complete requests are worth nothing once the client is gone");
    assert_eq!(relay.stop().await, Drained::Whole);
}

#[tokio::test]
async fn expect_100_continue_is_answered() {
    let relay = Relay::start(Setup::default()).await;
    let mut client = relay.connect().await;
    let post = relay.post("msg_1", "{}").line("Expect: 100-continue");
    client.send(&post.head()).await;
    assert_eq!(client.answer().await.status, 100);
    client.send(b"{}").await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(client.ask(&relay.post("msg_2", "{}")).await.status, 200);
}

#[tokio::test]
async fn header_names_are_read_in_any_case() {
    let relay = Relay::start(Setup::default()).await;
    let title_case = relay.post("msg_1", "{}").bytes();
    let lower_case = String::from_utf8(relay.post("msg_2", "{}").bytes()).unwrap().replace("Svix-", "svix-");
    let upper_case = String::from_utf8(relay.post("msg_3", "{}").bytes()).unwrap().replace("Svix-", "SVIX-");
    let mut client = relay.connect().await;
    for request in [title_case, lower_case.into_bytes(), upper_case.into_bytes()] {
        client.send(&request).await;
        assert_eq!(client.answer().await.status, 200);
    }
}

#[tokio::test]
async fn nonsense_is_400_and_harms_nobody() {
    let relay = Relay::start(Setup::default()).await;
    let mut bystander = relay.connect().await;
    assert_eq!(bystander.ask(&relay.post("msg_1", "{}")).await.status, 200);
    for nonsense in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..], // the start of a TLS handshake
        b"POST  /webhooks/clerk HTTP/1.1\r\n\r\n",
        b"POST /webhooks/clerk HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /webhooks/clerk HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ] {
        let mut client = relay.connect().await;
        client.send(nonsense).await;
        let answer = client.try_answer().await;
        assert!(answer.is_none_or(|answer| answer.status == 400), "{}", String::from_utf8_lossy(nonsense));
    }
    assert_eq!(bystander.ask(&relay.post("msg_2", "{}")).await.status, 200);
}

#[tokio::test]
async fn an_answered_refusal_does_not_end_a_connection_whose_body_was_read() {
    let relay = Relay::start(Setup::default()).await;
    let mut client = relay.connect().await;
    let forged = relay.post("msg_1", "{}").signed_with(super::client::secret(9));
    let answer = client.ask(&forged).await;
    assert_eq!((answer.status, answer.header("connection")), (401, None));
    assert_eq!(client.ask(&relay.post("msg_1", "{}")).await.status, 200);
}
