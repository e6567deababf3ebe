//! Why did it fail? From the reply of an app to the words in the log, in the admin API and in the documentation.

use clerk_relay::lifecycle::hint::Hint;
use serde_json::{Value, json};

use crate::support::clerk::{Clerk, SECRET};
use crate::support::receiver::{Receiver, Reply};
use crate::support::relay::{Home, Relay, eventually};

/// The dead letter of an event that the target answered so.
async fn dead(relay: &Relay, svix_id: &str) -> Value {
    eventually(&format!("{svix_id} is dead"), async || {
        let event = relay.get(&format!("events/{svix_id}")).await;
        (event["deliveries"][0]["state"] == "dead").then(|| event["deliveries"][0].clone())
    })
    .await
}

#[tokio::test]
async fn a_redirect_to_a_sign_in_is_told_in_words_wherever_one_looks() {
    let location = "location: /sign-in?redirect_url=%2Fapi%2Fwebhooks".to_owned();
    let receiver = Receiver::start(move |_, _| Reply::Status(307, vec![location.clone()])).await;
    let home = Home::new();
    let relay = home.start(&json!({
        "sources": { "clerk": { "signing_secrets": [SECRET] } },
        "targets": { "app": { "url": receiver.url, "retry": { "attempts": 1 } } },
    }));
    let id = Clerk::new(&relay).send("user.created").await;
    let delivery = dead(&relay, &id).await;
    let hint = Hint::RouteProtected;
    let expected = json!({ "code": hint.as_str(), "text": hint.text() });
    assert_eq!(delivery["last_hint"], expected);
    assert_eq!(delivery["attempts_kept"][0]["hint"], expected);
    assert_eq!(relay.list("dead-letters").await[0]["last_hint"], expected, "at a glance");
    let (_, log) = relay.stop();
    let line = log.lines().find(|line| line.contains("delivery.attempted")).unwrap();
    assert!(line.contains(r#""hint":"route_protected""#), "{line}");
}

#[tokio::test]
async fn a_plain_failure_has_no_hint() {
    let receiver = Receiver::start(|_, _| Reply::status(500)).await;
    let home = Home::new();
    let relay = home.start(&json!({
        "sources": { "clerk": { "signing_secrets": [SECRET] } },
        "targets": { "app": { "url": receiver.url, "retry": { "attempts": 1 } } },
    }));
    let id = Clerk::new(&relay).send("user.created").await;
    let delivery = dead(&relay, &id).await;
    assert_eq!((&delivery["last_hint"], &delivery["attempts_kept"][0]["hint"]), (&Value::Null, &Value::Null));
    let (_, log) = relay.stop();
    let line = log.lines().find(|line| line.contains("delivery.attempted")).unwrap();
    assert!(!line.contains("hint"), "{line}");
}

#[test]
fn the_documentation_lists_every_hint_in_its_own_words() {
    let text = include_str!("../../docs/why.md");
    let rows: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"))
        .map(|row| {
            let (code, rest) = row.split_once("` | ").unwrap();
            (code, rest.rsplit_once(" | ").unwrap().1)
        })
        .collect();
    let hints: Vec<(&str, &str)> = Hint::ALL.into_iter().map(|hint| (hint.as_str(), hint.text())).collect();
    assert_eq!(rows, hints);
}
