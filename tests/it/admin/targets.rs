//! What an operator does to a target, and what is told of it.

use reqwest::Method;
use serde_json::json;

use super::{api, audit, config, entry, in_state, refused, relay_answered};
use crate::support::clerk::Clerk;
use crate::support::stage::{Stage, on_both_stores};

on_both_stores! {
    a_paused_target_takes_nothing_until_it_is_resumed
    only_a_target_that_has_left_the_configuration_is_forgotten
}

async fn a_paused_target_takes_nothing_until_it_is_resumed(stage: Stage) {
    let (receiver, relay) = relay_answered(&stage, 200).await;
    let post = async |path: &str| api(&relay, Method::POST, path).await.0;
    for _ in 0..2 {
        assert_eq!(post("targets/app/pause").await, 204);
    }
    let target = relay.get("targets/app").await;
    assert_eq!((&target["status"], &target["paused_by"]), (&json!("paused"), &json!("operator")));
    assert_eq!(relay.get("targets").await["targets"], json!([target]));
    let id = Clerk::new(&relay).send("user.created").await;
    assert_eq!(relay.get("targets/app").await["queued"], 1);
    assert!(receiver.requests().is_empty());
    for path in ["targets/app/resume", "targets/app/resume", "targets/app/close-breaker"] {
        assert_eq!(post(path).await, 204, "{path}");
    }
    in_state(&relay, &id, "delivered").await;
    for path in ["pause", "resume", "close-breaker"] {
        refused(&relay, Method::POST, &format!("targets/nobody/{path}"), 404, "not_found").await;
    }
    let entries = [entry("local", "target.resumed", "app"), entry("local", "target.paused", "app")];
    assert_eq!(audit(&relay).await, entries, "what was so already is not written down");
}

async fn only_a_target_that_has_left_the_configuration_is_forgotten(stage: Stage) {
    let (_receiver, relay) = relay_answered(&stage, 500).await;
    let id = Clerk::new(&relay).send("user.created").await;
    in_state(&relay, &id, "dead").await;
    let message = refused(&relay, Method::DELETE, "targets/app", 409, "configured").await;
    assert!(message.contains("configured"), "{message}");
    refused(&relay, Method::DELETE, "targets/nobody", 404, "not_found").await;
    relay.stop();
    let mut without = config("http://127.0.0.1:9/");
    without["targets"] = json!({});
    let relay = stage.start(&without);
    assert_eq!(relay.get("targets").await["targets"][0]["status"], "orphan");
    assert_eq!(api(&relay, Method::DELETE, "targets/app?dry_run=true").await, (200, json!({ "cancels": 1 })));
    assert_eq!(api(&relay, Method::DELETE, "targets/app").await.0, 204);
    assert_eq!(relay.get("targets").await["targets"], json!([]));
    refused(&relay, Method::DELETE, "targets/app", 404, "not_found").await;
    assert_eq!(audit(&relay).await, [entry("local", "target.forgotten", "app")]);
    let (_, log) = relay.stop();
    assert!(log.contains("admin.target.forgotten"), "{log}");
}
