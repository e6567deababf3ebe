//! The admin API of the real relay: who may use it, what can be asked, what can be done, and that everything else is
//! refused in words.

use clerk_relay::cli::sample;
use clerk_relay::clock::Clock;
use clerk_relay::secret::SigningSecret;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::clerk::{Clerk, SECRET};
use crate::support::receiver::{Receiver, Reply};
use crate::support::relay::{Home, Relay, client, eventually};

const READ: &str = "a token that may only look";
const WRITE: &str = "a token that may do things";

/// A configuration with the target `app`, which dies of its first failure.
fn config(url: &str) -> Value {
    json!({
        "sources": { "clerk": { "signing_secrets": [SECRET] } },
        "targets": { "app": { "url": url, "breaker": "off", "retry": { "attempts": 1 } } },
    })
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

/// Asserts that a request is refused with this status and code, and returns the message.
async fn refused(relay: &Relay, method: Method, path: &str, status: u16, code: &str) -> String {
    let (found, body) = api(relay, method.clone(), path).await;
    assert_eq!((found, &body["error"]["code"]), (status, &json!(code)), "{method} {path}: {body}");
    body["error"]["message"].as_str().unwrap().to_owned()
}

/// A relay that answers every event with `status`, and what keeps it going.
async fn relay_answered(status: u16) -> (Receiver, Home, Relay) {
    let receiver = Receiver::start(move |_, _| Reply::status(status)).await;
    let home = Home::new();
    let relay = home.start(&config(&receiver.url));
    (receiver, home, relay)
}

async fn in_state(relay: &Relay, id: &str, state: &str) {
    eventually(&format!("{id} is {state}"), async || {
        (relay.get(&format!("events/{id}")).await["deliveries"][0]["state"] == state).then_some(())
    })
    .await;
}

/// The `svix_id` of every row.
fn svix_ids(page: &Value) -> Vec<String> {
    page["rows"].as_array().unwrap().iter().map(|row| row["svix_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_token_may_do_what_it_can_and_health_needs_none() {
    let home = Home::new();
    let digest: String = Sha256::digest(WRITE.replace(' ', "-")).iter().map(|b| format!("{b:02x}")).collect();
    let mut config = config("http://127.0.0.1:9/");
    config["admin"] = json!({ "listen": "127.0.0.1:0", "tokens": [
        { "name": "looks", "token": READ.replace(' ', "-"), "can": "read" },
        { "name": "does", "sha256": digest, "can": "write" },
    ] });
    let relay = home.start(&config);
    let ask = async |method: Method, path: &str, token: &str| {
        let request = request(&relay, method, path);
        let token = token.replace(' ', "-");
        let reply = if token.is_empty() { request } else { request.bearer_auth(token) }.send().await.unwrap();
        reply.status().as_u16()
    };
    let (targets, pause) = ("/api/v1/targets", "/api/v1/targets/app/pause");
    for token in ["", "a token that nobody has"] {
        assert_eq!(ask(Method::GET, targets, token).await, 401);
        assert_eq!(ask(Method::GET, "/api/v1/no-such-route", token).await, 401);
        assert_eq!(ask(Method::POST, pause, token).await, 401);
    }
    assert_eq!(ask(Method::GET, targets, READ).await, 200);
    assert_eq!(ask(Method::HEAD, targets, READ).await, 200);
    assert_eq!(ask(Method::POST, pause, READ).await, 403);
    assert_eq!(ask(Method::DELETE, "/api/v1/targets/app", READ).await, 403);
    assert_eq!(ask(Method::GET, targets, WRITE).await, 200);
    assert_eq!(ask(Method::POST, pause, WRITE).await, 204);
    let reply = request(&relay, Method::GET, targets).send().await.unwrap();
    assert_eq!(reply.headers()["www-authenticate"], "Bearer");
    for path in ["/health/live", "/health/ready"] {
        let reply = request(&relay, Method::GET, path).send().await.unwrap();
        assert_eq!((reply.status().as_u16(), reply.text().await.unwrap().trim()), (200, "ok"), "{path}");
    }
    let (_, log) = relay.stop();
    assert!(log.lines().any(|line| line.contains("admin.paused") && line.contains("does")), "{log}");
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
async fn every_list_is_paged_to_its_end_and_never_twice() {
    let (_receiver, _home, relay) = relay_answered(500).await;
    let clerk = Clerk::new(&relay);
    let mut sent = Vec::new();
    for _ in 0..7 {
        sent.push(clerk.send("user.created").await);
        assert_ne!(
            client().post(format!("{}/webhooks/clerk", relay.ingress)).send().await.unwrap().status(),
            200
        );
    }
    for id in &sent {
        in_state(&relay, id, "dead").await;
    }
    eventually("all are refused on record", async || (relay.list("refusals").await.len() == 7).then_some(()))
        .await;
    for list in ["events", "deliveries", "dead-letters", "refusals"] {
        let mut rows = Vec::new();
        let (mut cursor, mut pages) = (String::new(), 0);
        loop {
            let page = relay.get(&format!("{list}?limit=3{cursor}")).await;
            rows.extend(page["rows"].as_array().unwrap().iter().map(|row| row.to_string()));
            pages += 1;
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!((rows.len(), pages), (7, 3), "{list}");
        let whole = relay.list(list).await.iter().map(Value::to_string).collect::<Vec<_>>();
        assert_eq!(rows, whole, "{list}");
    }
    let newest_first: Vec<_> = sent.iter().rev().cloned().collect();
    assert_eq!(svix_ids(&relay.get("events").await), newest_first);
    let next = relay.get("events?limit=1").await["next"].as_str().unwrap().to_owned();
    refused(&relay, Method::GET, &format!("deliveries?cursor={next}"), 400, "bad_request").await;
}

#[tokio::test]
async fn the_filters_of_each_list_find_what_they_name() {
    let (_receiver, _home, relay) = relay_answered(500).await;
    let clerk = Clerk::new(&relay);
    let body = |event_type: &str, user: &str| {
        json!({ "type": event_type, "data": { "id": user } }).to_string().into_bytes()
    };
    let one = clerk.send_body(body("user.created", "user_one")).await;
    let other = clerk.send_body(body("user.updated", "user_other")).await;
    for id in [&one, &other] {
        in_state(&relay, id, "dead").await;
    }
    let accepted = relay.get(&format!("events/{other}")).await["accepted_at"].as_str().unwrap().to_owned();
    for (filter, found) in [
        ("type=user.updated", vec![&other]),
        ("subject=user_one", vec![&one]),
        ("subject=user_one&type=user.updated", vec![]),
        ("source=clerk", vec![&other, &one]),
        ("source=nobody", vec![]),
        ("until=2020-01-01T00:00:00Z", vec![]),
        ("since=2020-01-01T00:00:00Z", vec![&other, &one]),
    ] {
        let page = relay.get(&format!("events?{filter}")).await;
        assert_eq!(svix_ids(&page).iter().collect::<Vec<_>>(), found, "{filter}");
    }
    for list in ["deliveries", "dead-letters"] {
        for (filter, rows) in [
            ("target=app", 2),
            ("target=nobody", 0),
            ("type=user.created", 1),
            ("subject=user_other", 1),
            (&format!("since={accepted}&subject=user_other"), 1),
            ("until=2020-01-01T00:00:00Z", 0),
        ] {
            assert_eq!(relay.list(&format!("{list}?{filter}")).await.len(), rows, "{list}?{filter}");
        }
    }
    for (states, rows) in [("dead", 2), ("delivered,waiting", 0), ("delivered,dead", 2)] {
        assert_eq!(relay.list(&format!("deliveries?state={states}")).await.len(), rows, "{states}");
    }
}

#[tokio::test]
async fn what_cannot_be_understood_is_refused_as_json_by_its_name() {
    let home = Home::new();
    let relay = home.start(&config("http://127.0.0.1:9/"));
    for (path, name) in [
        ("events?limit=x", "limit"),
        ("events?state=dead", "state"),
        ("events?target=app", "target"),
        ("events?subject=", "subject"),
        ("events?type=", "type"),
        ("events?since=yesterday", "since"),
        ("events?source=No+Name", "source"),
        ("events?cursor=7", "cursor"),
        ("events?colour=red", "colour"),
        ("deliveries?source=clerk", "source"),
        ("deliveries?state=sleeping", "state"),
        ("dead-letters?state=dead", "state"),
        ("refusals?since=2020-01-01T00:00:00Z", "since"),
        ("refusals?cursor=x", "cursor"),
        ("targets?limit=1", "limit"),
        ("events/evt_1?limit=1", "limit"),
    ] {
        let message = refused(&relay, Method::GET, path, 400, "bad_request").await;
        assert!(message.contains(name), "{path}: {message}");
    }
    refused(&relay, Method::GET, "events/%FF", 400, "bad_request").await;
    refused(&relay, Method::POST, "targets/No%20Name/pause", 400, "bad_request").await;
    refused(&relay, Method::GET, "no-such-route", 404, "not_found").await;
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
    refused(&relay, Method::GET, "events/evt_00000000000000000000", 404, "not_found").await;
    refused(&relay, Method::GET, "events/msg_nobody", 404, "not_found").await;
    let now = Clock::system().now();
    let (id, secret) = (sample::new_id(now), SigningSecret::parse(SECRET).unwrap().0);
    for source in ["clerk", "second"] {
        let url = format!("{}/webhooks/{source}", relay.ingress).parse().unwrap();
        let body = sample::body("user.created").unwrap();
        let reply = sample::request(&client(), &url, &secret, &id, now, body).unwrap().send().await.unwrap();
        assert_eq!(reply.status(), 200);
    }
    let message = refused(&relay, Method::GET, &format!("events/{id}"), 409, "conflict").await;
    refused(&relay, Method::POST, &format!("deliveries/{id}/app/retry"), 409, "conflict").await;
    for row in relay.list("events").await {
        let own = row["id"].as_str().unwrap();
        assert!(message.contains(own), "{message}");
        assert_eq!(relay.get(&format!("events/{own}")).await["source"], row["source"]);
    }
}

#[tokio::test]
async fn a_retry_goes_where_there_is_something_to_retry() {
    let receiver = Receiver::start(|_, before| match before {
        0 => Reply::status(500),
        1 => Reply::status(200),
        _ => Reply::Hang,
    })
    .await;
    let home = Home::new();
    let relay = home.start(&config(&receiver.url));
    let id = Clerk::new(&relay).send("user.created").await;
    let retry = format!("deliveries/{id}/app/retry");
    for (before, ended) in [("dead", 1), ("delivered", 2)] {
        in_state(&relay, &id, before).await;
        assert_eq!(api(&relay, Method::POST, &retry).await.0, 202, "{before}");
        eventually("it is attempted again", async || (receiver.requests().len() > ended).then_some(())).await;
    }
    refused(&relay, Method::POST, &retry, 409, "conflict").await;
    let message =
        refused(&relay, Method::POST, &format!("deliveries/{id}/nobody/retry"), 404, "not_found").await;
    assert!(message.contains("target"), "{message}");
    refused(&relay, Method::POST, "deliveries/msg_nobody/app/retry", 404, "not_found").await;
}

#[tokio::test]
async fn a_paused_target_takes_nothing_until_it_is_resumed() {
    let (receiver, _home, relay) = relay_answered(200).await;
    let post = async |path: &str| api(&relay, Method::POST, path).await.0;
    for _ in 0..2 {
        assert_eq!(post("targets/app/pause").await, 204);
    }
    let targets = relay.get("targets").await;
    assert_eq!(targets["targets"][0]["status"], "paused");
    assert_eq!(targets["targets"][0]["paused_by"], "operator");
    let id = Clerk::new(&relay).send("user.created").await;
    assert_eq!(relay.get("targets").await["targets"][0]["queued"], 1);
    assert!(receiver.requests().is_empty());
    assert_eq!(post("targets/app/resume").await, 204);
    in_state(&relay, &id, "delivered").await;
    refused(&relay, Method::POST, "targets/nobody/pause", 404, "not_found").await;
    refused(&relay, Method::POST, "targets/nobody/resume", 404, "not_found").await;
}

#[tokio::test]
async fn only_a_target_that_has_left_the_configuration_is_forgotten() {
    let (_receiver, home, relay) = relay_answered(200).await;
    let message = refused(&relay, Method::DELETE, "targets/app", 409, "conflict").await;
    assert!(message.contains("configured"), "{message}");
    refused(&relay, Method::DELETE, "targets/nobody", 404, "not_found").await;
    relay.stop();
    let mut without = config("http://127.0.0.1:9/");
    without["targets"] = json!({});
    let relay = home.start(&without);
    assert_eq!(relay.get("targets").await["targets"][0]["status"], "orphan");
    assert_eq!(api(&relay, Method::DELETE, "targets/app").await.0, 204);
    assert_eq!(relay.get("targets").await["targets"], json!([]));
    refused(&relay, Method::DELETE, "targets/app", 404, "not_found").await;
    let (_, log) = relay.stop();
    assert!(log.contains("admin.forgotten"), "{log}");
}
