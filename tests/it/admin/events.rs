//! One event: its payload without what is secret, whole for those who may, and never without an entry in the audit.

use reqwest::Method;

use super::{READ, WRITE, answer, audit, config_with_tokens, entry, in_state, relay_answered, request};
use crate::support::clerk::Clerk;
use crate::support::stage::{Stage, on_both_stores};

on_both_stores! {
    a_payload_is_whole_only_with_reveal_which_the_audit_has
    a_body_comes_as_it_was_received
}

/// What every `sms.created` sample holds and nobody may see.
const CODE: &str = "218804";

async fn a_payload_is_whole_only_with_reveal_which_the_audit_has(stage: Stage) {
    let (_receiver, relay) = relay_answered(&stage, 200).await;
    let id = Clerk::new(&relay).send("sms.created").await;
    in_state(&relay, &id, "delivered").await;
    let event = relay.get(&format!("events/{id}")).await;
    assert_eq!(event["payload_state"], "redacted");
    assert_eq!(event["payload"]["type"], "sms.created");
    assert!(!event.to_string().contains(CODE), "{event}");
    assert_eq!(audit(&relay).await, Vec::<[String; 3]>::new());
    let own = event["id"].as_str().unwrap();
    let event = relay.get(&format!("events/{id}?reveal=true")).await;
    assert_eq!(event["payload_state"], "revealed");
    assert_eq!(event["payload"]["data"]["data"]["otp_code"], CODE);
    assert_eq!(audit(&relay).await, [entry("local", "payload.revealed", own)]);
}

async fn a_body_comes_as_it_was_received(stage: Stage) {
    let (_receiver, relay) = relay_answered(&stage, 200).await;
    let sent = b"{ \"type\" : \"user.created\",\n \"data\": {\"id\":\"user_1\"} }\xff\0 not JSON".to_vec();
    let id = Clerk::new(&relay).send_body(sent.clone()).await;
    let event = relay.get(&format!("events/{id}?reveal=true")).await;
    assert_eq!((&event["payload_state"], event["payload"].is_null()), (&"not_json".into(), true));
    let reply = request(&relay, Method::GET, &format!("/api/v1/events/{id}/body")).send().await.unwrap();
    assert_eq!(reply.headers()["content-type"], "application/octet-stream");
    assert_eq!(reply.bytes().await.unwrap(), sent);
    let own = event["id"].as_str().unwrap();
    assert_eq!(audit(&relay).await, vec![entry("local", "payload.revealed", own); 2]);
}

#[tokio::test]
async fn who_may_only_look_sees_no_payload_whole_and_leaves_no_entry() {
    let stage = Stage::sqlite();
    let relay = stage.start(&config_with_tokens("http://127.0.0.1:9/"));
    let id = Clerk::new(&relay).send("user.created").await;
    let get = async |path: &str, token: &str| {
        answer(request(&relay, Method::GET, &format!("/api/v1/{path}")).bearer_auth(token)).await
    };
    for path in [format!("events/{id}?reveal=true"), format!("events/{id}/body")] {
        let (status, body) = get(&path, READ).await;
        assert_eq!((status, &body["error"]["code"]), (403, &"read_only".into()), "{path}");
    }
    assert_eq!(get("audit", READ).await.1["rows"], serde_json::json!([]));
    assert_eq!(get(&format!("events/{id}?reveal=true"), WRITE).await.0, 200);
    let audit = get("audit", READ).await.1;
    assert_eq!((&audit["rows"][0]["actor"], audit["rows"].as_array().unwrap().len()), (&"does".into(), 1));
}
