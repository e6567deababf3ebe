//! The store is away, or does not take the audit: nothing hangs, nothing is done or shown by halves.

use reqwest::Method;
use serde_json::json;

use super::{api, in_state, refused, relay_answered, request};
use crate::support::clerk::Clerk;
use crate::support::relay::eventually;
use crate::support::stage::Stage;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_store_is_away_every_route_answers_503_and_when() {
    let stage = Stage::redis().await;
    let (_receiver, relay) = relay_answered(&stage, 200).await;
    let server = stage.redis.as_ref().unwrap();
    server.pause();
    let routes = [
        (Method::GET, "events"),
        (Method::GET, "targets"),
        (Method::GET, "events/msg_1"),
        (Method::GET, "jobs"),
        (Method::POST, "targets/app/pause"),
        (Method::DELETE, "subjects/user_1"),
    ];
    let asked = routes.map(|(method, path)| {
        let request = request(&relay, method, &format!("/api/v1/{path}"));
        async move { (path, request.send().await.unwrap()) }
    });
    for (path, reply) in futures_util::future::join_all(asked).await {
        assert_eq!(reply.status(), 503, "{path}");
        assert_eq!(reply.headers()["retry-after"], "5", "{path}");
        let body: serde_json::Value = serde_json::from_slice(&reply.bytes().await.unwrap()).unwrap();
        assert_eq!(body["error"]["code"], "store", "{path}");
    }
    server.resume();
    eventually("it is back", async || (api(&relay, Method::GET, "targets").await.0 == 200).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_entry_nothing_is_shown_and_nothing_is_done() {
    let stage = Stage::redis().await;
    let (receiver, relay) = relay_answered(&stage, 500).await;
    let id = Clerk::new(&relay).send("user.created").await;
    in_state(&relay, &id, "dead").await;
    // What the audit would be a list in is another kind of value: reads of everything else still work.
    stage.redis.as_ref().unwrap().command(&["SET", "{relay}:audit", "no list"]).await;
    for (method, path) in [
        (Method::GET, format!("events/{id}?reveal=true")),
        (Method::GET, format!("events/{id}/body")),
        (Method::POST, format!("deliveries/{id}/app/retry")),
        (Method::POST, format!("deliveries/{id}/app/discard")),
        (Method::POST, "targets/app/pause".to_owned()),
        (Method::DELETE, "subjects/user_1".to_owned()),
    ] {
        refused(&relay, method, &path, 503, "store").await;
    }
    assert_eq!(relay.get("targets/app").await["status"], "active");
    assert_eq!(relay.get("jobs").await["rows"], json!([]));
    in_state(&relay, &id, "dead").await;
    assert_eq!(receiver.requests().len(), 1);
}
