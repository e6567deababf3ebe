//! The admin API of the real relay, on either store: who may use it, what can be asked, what can be done, and that
//! everything else is refused in words.

mod access;
mod away;
mod bodies;
mod deliveries;
mod events;
mod jobs;
mod lists;
mod openapi;
mod refusing;
mod running;
mod secrets;
mod targets;

use clerk_relay::clock::Clock;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::clerk::SECRET;
use crate::support::receiver::{Receiver, Reply};
use crate::support::relay::{Relay, client, eventually};
use crate::support::stage::Stage;

const READ: &str = "a-token-that-may-only-look";
const WRITE: &str = "a-token-that-may-do-things";

/// A configuration with the target `app`, which dies of its first failure.
fn config(url: &str) -> Value {
    json!({
        "sources": { "clerk": { "signing_secrets": [SECRET] } },
        "targets": { "app": { "url": url, "breaker": "off", "retry": { "attempts": 1 } } },
    })
}

/// The same with a token that looks and one that does.
fn config_with_tokens(url: &str) -> Value {
    let mut config = config(url);
    config["admin"] = json!({ "listen": "127.0.0.1:0", "tokens": [
        { "name": "looks", "token": READ, "can": "read" },
        { "name": "does", "token": WRITE, "can": "write" },
    ] });
    config
}

fn request(relay: &Relay, method: Method, path: &str) -> RequestBuilder {
    client().request(method, format!("{}{path}", relay.admin))
}

/// The status and the JSON of the answer, null where there is none.
async fn answer(request: RequestBuilder) -> (u16, Value) {
    let reply = request.send().await.unwrap();
    let status = reply.status().as_u16();
    let body = reply.bytes().await.unwrap();
    (status, if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() })
}

/// The same for a path below `/api/v1/`.
async fn api(relay: &Relay, method: Method, path: &str) -> (u16, Value) {
    answer(request(relay, method, &format!("/api/v1/{path}"))).await
}

/// The same as a POST with this body.
async fn post(relay: &Relay, path: &str, body: &Value) -> (u16, Value) {
    let request = request(relay, Method::POST, &format!("/api/v1/{path}"));
    answer(request.header("content-type", "application/json").body(body.to_string())).await
}

/// Asserts that an answer is a refusal with this status and code, and returns its message.
fn refusal(answer: (u16, Value), status: u16, code: &str) -> String {
    let (found, body) = answer;
    assert_eq!((found, &body["error"]["code"]), (status, &json!(code)), "{body}");
    body["error"]["message"].as_str().unwrap().to_owned()
}

/// Asserts that a request without a body is refused so.
async fn refused(relay: &Relay, method: Method, path: &str, status: u16, code: &str) -> String {
    refusal(api(relay, method, path).await, status, code)
}

/// A relay that answers every event with `status`, and what keeps it going.
async fn relay_answered(stage: &Stage, status: u16) -> (Receiver, Relay) {
    let receiver = Receiver::start(move |_, _| Reply::status(status)).await;
    let relay = stage.start(&config(&receiver.url));
    (receiver, relay)
}

async fn in_state(relay: &Relay, id: &str, state: &str) {
    eventually(&format!("{id} is {state}"), async || {
        (relay.get(&format!("events/{id}")).await["deliveries"][0]["state"] == state).then_some(())
    })
    .await;
}

/// What the audit says, newest first: who did what upon what.
async fn audit(relay: &Relay) -> Vec<[String; 3]> {
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    let rows = relay.list("audit").await;
    rows.iter().map(|row| ["actor", "action", "object"].map(|name| text(row, name))).collect()
}

/// The same as one would write it.
fn entry(actor: &str, action: &str, object: &str) -> [String; 3] {
    [actor, action, object].map(str::to_owned)
}

/// RFC 3339 text of the present.
fn now() -> String {
    Clock::system().now().to_string()
}
