//! What cannot be understood is refused as JSON, by its name, whatever layer found it.

use clerk_relay::cli::sample;
use clerk_relay::clock::Clock;
use clerk_relay::secret::SigningSecret;
use reqwest::Method;
use serde_json::json;

use super::{answer, config, refused, request};
use crate::support::clerk::SECRET;
use crate::support::relay::{Home, client};

#[tokio::test]
async fn what_cannot_be_understood_is_refused_as_json_by_its_name() {
    let home = Home::new();
    let relay = home.start(&config("http://127.0.0.1:9/"));
    let long = format!("events?where={}", "x".repeat(501));
    for (path, name) in [
        ("events?limit=x", "limit"),
        ("events?limit=0", "limit"),
        ("events?limit=501", "limit"),
        ("events?limit=", "limit"),
        ("events?limit=1&limit=2", "limit"),
        ("events?state=dead", "state"),
        ("events?target=app", "target"),
        ("events?subject=", "subject"),
        ("events?type=", "type"),
        ("events?since=yesterday", "since"),
        ("events?since=2020-01-01T00:00:00", "since"),
        ("events?until=2020-13-01T00:00:00Z", "until"),
        ("events?source=No+Name", "source"),
        ("events?cursor=7", "cursor"),
        ("events?cursor=evt_1", "cursor"),
        ("events?where=", "where"),
        ("events?where=/data/id", "where"),
        (&long, "where"),
        ("events?colour=red", "colour"),
        ("deliveries?state=sleeping", "state"),
        ("deliveries?state=", "state"),
        ("deliveries?state=dead,,waiting", "state"),
        ("deliveries?where=x", "where"),
        ("dead-letters?state=dead", "state"),
        ("refusals?since=2020-01-01T00:00:00Z", "since"),
        ("refusals?cursor=x", "cursor"),
        ("audit?cursor=evt_000000000000000000000000", "cursor"),
        ("audit?actor=me", "actor"),
        ("targets?limit=1", "limit"),
        ("targets/app?limit=1", "limit"),
        ("stats?minutes=5", "minutes"),
        ("events/evt_1?limit=1", "limit"),
        ("events/evt_1?reveal=yes", "true"),
        ("events/evt_1/body?reveal=true", "reveal"),
    ] {
        let message = refused(&relay, Method::GET, path, 400, "bad_request").await;
        assert!(message.contains(name), "{path}: {message}");
    }
    refused(&relay, Method::GET, "events/%FF", 400, "bad_request").await;
    refused(&relay, Method::POST, "targets/No%20Name/pause", 400, "bad_request").await;
    refused(&relay, Method::POST, "targets/app/pause?until=now", 400, "bad_request").await;
    refused(&relay, Method::DELETE, "targets/app?dry_run=perhaps", 400, "bad_request").await;
    refused(&relay, Method::GET, "no-such-route", 404, "not_found").await;
    refused(&relay, Method::GET, "targets/nobody", 404, "not_found").await;
    refused(&relay, Method::POST, "events", 405, "method_not_allowed").await;
    refused(&relay, Method::GET, "targets/app/pause", 405, "method_not_allowed").await;
    for (method, path, status) in [(Method::GET, "/", 404), (Method::POST, "/health/ready", 405)] {
        let (found, body) = answer(request(&relay, method, path)).await;
        assert_eq!(found, status);
        assert!(body["error"]["code"].is_string(), "{body}");
    }
    let reply = request(&relay, Method::DELETE, "/api/v1/events").send().await.unwrap();
    assert_eq!(reply.headers()["allow"], "GET,HEAD");
}

#[tokio::test]
async fn an_event_that_is_not_there_is_404_and_an_ambiguous_one_409() {
    let home = Home::new();
    let mut config = config("http://127.0.0.1:9/");
    config["sources"]["second"] = json!({ "signing_secrets": [SECRET] });
    let relay = home.start(&config);
    for path in ["events/evt_00000000000000000000", "events/msg_nobody", "events/msg_nobody/body"] {
        refused(&relay, Method::GET, path, 404, "not_found").await;
    }
    let now = Clock::system().now();
    let (id, secret) = (sample::new_id(now), SigningSecret::parse(SECRET).unwrap().0);
    for source in ["clerk", "second"] {
        let url = format!("{}/webhooks/{source}", relay.ingress).parse().unwrap();
        let body = sample::body("user.created").unwrap();
        let reply = sample::request(&client(), &url, &secret, &id, now, body).unwrap().send().await.unwrap();
        assert_eq!(reply.status(), 200);
    }
    let message = refused(&relay, Method::GET, &format!("events/{id}"), 409, "ambiguous").await;
    refused(&relay, Method::POST, &format!("deliveries/{id}/app/retry"), 409, "ambiguous").await;
    for row in relay.list("events").await {
        let own = row["id"].as_str().unwrap();
        assert!(message.contains(own), "{message}");
        assert_eq!(relay.get(&format!("events/{own}")).await["source"], row["source"]);
    }
}
