//! What an operator does to many deliveries at once, as jobs.

use reqwest::Method;
use serde_json::{Value, json};

use super::{api, audit, config, entry, in_state, now, post, refusal, refused, relay_answered};
use crate::support::clerk::Clerk;
use crate::support::receiver::{Receiver, Reply};
use crate::support::relay::{Home, Relay, eventually};
use crate::support::stage::{Stage, on_both_stores};

on_both_stores! {
    a_dry_run_answers_with_its_count_and_changes_nothing
    a_bulk_retry_is_followed_to_its_end
    a_replay_repeats_what_was_delivered_to_one_target
    a_job_is_cancelled_once_and_started_once
    an_erasure_is_a_job_that_the_audit_has
}

/// The job's number; it must have been accepted.
fn number((status, job): (u16, Value)) -> u64 {
    assert_eq!(status, 202, "{job}");
    job["id"].as_u64().unwrap()
}

async fn done(relay: &Relay, id: u64) -> Value {
    eventually(&format!("job {id} is done"), async || {
        let job = relay.get(&format!("jobs/{id}")).await;
        (job["state"] == "done").then_some(job)
    })
    .await
}

/// Sends some events and waits until they are dead.
async fn dead(relay: &Relay, count: usize) -> Vec<String> {
    let clerk = Clerk::new(relay);
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(clerk.send("user.created").await);
    }
    for id in &ids {
        in_state(relay, id, "dead").await;
    }
    ids
}

async fn a_dry_run_answers_with_its_count_and_changes_nothing(stage: Stage) {
    let (receiver, relay) = relay_answered(&stage, 500).await;
    dead(&relay, 3).await;
    for (path, filter) in [
        ("retries", json!({})),
        ("retries", json!({ "target": "app", "states": ["dead"], "type": "user.created" })),
        ("discards", json!({ "source": "clerk" })),
        ("replays", json!({ "target": "app", "since": "2020-01-01T00:00:00Z" })),
    ] {
        let (status, job) = post(&relay, path, &json!({ "filter": filter, "dry_run": true })).await;
        assert_eq!((status, &job["dry_run"]), (202, &json!(true)), "{job}");
        assert_eq!((&job["state"], &job["total"]), (&json!("done"), &json!(3)), "{path}: {job}");
    }
    let nothing = json!({ "filter": { "type": "user.deleted" }, "dry_run": true });
    assert_eq!(post(&relay, "retries", &nothing).await.1["moved"], 0);
    assert_eq!((receiver.requests().len(), relay.list("dead-letters").await.len()), (3, 3));
    assert_eq!(audit(&relay).await, Vec::<[String; 3]>::new());
}

async fn a_bulk_retry_is_followed_to_its_end(stage: Stage) {
    let receiver = Receiver::start(|_, before| Reply::status(if before == 0 { 500 } else { 200 })).await;
    let relay = stage.start(&config(&receiver.url));
    let ids = dead(&relay, 4).await;
    let body = json!({ "filter": { "target": "app" }, "rate": "600/m" });
    let (status, job) = post(&relay, "retries", &body).await;
    assert_eq!(
        (&job["action"], &job["rate"], &job["by"]),
        (&json!("retry"), &json!("10/s"), &json!("local"))
    );
    let job = done(&relay, number((status, job))).await;
    assert_eq!((&job["moved"], &job["total"]), (&json!(4), &json!(4)));
    for id in &ids {
        in_state(&relay, id, "delivered").await;
    }
    assert!(receiver.counts().values().all(|count| *count == 2), "{:?}", receiver.counts());
    assert_eq!(audit(&relay).await, [entry("local", "job.started", "retry")]);
    assert_eq!(relay.get("jobs").await["rows"], json!([job]));
}

async fn a_replay_repeats_what_was_delivered_to_one_target(stage: Stage) {
    let (receiver, relay) = relay_answered(&stage, 200).await;
    let since = now();
    let id = Clerk::new(&relay).send("user.created").await;
    in_state(&relay, &id, "delivered").await;
    let replay = |since: &str| json!({ "filter": { "target": "app", "since": since } });
    let later = post(&relay, "replays", &replay("2100-01-01T00:00:00Z")).await;
    assert_eq!(done(&relay, number(later)).await["moved"], 0);
    let job = post(&relay, "replays", &replay(&since)).await;
    assert_eq!(done(&relay, number(job)).await["moved"], 1);
    eventually("it came again", async || (receiver.requests().len() == 2).then_some(())).await;
    for filter in [json!({ "target": "app" }), json!({ "since": since }), json!({})] {
        refusal(post(&relay, "replays", &json!({ "filter": filter })).await, 400, "bad_request");
    }
}

async fn a_job_is_cancelled_once_and_started_once(stage: Stage) {
    let (_receiver, relay) = relay_answered(&stage, 500).await;
    dead(&relay, 5).await;
    // A delivery a second, so that it is under way while it is asked for.
    let body = json!({ "filter": { "target": "app" }, "rate": "1/s" });
    let id = number(post(&relay, "retries", &body).await);
    assert_eq!(number(post(&relay, "retries", &body).await), id, "the same button");
    let (status, job) = api(&relay, Method::DELETE, &format!("jobs/{id}")).await;
    assert_eq!((status, &job["state"], &job["total"]), (200, &json!("cancelled"), &Value::Null), "{job}");
    refused(&relay, Method::DELETE, &format!("jobs/{id}"), 409, "already_ended").await;
    for path in ["jobs/999", "jobs/0"] {
        refused(&relay, Method::GET, path, 404, "not_found").await;
        refused(&relay, Method::DELETE, path, 404, "not_found").await;
    }
    for path in ["jobs/one", "jobs/-1", "jobs/1.5", "jobs?limit=1"] {
        refused(&relay, Method::GET, path, 400, "bad_request").await;
    }
    let entries = audit(&relay).await;
    assert_eq!(entries[0], entry("local", "job.cancelled", &id.to_string()));
}

async fn an_erasure_is_a_job_that_the_audit_has(stage: Stage) {
    let (_receiver, relay) = relay_answered(&stage, 200).await;
    let body = json!({ "type": "user.created", "data": { "id": "user_1", "first_name": "Jane" } });
    let id = Clerk::new(&relay).send_body(body.to_string().into_bytes()).await;
    in_state(&relay, &id, "delivered").await;
    let (status, job) = api(&relay, Method::DELETE, "subjects/user_1?dry_run=true").await;
    assert_eq!((status, &job["action"], &job["total"]), (202, &json!("erase"), &json!(1)), "{job}");
    assert_eq!(relay.get(&format!("events/{id}")).await["payload_state"], "redacted");
    let job = api(&relay, Method::DELETE, "subjects/user_1").await;
    assert_eq!(done(&relay, number(job)).await["moved"], 1);
    let event = relay.get(&format!("events/{id}?reveal=true")).await;
    assert_eq!((&event["payload_state"], &event["payload"]), (&json!("erased"), &Value::Null));
    refused(&relay, Method::GET, &format!("events/{id}/body"), 404, "not_found").await;
    assert_eq!(audit(&relay).await.last().unwrap(), &entry("local", "subject.erased", "user_1"));
}

#[tokio::test]
async fn a_job_that_cannot_be_understood_is_refused_and_not_started() {
    let home = Home::new();
    let relay = home.start(&config("http://127.0.0.1:9/"));
    for (body, named) in [
        (json!({}), "filter"),
        (json!({ "filter": [] }), "object"),
        (json!({ "filter": null }), "null"),
        (json!([{}]), "object"),
        (json!({ "filter": {}, "dryrun": true }), "dryrun"),
        (json!({ "filter": { "where": "x" } }), "where"),
        (json!({ "filter": { "states": ["asleep"] } }), "asleep"),
        (json!({ "filter": { "states": "dead" } }), "string"),
        (json!({ "filter": { "target": "No Name" } }), "target"),
        (json!({ "filter": { "type": "" } }), "type"),
        (json!({ "filter": { "since": "yesterday" } }), "since"),
        (json!({ "filter": {}, "rate": "0/s" }), "rate"),
        (json!({ "filter": {}, "rate": 50 }), "string"),
        (json!({ "filter": {}, "dry_run": "yes" }), "bool"),
    ] {
        for path in ["retries", "discards"] {
            let message = refusal(post(&relay, path, &body).await, 400, "bad_request");
            assert!(message.contains(named), "{body}: {message}");
        }
    }
    assert_eq!(relay.get("jobs").await["rows"], json!([]));
    assert_eq!(audit(&relay).await, Vec::<[String; 3]>::new());
}
