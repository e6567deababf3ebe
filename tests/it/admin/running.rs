//! The relay itself: how it is, what went through in the last hour, how much it logs.

use reqwest::Method;
use serde_json::{Value, json};

use super::{answer, api, audit, entry, in_state, refusal, relay_answered, request};
use crate::support::clerk::Clerk;
use crate::support::relay::eventually;
use crate::support::stage::{Stage, on_both_stores};

on_both_stores! {
    health_says_what_runs_and_why_it_is_degraded
    the_last_hour_is_told_by_source_and_target
}

async fn health_says_what_runs_and_why_it_is_degraded(stage: Stage) {
    let (_receiver, relay) = relay_answered(&stage, 200).await;
    let health = relay.get("health").await;
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&health["ready"], &health["state"]), (&json!(true), &json!("ok")), "{health}");
    assert_eq!((&health["reasons"], &health["durability"]), (&json!([]), &json!("proven")));
    assert_eq!(health["fingerprint"].as_str().unwrap().len(), 12);
    let Some(server) = &stage.redis else { return };
    server.pause();
    let health = eventually("it is down", async || {
        let (status, health) = api(&relay, Method::GET, "health").await;
        (status == 200 && health["state"] == "down").then_some(health)
    })
    .await;
    assert_eq!((&health["ready"], &health["durability"]), (&json!(false), &Value::Null));
    assert_eq!(health["reasons"][0]["code"], "store_unreachable");
    server.resume();
}

async fn the_last_hour_is_told_by_source_and_target(stage: Stage) {
    let (_receiver, relay) = relay_answered(&stage, 200).await;
    let id = Clerk::new(&relay).send("user.created").await;
    in_state(&relay, &id, "delivered").await;
    let sum =
        |counts: &Value| counts.as_array().unwrap().iter().map(|count| count.as_u64().unwrap()).sum::<u64>();
    let stats = eventually("it is written down", async || {
        let stats = relay.get("stats").await;
        (stats["targets"]["app"].is_object() && stats["sources"]["clerk"].is_object()).then_some(stats)
    })
    .await;
    assert_eq!(stats["minutes"].as_array().unwrap().len(), 60);
    let (source, target) = (&stats["sources"]["clerk"], &stats["targets"]["app"]);
    assert_eq!((sum(&source["received"]), sum(&source["refused"]), sum(&source["duplicates"])), (1, 0, 0));
    assert_eq!((sum(&target["delivered"]), sum(&target["failed"]), sum(&target["dead"])), (1, 0, 0));
    let target = relay.get("targets/app").await;
    assert_eq!((&target["attempts"], &target["success_rate"]), (&json!(1), &json!(1.0)), "{target}");
    let latency = &target["latency_ms"];
    assert!(latency["p50"].as_f64().unwrap() <= latency["p95"].as_f64().unwrap(), "{latency}");
}

#[tokio::test]
async fn the_log_is_turned_while_the_relay_runs() {
    let stage = Stage::sqlite();
    let (_receiver, relay) = relay_answered(&stage, 200).await;
    assert_eq!(relay.get("log").await, json!({ "level": "info" }));
    let put = async |body: &str| {
        let request = request(&relay, Method::PUT, "/api/v1/log").header("content-type", "application/json");
        answer(request.body(body.to_owned())).await
    };
    for body in
        ["{\"level\":\"loud\"}", "{\"level\":\"INFO\"}", "{}", "{\"level\":\"debug\",\"for\":\"1h\"}", "[]"]
    {
        refusal(put(body).await, 400, "bad_request");
    }
    for _ in 0..2 {
        assert_eq!(put("{\"level\":\"warn\"}").await, (200, json!({ "level": "warn" })));
    }
    assert_eq!(relay.get("log").await, json!({ "level": "warn" }));
    assert_eq!(audit(&relay).await, [entry("local", "log.changed", "log")]);
    let id = Clerk::new(&relay).send("user.created").await;
    in_state(&relay, &id, "delivered").await;
    assert_eq!(put("{\"level\":\"debug\"}").await.0, 200);
    let later = Clerk::new(&relay).send("user.created").await;
    in_state(&relay, &later, "delivered").await;
    let (_, log) = relay.stop();
    assert!(log.contains(&later) && !log.contains(&id), "{log}");
}
