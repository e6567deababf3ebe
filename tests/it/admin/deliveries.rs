//! What an operator does to one delivery.

use reqwest::Method;
use serde_json::{Value, json};

use super::{api, audit, config, entry, in_state, post, refusal, refused, relay_answered};
use crate::support::clerk::Clerk;
use crate::support::receiver::{Receiver, Reply};
use crate::support::relay::eventually;
use crate::support::stage::{Stage, on_both_stores};

on_both_stores! {
    a_retry_goes_where_there_is_something_to_retry
    a_button_pressed_by_two_sends_once
    a_discarded_delivery_is_over
}

async fn a_retry_goes_where_there_is_something_to_retry(stage: Stage) {
    let receiver = Receiver::start(|_, before| match before {
        0 => Reply::status(500),
        1 => Reply::status(200),
        _ => Reply::Hang,
    })
    .await;
    let relay = stage.start(&config(&receiver.url));
    let id = Clerk::new(&relay).send("user.created").await;
    let retry = format!("deliveries/{id}/app/retry");
    in_state(&relay, &id, "dead").await;
    let (status, delivery) = api(&relay, Method::POST, &retry).await;
    assert_eq!((status, &delivery["target"]), (202, &json!("app")), "{delivery}");
    in_state(&relay, &id, "delivered").await;
    let message = refused(&relay, Method::POST, &retry, 409, "already_ended").await;
    assert!(message.contains("again"), "{message}");
    assert_eq!(post(&relay, &retry, &json!({ "again": true })).await.0, 202);
    eventually("it is attempted again", async || (receiver.requests().len() == 3).then_some(())).await;
    refused(&relay, Method::POST, &retry, 409, "nothing_to_retry").await;
    let nobody = format!("deliveries/{id}/nobody/retry");
    let message = refused(&relay, Method::POST, &nobody, 404, "not_found").await;
    assert!(message.contains("target"), "{message}");
    refused(&relay, Method::POST, "deliveries/msg_nobody/app/retry", 404, "not_found").await;
    let own = relay.get(&format!("events/{id}")).await["id"].as_str().unwrap().to_owned();
    assert_eq!(audit(&relay).await, vec![entry("local", "delivery.retried", &own); 2]);
}

async fn a_button_pressed_by_two_sends_once(stage: Stage) {
    // The first failure is final; what comes later fails too, so that a second retry would be seen.
    let (receiver, relay) = relay_answered(&stage, 500).await;
    let id = Clerk::new(&relay).send("user.created").await;
    in_state(&relay, &id, "dead").await;
    let seen = relay.list("deliveries").await[0]["updated_at"].clone();
    let body = json!({ "seen": seen });
    let retry = format!("deliveries/{id}/app/retry");
    let presses = [&body; 6].map(|body| post(&relay, &retry, body));
    let answers: Vec<(u16, Value)> = futures_util::future::join_all(presses).await;
    assert_eq!(answers.iter().filter(|(status, _)| *status == 202).count(), 1, "{answers:?}");
    in_state(&relay, &id, "dead").await;
    eventually("it was attempted", async || (receiver.requests().len() == 2).then_some(())).await;
    in_state(&relay, &id, "dead").await;
    refusal(post(&relay, &retry, &body).await, 409, "changed_meanwhile");
    assert_eq!(receiver.requests().len(), 2);
}

async fn a_discarded_delivery_is_over(stage: Stage) {
    let (_receiver, relay) = relay_answered(&stage, 500).await;
    let id = Clerk::new(&relay).send("user.created").await;
    in_state(&relay, &id, "dead").await;
    let discard = format!("deliveries/{id}/app/discard");
    let (status, delivery) = api(&relay, Method::POST, &discard).await;
    assert_eq!((status, &delivery["state"]), (202, &json!("cancelled")), "{delivery}");
    refused(&relay, Method::POST, &discard, 409, "nothing_to_discard").await;
    assert_eq!(relay.list("dead-letters").await, Vec::<Value>::new());
    assert_eq!(audit(&relay).await[0][1], "delivery.discarded");
}
