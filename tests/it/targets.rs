//! The real relay against targets that refuse, hang, drip, redirect, flood and lie: each with its outcome, none of them
//! in another's way, the relay's memory flat.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::clerk::{Clerk, SECRET};
use crate::support::receiver::{Receiver, Reply};
use crate::support::relay::{Home, Relay, eventually};

/// A configuration with one target that is tried again soon and gives up after `attempts`.
fn config(url: &str, attempts: u32) -> Value {
    json!({
        "sources": { "clerk": { "signing_secrets": [SECRET] } },
        "targets": { "app": {
            "url": url, "timeout": "1s",
            "retry": { "initial": "50ms", "multiplier": 1, "jitter": 0, "attempts": attempts },
        } },
    })
}

/// The event's only delivery, once it has ended or waits after an attempt.
async fn settled(relay: &Relay, svix_id: &str, states: &[&str]) -> Value {
    eventually(&format!("{svix_id} is {states:?}"), async || {
        let event = relay.get(&format!("events/{svix_id}")).await;
        let delivery = event["deliveries"][0].clone();
        states.contains(&delivery["state"].as_str().unwrap()).then_some(delivery)
    })
    .await
}

/// Sends one event to a receiver with this behaviour and returns what became of it after two attempts.
async fn dead_after_two(reply: Reply) -> Value {
    let receiver = Receiver::start(move |_, _| reply.clone()).await;
    let home = Home::new();
    let relay = home.start(&config(&receiver.url, 2));
    let id = Clerk::new(&relay).send("user.created").await;
    settled(&relay, &id, &["dead"]).await
}

fn attempts(delivery: &Value) -> &Vec<Value> {
    delivery["attempts_kept"].as_array().unwrap()
}

#[tokio::test]
async fn a_target_that_refuses_connections_is_tried_again() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let home = Home::new();
    let relay = home.start(&config(&format!("http://{addr}/hook"), 2));
    let id = Clerk::new(&relay).send("user.created").await;
    let delivery = settled(&relay, &id, &["dead"]).await;
    assert_eq!(delivery["reason"], "exhausted");
    assert_eq!(attempts(&delivery).len(), 2);
    assert!(attempts(&delivery).iter().all(|attempt| attempt["error"] == "connect"));
    assert_eq!(delivery["last_hint"]["code"], "refused_local");
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_a_dns_error() {
    let home = Home::new();
    let relay = home.start(&config("http://no-such-host.invalid/hook", 1));
    let id = Clerk::new(&relay).send("user.created").await;
    let delivery = settled(&relay, &id, &["dead"]).await;
    assert_eq!((&delivery["last_error"], &delivery["last_hint"]["code"]), (&json!("dns"), &json!("dns")));
}

#[tokio::test]
async fn plain_text_behind_https_is_a_tls_error() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut hello = [0; 1];
            socket.read_exact(&mut hello).await.unwrap();
            socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
            let _ = socket.read_to_end(&mut Vec::new()).await; // closing first would be a reset
        }
    });
    let home = Home::new();
    let relay = home.start(&config(&format!("https://{addr}/hook"), 1));
    let id = Clerk::new(&relay).send("user.created").await;
    let delivery = settled(&relay, &id, &["dead"]).await;
    assert_eq!(
        (&delivery["last_error"], &delivery["last_hint"]["code"]),
        (&json!("tls"), &json!("speaks_http"))
    );
}

#[tokio::test]
async fn a_certificate_counts_only_where_its_issuer_is_trusted() {
    let (receiver, pem) = Receiver::start_tls(|_, _| Reply::status(200)).await;
    let home = Home::new();
    std::fs::write(home.file("ca.pem"), pem).unwrap();
    let mut config = config(&receiver.url, 1);
    config["targets"]["trusting"] = json!({ "url": receiver.url, "ca_file": home.file("ca.pem") });
    let relay = home.start(&config);
    let id = Clerk::new(&relay).send("user.created").await;
    eventually("both have ended", async || {
        let event = relay.get(&format!("events/{id}")).await;
        let of = |target: &str| {
            let rows = event["deliveries"].as_array().unwrap();
            rows.iter().find(|row| row["target"] == target).unwrap().clone()
        };
        let (wary, trusting) = (of("app"), of("trusting"));
        (wary["state"] == "dead" && trusting["state"] == "delivered").then(|| {
            assert_eq!(
                (&wary["last_error"], &wary["last_hint"]["code"]),
                (&json!("tls"), &json!("tls_unknown_issuer"))
            );
        })
    })
    .await;
    assert_eq!(receiver.requests().len(), 1);
}

#[tokio::test]
async fn a_target_behind_a_proxy_is_reached_through_it_alone() {
    let proxy = Receiver::start(|_, _| Reply::status(200)).await;
    let home = Home::new();
    let mut config = config("http://no-such-host.invalid/hook", 1);
    config["targets"]["app"]["proxy"] = json!(proxy.url);
    let relay = home.start(&config);
    let id = Clerk::new(&relay).send("user.created").await;
    settled(&relay, &id, &["delivered"]).await;
    assert_eq!(proxy.requests()[0].path, "http://no-such-host.invalid/hook");
}

#[tokio::test]
async fn a_target_that_hangs_times_out() {
    let delivery = dead_after_two(Reply::Hang).await;
    assert!(attempts(&delivery).iter().all(|attempt| attempt["error"] == "timeout"), "{delivery}");
    assert!(attempts(&delivery).iter().all(|attempt| attempt["took_ms"].as_u64().unwrap() >= 1000));
    assert_eq!(delivery["last_hint"]["code"], "timeout");
}

#[tokio::test]
async fn a_reply_that_breaks_off_is_a_reset() {
    for reply in [Reply::BreakOff, Reply::Close] {
        let delivery = dead_after_two(reply).await;
        assert!(attempts(&delivery).iter().all(|attempt| attempt["error"] == "reset"), "{delivery}");
    }
}

#[tokio::test]
async fn a_flood_of_headers_is_too_large() {
    let delivery = dead_after_two(Reply::HeaderFlood).await;
    assert!(attempts(&delivery).iter().all(|attempt| attempt["error"] == "too_large"), "{delivery}");
}

#[tokio::test]
async fn a_2xx_whose_body_drips_for_ever_is_delivered() {
    let receiver = Receiver::start(|_, _| Reply::Drip).await;
    let home = Home::new();
    let relay = home.start(&config(&receiver.url, 2));
    let id = Clerk::new(&relay).send("user.created").await;
    let delivery = settled(&relay, &id, &["delivered", "dead"]).await;
    assert_eq!(delivery["state"], "delivered");
    assert_eq!(attempts(&delivery)[0]["reply_truncated"], true);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Receiver::start(|_, _| Reply::status(200)).await;
    let location = format!("location: {}", elsewhere.url);
    let receiver = Receiver::start(move |_, _| Reply::Status(301, vec![location.clone()])).await;
    let home = Home::new();
    let relay = home.start(&config(&receiver.url, 2));
    let id = Clerk::new(&relay).send("user.created").await;
    let delivery = settled(&relay, &id, &["dead"]).await;
    assert_eq!((&delivery["last_status"], &delivery["last_error"]), (&json!(301), &json!("status")));
    assert_eq!(elsewhere.requests().len(), 0);
}

#[tokio::test]
async fn retry_after_in_both_forms_delays_the_next_attempt() {
    let in_an_hour = httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(600));
    for header in ["retry-after: 600".to_owned(), format!("retry-after: {in_an_hour}")] {
        let receiver = Receiver::start(move |_, _| Reply::Status(429, vec![header.clone()])).await;
        let home = Home::new();
        let relay = home.start(&config(&receiver.url, 5));
        let id = Clerk::new(&relay).send("user.created").await;
        let delivery = settled(&relay, &id, &["waiting"]).await;
        let time = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let wait = time(&delivery["due_at"]).duration_since(time(&attempts(&delivery)[0]["at"])).as_secs();
        assert!((590..=605).contains(&wait), "waits {wait} s");
    }
}

#[tokio::test]
async fn gone_ends_the_delivery_and_pauses_the_target_until_it_is_resumed() {
    let receiver = Receiver::start(|_, _| Reply::status(410)).await;
    let home = Home::new();
    let relay = home.start(&config(&receiver.url, 5));
    let clerk = Clerk::new(&relay);
    let id = clerk.send("user.created").await;
    assert_eq!(settled(&relay, &id, &["dead"]).await["reason"], "gone");
    eventually("the target is paused", async || {
        let overview = relay.get("targets").await;
        (overview["targets"][0]["status"] == "paused").then_some(())
    })
    .await;
    clerk.send("user.updated").await;
    assert_eq!(receiver.requests().len(), 1, "a paused target gets nothing");
    assert_eq!(relay.get("targets").await["targets"][0]["queued"], 1, "and keeps everything");

    let resumed = reqwest_post(&format!("{}/api/v1/targets/app/resume", relay.admin)).await;
    assert_eq!(resumed, 204);
    eventually("the kept event goes out", async || (receiver.requests().len() == 2).then_some(())).await;
}

#[tokio::test]
async fn abort_message_ends_the_delivery_at_once_but_only_on_a_failure() {
    let header = vec!["webhook-delivery: abort-message".to_owned()];
    for (status, state) in [(500, "dead"), (200, "delivered")] {
        let header = header.clone();
        let receiver = Receiver::start(move |_, _| Reply::Status(status, header.clone())).await;
        let home = Home::new();
        let relay = home.start(&config(&receiver.url, 5));
        let id = Clerk::new(&relay).send("user.created").await;
        let delivery = settled(&relay, &id, &["delivered", "dead"]).await;
        assert_eq!(delivery["state"], state);
        assert_eq!(attempts(&delivery).len(), 1);
    }
}

#[tokio::test]
async fn a_pause_stops_what_was_claimed_already_and_keeps_it() {
    let receiver = Receiver::start(|_, _| Reply::Slow(Duration::from_millis(400), 200)).await;
    let home = Home::new();
    let mut config = config(&receiver.url, 5);
    config["targets"]["app"]["concurrency"] = json!(16);
    let relay = home.start(&config);
    let clerk = Clerk::new(&relay);
    for _ in 0..60 {
        clerk.send("user.created").await; // 60 leases at most, 16 attempts at once
    }
    eventually("attempts are under way", async || (!receiver.requests().is_empty()).then_some(())).await;
    assert_eq!(reqwest_post(&format!("{}/api/v1/targets/app/pause", relay.admin)).await, 204);
    let target = eventually("nothing is in flight", async || {
        let target = relay.get("targets").await["targets"][0].clone();
        (target["in_flight"] == 0).then_some(target)
    })
    .await;
    let attempted = receiver.requests().len();
    assert_eq!(target["queued"].as_u64().unwrap() as usize, 60 - attempted, "{target}");
    assert!(attempted < 60, "the pause came too late to stop anything");
    assert_eq!(reqwest_post(&format!("{}/api/v1/targets/app/resume", relay.admin)).await, 204);
    eventually("the rest goes out", async || (receiver.requests().len() == 60).then_some(())).await;
    assert!(receiver.requests().iter().all(|request| request.header("relay-attempt") == "1"));
}

#[tokio::test]
async fn a_dead_letter_is_retried_by_hand_with_a_new_budget() {
    let receiver = Receiver::start(|_, before| Reply::status(if before < 2 { 500 } else { 200 })).await;
    let home = Home::new();
    let relay = home.start(&config(&receiver.url, 2));
    let id = Clerk::new(&relay).send("user.created").await;
    settled(&relay, &id, &["dead"]).await;
    assert_eq!(relay.list("dead-letters").await.len(), 1);
    let retried = reqwest_post(&format!("{}/api/v1/deliveries/{id}/app/retry", relay.admin)).await;
    assert_eq!(retried, 202);
    let delivery = settled(&relay, &id, &["delivered"]).await;
    assert_eq!(delivery["attempts"], 3);
    assert_eq!(receiver.requests()[2].header("relay-replay"), "true");
    assert_eq!(receiver.requests()[2].header("relay-attempt"), "3");
}

#[tokio::test]
async fn a_hundred_megabytes_of_reply_leave_the_memory_flat() {
    let receiver = Receiver::start(|_, _| Reply::Flood(100 * 1024 * 1024)).await;
    let home = Home::new();
    let relay = home.start(&config(&receiver.url, 2));
    let clerk = Clerk::new(&relay);
    let first = clerk.send("user.created").await;
    settled(&relay, &first, &["delivered"]).await;
    let before = relay.resident_bytes();
    for _ in 0..20 {
        let id = clerk.send("user.created").await;
        assert_eq!(settled(&relay, &id, &["delivered"]).await["attempts_kept"][0]["reply_truncated"], true);
    }
    let grown = relay.resident_bytes().saturating_sub(before);
    assert!(grown < 32 * 1024 * 1024, "2 GB of replies left {grown} bytes behind");
}

#[tokio::test]
async fn large_events_are_claimed_by_their_size() {
    let receiver = Receiver::start(|_, _| Reply::Hang).await;
    let home = Home::new();
    let mut config = config(&receiver.url, 5);
    config["sources"]["clerk"]["body_max"] = json!("8 MiB");
    config["targets"]["app"]["timeout"] = json!("60s");
    let relay = home.start(&config);
    let clerk = Clerk::new(&relay);
    for _ in 0..4 {
        clerk.send_body(vec![b' '; 5 << 20]).await;
    }
    eventually("the first is attempted", async || (receiver.requests().len() == 1).then_some(())).await;
    let target = &relay.get("targets").await["targets"][0];
    assert_eq!(
        (&target["in_flight"], &target["queued"]),
        (&json!(1), &json!(3)),
        "one alone fills the budget"
    );
}

#[tokio::test]
async fn a_target_that_hangs_does_not_keep_another_waiting() {
    let bad = Receiver::start(|_, _| Reply::Hang).await;
    let good = Receiver::start(|_, _| Reply::status(200)).await;
    let home = Home::new();
    let relay = home.start(&json!({
        "sources": { "clerk": { "signing_secrets": [SECRET] } },
        "targets": {
            "bad": { "url": bad.url, "timeout": "60s", "concurrency": 1 },
            "good": { "url": good.url, "concurrency": 1 },
        },
    }));
    let clerk = Clerk::new(&relay);
    for _ in 0..20 {
        clerk.send("user.created").await;
    }
    eventually("all twenty reach the good target", async || (good.requests().len() == 20).then_some(()))
        .await;
    assert_eq!(bad.requests().len(), 1);
}

#[tokio::test]
async fn every_event_and_every_hard_body_arrives_byte_for_byte() {
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut bodies = Vec::new();
    for folder in ["src/cli/samples", "tests/fixtures/hard-bodies"] {
        for file in std::fs::read_dir(fixtures.join(folder)).unwrap() {
            bodies.push(std::fs::read(file.unwrap().path()).unwrap());
        }
    }
    assert_eq!(bodies.len(), 49 + 14);
    let receiver = Receiver::start(|_, _| Reply::status(200)).await;
    let home = Home::new();
    let relay = home.start(&config(&receiver.url, 1));
    let clerk = Clerk::new(&relay);
    let mut sent = std::collections::HashMap::new();
    for body in bodies {
        sent.insert(clerk.send_body(body.clone()).await, body);
    }
    let received = eventually("all have arrived", async || {
        let received = receiver.requests();
        (received.len() == sent.len()).then_some(received)
    })
    .await;
    let secret = clerk_relay::secret::SigningSecret::parse(SECRET).unwrap().0;
    for request in received {
        let id = request.header("svix-id");
        assert_eq!(request.body, sent[id], "{id}");
        let at = clerk_relay::clock::Timestamp::from_secs(request.header("svix-timestamp").parse().unwrap());
        let signature = clerk_relay::signature::sign(std::slice::from_ref(&secret), id, at, &request.body);
        assert_eq!(request.header("svix-signature"), signature);
    }
}

#[tokio::test]
async fn the_request_is_what_an_unchanged_app_expects() {
    let receiver = Receiver::start(|_, before| Reply::status(if before == 0 { 500 } else { 200 })).await;
    let home = Home::new();
    let mut config = config(&receiver.url, 5);
    config["targets"]["app"]["headers"] = json!({ "x-vercel-protection-bypass": "let-me-in" });
    let relay = home.start(&config);
    let id = Clerk::new(&relay).send("user.created").await;
    settled(&relay, &id, &["delivered"]).await;
    let [first, second] = &receiver.requests()[..] else { panic!("two attempts") };
    for request in [first, second] {
        assert_eq!((request.path.as_str(), request.header("svix-id")), ("/hook", id.as_str()));
        for name in ["id", "timestamp", "signature"] {
            assert_eq!(request.header(&format!("svix-{name}")), request.header(&format!("webhook-{name}")));
        }
        assert_eq!(request.header("content-type"), "application/json");
        assert_eq!(request.header("accept"), "*/*");
        assert_eq!(request.header("content-length"), request.body.len().to_string());
        assert_eq!(request.header("x-vercel-protection-bypass"), "let-me-in");
        assert_eq!(request.header("relay-source"), "clerk");
        assert!(request.header("user-agent").starts_with("clerk-relay/"));
        assert_eq!(request.header("relay-sequence").len(), 20);
        for absent in
            ["authorization", "cookie", "x-forwarded-for", "transfer-encoding", "relay-replay", "expect"]
        {
            assert_eq!(request.header(absent), "", "{absent} is sent");
        }
    }
    assert_eq!((first.header("relay-attempt"), second.header("relay-attempt")), ("1", "2"));
}

async fn reqwest_post(url: &str) -> u16 {
    crate::support::relay::client().post(url).send().await.unwrap().status().as_u16()
}
