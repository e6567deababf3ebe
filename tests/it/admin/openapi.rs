//! The OpenAPI document against the running relay: schemathesis reads it, asks every route what it describes and what it
//! forbids, and compares the answers, all its checks on.

use std::process::{Command, Stdio};

use reqwest::Method;
use serde_json::{Value, json};

use super::{READ, WRITE, answer, config_with_tokens, request};
use crate::support::clerk::SECRET;
use crate::support::receiver::{Receiver, Reply};
use crate::support::relay::{Relay, client, command, eventually};
use crate::support::stage::{Stage, on_both_stores};

on_both_stores! {
    the_relay_does_what_its_document_says
}

/// Cases of each route and phase; the seed makes them the same in every run.
const CASES_MAX: &str = "20";
const SEED: &str = "7";

/// A relay with a target that takes everything, one that takes nothing, and one that is paused.
async fn staged(stage: &Stage) -> (Receiver, Relay) {
    let receiver = Receiver::start(|request, _| {
        Reply::status(if request.header("x-app") == "broken" { 500 } else { 200 })
    })
    .await;
    let mut config = config_with_tokens(&receiver.url);
    let mut broken = config["targets"]["app"].clone();
    broken["headers"] = json!({ "x-app": "broken" });
    config["targets"]["broken"] = broken;
    let relay = stage.start(&config);
    (receiver, relay)
}

async fn get(relay: &Relay, path: &str) -> Value {
    let (status, body) =
        answer(request(relay, Method::GET, &format!("/api/v1/{path}")).bearer_auth(READ)).await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

async fn the_relay_does_what_its_document_says(stage: Stage) {
    let (_receiver, relay) = staged(&stage).await;
    let url = format!("{}/webhooks/clerk", relay.ingress);
    for event_type in ["user.created", "sms.created", "organization.created"] {
        let sent = command().args(["send", event_type, "--to", &url, "--secret", SECRET]).output().unwrap();
        assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stdout));
    }
    assert_ne!(client().post(&url).send().await.unwrap().status(), 200);
    eventually("dead letters", async || {
        (get(&relay, "dead-letters").await["rows"].as_array().unwrap().len() == 3).then_some(())
    })
    .await;
    // Ids that exist, so that routes are tried beyond their 404; schemathesis makes up others as well.
    let event = get(&relay, "events").await["rows"][0]["id"].as_str().unwrap().to_owned();
    let known = format!("[parameters]\nevent = \"{event}\"\ntarget = \"broken\"\n");
    let file = stage.home.file("schemathesis.toml");
    std::fs::write(&file, known).unwrap();
    let document = format!("{}/openapi.json", relay.admin);
    let report = tokio::task::spawn_blocking(move || {
        let program = std::env::var("CLERK_RELAY_SCHEMATHESIS").unwrap_or_else(|_| "schemathesis".to_owned());
        let mut run = Command::new(&program);
        run.args(["--config-file", &file.display().to_string(), "run", &document]);
        run.args(["--header", &format!("Authorization: Bearer {WRITE}"), "--checks", "all"]);
        run.args(["--max-examples", CASES_MAX, "--seed", SEED, "--generation-database", "none"]);
        // An answer without an end cannot be compared with anything; `stream.rs` tests it.
        run.args(["--exclude-path", "/api/v1/stream"]);
        run.args(["--no-color", "--warnings", "off", "--request-timeout", "30"]);
        run.current_dir(file.parent().unwrap()).stdin(Stdio::null());
        run.output().unwrap_or_else(|error| {
            panic!(
                "`{program}` does not start ({error}): run scripts/test, which installs it, or pip install \
                 schemathesis and name it in CLERK_RELAY_SCHEMATHESIS"
            )
        })
    })
    .await
    .unwrap();
    assert!(report.status.success(), "{}", String::from_utf8_lossy(&report.stdout));
    assert!(!relay.log().contains("panicked"), "{}", relay.log());
}

#[tokio::test]
async fn every_route_is_described() {
    let stage = Stage::sqlite();
    let (_receiver, relay) = staged(&stage).await;
    let (status, document) = answer(request(&relay, Method::GET, "/openapi.json")).await;
    assert_eq!((status, &document["openapi"]), (200, &json!("3.1.0")));
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let paths = document["paths"].as_object().unwrap();
    for path in ["events", "events/{event}", "deliveries/{event}/{target}/retry", "targets/{target}"] {
        assert!(paths.contains_key(&format!("/api/v1/{path}")), "{path}");
    }
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().unwrap() {
            let told = |name: &str| operation[name].as_str().is_some_and(|text| !text.is_empty());
            assert!(told("summary") && told("operationId"), "{method} {path}");
            let answers = operation["responses"].as_object().unwrap();
            assert!(answers.keys().any(|status| status.starts_with('2')), "{method} {path}");
            assert!(!path.starts_with("/api") || answers.contains_key("401"), "{method} {path}");
        }
    }
}
