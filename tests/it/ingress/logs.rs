//! One line per decision, with every field; never a body, a secret or a signature.

use std::io;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tracing_subscriber::layer::SubscriberExt as _;

use super::client::{Post, secret};
use super::relay::{Relay, Setup};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn of(&self, event: &str) -> Vec<Value> {
        let lines = self.text();
        lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .filter(|line: &Value| line["message"] == event)
            .collect()
    }
}

#[tokio::test] // one thread, whose subscriber this is
async fn each_decision_is_one_line_and_tells_no_secrets() {
    let lines = Lines::default();
    let writer = lines.clone();
    let layer =
        tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(move || writer.clone());
    // With a single subscriber alive, a line first reached by another test's thread would be switched off for good.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let subscriber = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let mut relay = Relay::start(Setup::default()).await;
    let body = r#"{"data":{"id":"user_1","otp":"PRIVATE-123456"},"type":"user.created"}"#;
    let id =
        clerk_relay::event::ksuid::make(relay.clock.now().minus(std::time::Duration::from_secs(90)), [7; 16]);
    let posts: Vec<Post> = vec![
        relay.post(&id, body),
        relay.post(&id, body.replace("123456", "654321")),
        relay.post("msg_2", body).signed_with(secret(9)),
    ];
    for (post, status) in posts.iter().zip([200, 200, 401]) {
        assert_eq!(relay.ask(post).await.status, status);
    }
    relay.stop().await;
    drop(subscriber);

    let received = lines.of("event.received");
    assert_eq!((received.len(), lines.of("event.duplicate").len()), (1, 1));
    let first = &received[0];
    for (field, value) in
        [("source", "clerk"), ("svix_id", &id), ("type", "user.created"), ("subject", "user_1")]
    {
        assert_eq!(first[field], value, "{first}");
    }
    assert!(first["event_id"].as_str().unwrap().starts_with("evt_"), "{first}");
    assert_eq!(first["secret"], secret(1).id().to_string());
    assert_eq!(first["unwanted"], true);
    assert_eq!(first["bytes"], body.len());
    assert!((90_000..120_000).contains(&first["late_ms"].as_u64().unwrap()), "{first}");
    assert!(first["took_ms"].is_u64(), "{first}");
    assert_eq!(lines.of("event.duplicate")[0]["event_id"], first["event_id"]);
    assert_eq!(lines.of("event.duplicate_differs").len(), 1);
    let refused = &lines.of("event.refused")[0];
    for (field, value) in
        [("source", "clerk"), ("code", "invalid_signature"), ("remote", "127.0.0.1"), ("svix_id", "msg_2")]
    {
        assert_eq!(refused[field], value, "{refused}");
    }
    assert_eq!(refused["status"], 401);
    assert!(refused["cause"].as_str().unwrap().contains("secret"));

    let text = lines.text();
    assert!(!text.contains("PRIVATE") && !text.contains("whsec_") && !text.contains("v1,"), "{text}");
}
