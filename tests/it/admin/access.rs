//! Who may use the admin API.

use reqwest::Method;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{READ, WRITE, answer, config, config_with_tokens, request};
use crate::support::relay::{Home, Relay};

async fn asked(relay: &Relay, method: Method, path: &str, token: &str) -> u16 {
    let request = request(relay, method, path);
    let request = if token.is_empty() { request } else { request.bearer_auth(token) };
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_token_may_do_what_it_can_and_health_needs_none() {
    let home = Home::new();
    let digest: String = Sha256::digest(WRITE).iter().map(|b| format!("{b:02x}")).collect();
    let mut config = config_with_tokens("http://127.0.0.1:9/");
    config["admin"]["tokens"][1] = json!({ "name": "does", "sha256": digest, "can": "write" });
    let relay = home.start(&config);
    let (targets, pause) = ("/api/v1/targets", "/api/v1/targets/app/pause");
    for token in ["", "a token that nobody has"] {
        assert_eq!(asked(&relay, Method::GET, targets, token).await, 401);
        assert_eq!(asked(&relay, Method::GET, "/api/v1/no-such-route", token).await, 401);
        assert_eq!(asked(&relay, Method::POST, pause, token).await, 401);
    }
    assert_eq!(asked(&relay, Method::GET, targets, READ).await, 200);
    assert_eq!(asked(&relay, Method::HEAD, targets, READ).await, 200);
    assert_eq!(asked(&relay, Method::POST, pause, READ).await, 403);
    assert_eq!(asked(&relay, Method::DELETE, "/api/v1/targets/app", READ).await, 403);
    assert_eq!(asked(&relay, Method::GET, targets, WRITE).await, 200);
    assert_eq!(asked(&relay, Method::POST, pause, WRITE).await, 204);
    let reply = request(&relay, Method::GET, targets).send().await.unwrap();
    assert_eq!(reply.headers()["www-authenticate"], "Bearer");
    for path in ["/health/live", "/health/ready"] {
        let reply = request(&relay, Method::GET, path).send().await.unwrap();
        assert_eq!((reply.status().as_u16(), reply.text().await.unwrap().trim()), (200, "ok"), "{path}");
    }
    assert_eq!(asked(&relay, Method::GET, "/openapi.json", "").await, 200);
    let (_, log) = relay.stop();
    let said = |words: &[&str]| log.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(said(&["admin.target.paused", "does"]), "{log}");
    assert!(said(&["admin.refused", "unauthorized", "127.0.0.1"]), "{log}");
    assert!(said(&["admin.refused", "read_only"]), "{log}");
    for secret in [READ, WRITE, "a token that nobody has", &digest] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[tokio::test]
async fn without_tokens_a_page_of_another_site_reaches_nothing() {
    let home = Home::new();
    let relay = home.start(&config("http://127.0.0.1:9/"));
    for (header, value, status) in [
        ("host", "relay.evil.example", 403),
        ("origin", "https://evil.example", 403),
        ("origin", "null", 403),
        ("origin", "http://localhost:3000", 200),
        ("host", "localhost", 200),
    ] {
        let request = request(&relay, Method::GET, "/api/v1/targets").header(header, value);
        let (found, body) = answer(request).await;
        assert_eq!(found, status, "{header}: {value}: {body}");
        assert!(found == 200 || body["error"]["code"] == "not_local", "{body}");
    }
}

#[tokio::test]
async fn with_a_token_a_page_of_another_site_still_changes_nothing() {
    let home = Home::new();
    let relay = home.start(&config_with_tokens("http://127.0.0.1:9/"));
    let own = relay.admin.clone();
    for (origin, status) in [("https://evil.example", 403), ("null", 403), (&own, 204)] {
        let request = request(&relay, Method::POST, "/api/v1/targets/app/pause").bearer_auth(WRITE);
        let (found, body) = answer(request.header("origin", origin)).await;
        assert_eq!(found, status, "{origin}: {body}");
        assert!(found == 204 || body["error"]["code"] == "foreign_origin", "{body}");
    }
}

#[tokio::test]
async fn no_answer_is_kept_or_taken_for_a_page() {
    let home = Home::new();
    let relay = home.start(&config("http://127.0.0.1:9/"));
    for path in ["/api/v1/targets", "/api/v1/nothing", "/health/ready", "/openapi.json", "/nothing"] {
        let reply = request(&relay, Method::GET, path).send().await.unwrap();
        assert_eq!(reply.headers()["cache-control"], "no-store", "{path}");
        assert_eq!(reply.headers()["x-content-type-options"], "nosniff", "{path}");
    }
}
