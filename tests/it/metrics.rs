//! `/metrics` of the real relay: what is counted and shown, that nobody can make series without end, that nothing secret
//! is in it, and that the examples and the documentation speak of what is really there.

mod telling;

use std::collections::{BTreeMap, BTreeSet};

use clerk_relay::clock::Timestamp;
use clerk_relay::store::figures;
use clerk_relay::store::readiness::{Health, Identity, Ready};
use clerk_relay::telemetry::meters::Meters;
use clerk_relay::telemetry::meters::family::{About, Kind};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::clerk::{Clerk, SECRET};
use crate::support::events;
use crate::support::receiver::{Receiver, Reply};
use crate::support::relay::{Home, Relay, client, eventually};

const METRICS: &str = "a-token-that-may-only-scrape";
const WRITE: &str = "a-token-that-may-do-everything";
const HEADER: &str = "bypass-value-not-to-be-shown";
const CODE: &str = "424242";

/// What one scrape said.
struct Scrape {
    text: String,
    /// Every sample by its name and labels, as they stand.
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    fn value(&self, sample: &str) -> Option<f64> {
        self.samples.get(sample).copied()
    }

    /// The names of all samples, without labels.
    fn names(&self) -> BTreeSet<&str> {
        self.samples.keys().map(|sample| sample.split('{').next().unwrap_or_default()).collect()
    }

    /// The names of all metrics, as their `# TYPE` lines have them.
    fn families(&self) -> BTreeSet<&str> {
        let types = self.text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
        types.map(|line| line.split(' ').next().unwrap_or_default()).collect()
    }
}

async fn scrape(relay: &Relay) -> Scrape {
    let reply = client().get(format!("{}/metrics", relay.admin)).bearer_auth(METRICS).send().await.unwrap();
    assert_eq!(reply.status(), 200);
    let kind = reply.headers()["content-type"].to_str().unwrap();
    assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
    let text = reply.text().await.unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let mut samples = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let is_new = samples.insert(name.to_owned(), value.parse().unwrap()).is_none();
        assert!(is_new, "{name} is there twice");
    }
    Scrape { text, samples }
}

async fn post(relay: &Relay, path: &str) {
    let url = format!("{}/api/v1/{path}", relay.admin);
    let reply = client().request(Method::POST, &url).bearer_auth(WRITE).send().await.unwrap();
    assert!(reply.status().is_success(), "{url}: {}", reply.status());
}

/// A relay with one target of each kind, to which something of each kind has happened.
async fn lively() -> (Home, Vec<Receiver>, Relay) {
    let app = Receiver::start(|_, _| Reply::status(204)).await;
    let down = Receiver::start(|_, _| Reply::status(500)).await;
    let home = Home::new();
    let relay = home.start(&json!({
        "sources": { "clerk": { "signing_secrets": [SECRET] } },
        "targets": {
            "app": { "url": app.url, "headers": { "x-bypass": HEADER } },
            "down": { "url": down.url, "concurrency": 1, "retry": { "attempts": 1 }, "breaker": { "failures": 3 } },
            "held": { "url": app.url },
            "picky": { "url": app.url, "events": ["organization.*"] },
        },
        "admin": { "listen": "127.0.0.1:0", "tokens": [
            { "name": "prometheus", "token": METRICS, "can": "metrics" },
            { "name": "ops", "token": WRITE, "can": "write" },
        ] },
    }));
    post(&relay, "targets/held/pause").await;
    let clerk = Clerk::new(&relay);
    let body = format!(r#"{{"type":"email.created","data":{{"id":"ema_1","otp_code":"{CODE}"}}}}"#);
    let first = clerk.send_body(body.clone().into_bytes()).await;
    for _ in 0..5 {
        clerk.send("user.created").await;
    }
    let now = clerk_relay::clock::Clock::system().now();
    assert_eq!(clerk.post(&first, now, body.into_bytes()).await.unwrap(), 200);
    assert_eq!(
        clerk.post("msg_old", now.minus(std::time::Duration::from_secs(900)), Vec::new()).await.unwrap(),
        401
    );
    eventually("three are dead and the breaker is open", async || {
        let seen = scrape(&relay).await;
        let all = seen.value(
            r#"clerk_relay_deliveries_ended_total{target="app",state="delivered",type="user.created"}"#,
        ) == Some(5.0);
        let dead = seen.value(r#"clerk_relay_deliveries{target="down",state="dead"}"#) == Some(3.0);
        (all && dead && seen.value(r#"clerk_relay_breaker_open{target="down"}"#) == Some(1.0)).then_some(())
    })
    .await;
    (home, vec![app, down], relay)
}

#[tokio::test]
async fn what_happened_is_counted_and_what_is_so_is_shown() {
    let (_home, _receivers, relay) = lively().await;
    let seen = scrape(&relay).await;
    for (sample, value) in [
        (r#"clerk_relay_events_received_total{source="clerk",type="user.created"}"#, 5.0),
        (r#"clerk_relay_events_received_total{source="clerk",type="email.created"}"#, 1.0),
        (r#"clerk_relay_events_duplicate_total{source="clerk"}"#, 1.0),
        (r#"clerk_relay_events_dropped_total{source="clerk"}"#, 0.0),
        (r#"clerk_relay_events_unwanted_total{source="clerk"}"#, 0.0),
        (r#"clerk_relay_requests_refused_total{source="clerk",reason="stale_timestamp"}"#, 1.0),
        (r#"clerk_relay_ingest_duration_seconds_count{source="clerk"}"#, 7.0),
        (r#"clerk_relay_attempts_total{target="app",outcome="delivered"}"#, 6.0),
        (r#"clerk_relay_attempts_total{target="app",outcome="timeout"}"#, 0.0),
        (r#"clerk_relay_attempts_total{target="down",outcome="status"}"#, 3.0),
        (r#"clerk_relay_attempt_duration_seconds_count{target="app"}"#, 6.0),
        (r#"clerk_relay_delivery_duration_seconds_count{target="app"}"#, 6.0),
        (r#"clerk_relay_deliveries_ended_total{target="picky",state="skipped",type="user.created"}"#, 5.0),
        (r#"clerk_relay_dead_letters_total{target="down",reason="exhausted"}"#, 3.0),
        (r#"clerk_relay_dead_letters_total{target="down",reason="expired"}"#, 0.0),
        (r#"clerk_relay_breaker_turns_total{target="down",turned="opened"}"#, 1.0),
        (r#"clerk_relay_breaker_turns_total{target="app",turned="opened"}"#, 0.0),
        (r#"clerk_relay_breaker_open{target="app"}"#, 0.0),
        (r#"clerk_relay_target_paused{target="held"}"#, 1.0),
        (r#"clerk_relay_target_paused{target="app"}"#, 0.0),
        (r#"clerk_relay_target_orphaned{target="app"}"#, 0.0),
        (r#"clerk_relay_deliveries{target="held",state="queued"}"#, 6.0),
        (r#"clerk_relay_store_durability{durability="relaxed"}"#, 0.0),
        ("clerk_relay_store_events", 6.0),
        ("clerk_relay_store_up", 1.0),
        ("clerk_relay_ready", 1.0),
        ("clerk_relay_refusals_lost_total", 0.0),
        ("clerk_relay_leases_taken_over_total", 0.0),
        (r#"clerk_relay_store_call_failures_total{operation="ingest",reason="full"}"#, 0.0),
    ] {
        assert_eq!(seen.value(sample), Some(value), "{sample}\n{}", seen.text);
    }
    let heard = seen.value(r#"clerk_relay_last_event_received_timestamp_seconds{source="clerk"}"#).unwrap();
    let oldest = seen.value(r#"clerk_relay_oldest_unfinished_timestamp_seconds{target="held"}"#).unwrap();
    let started = seen.value("clerk_relay_start_time_seconds").unwrap();
    assert!(started <= oldest && oldest <= heard, "{started} {oldest} {heard}");
    assert_eq!(seen.value(r#"clerk_relay_oldest_unfinished_timestamp_seconds{target="app"}"#), None);
    assert!(
        seen.value(r#"clerk_relay_store_call_duration_seconds_count{operation="ingest"}"#).unwrap() >= 7.0
    );
}

#[tokio::test]
async fn a_restart_still_knows_when_a_source_was_last_heard_of() {
    let home = Home::new();
    let config = json!({
        "sources": { "clerk": { "signing_secrets": [SECRET] }, "quiet": { "signing_secrets": [SECRET] } },
        "admin": { "listen": "127.0.0.1:0", "tokens": [{ "name": "p", "token": METRICS, "can": "metrics" }] },
    });
    let relay = home.start(&config);
    Clerk::new(&relay).send("user.created").await;
    let sample =
        |source: &str| format!("clerk_relay_last_event_received_timestamp_seconds{{source=\"{source}\"}}");
    let heard = scrape(&relay).await.value(&sample("clerk")).unwrap();
    relay.stop();
    let again = scrape(&home.start(&config)).await;
    let recalled = again.value(&sample("clerk")).unwrap();
    assert!((recalled - heard).abs() < 5.0, "{recalled} {heard}");
    assert_eq!(again.value(&sample("quiet")), None, "never heard of is not silent since 1970");
}

#[tokio::test]
async fn types_that_clerk_does_not_have_are_one_series() {
    let home = Home::new();
    let relay = home.start(&json!({
        "sources": { "clerk": { "signing_secrets": [SECRET] } },
        "admin": { "listen": "127.0.0.1:0", "tokens": [{ "name": "p", "token": METRICS, "can": "metrics" }] },
    }));
    let clerk = Clerk::new(&relay);
    for number in 0..100 {
        let body = events::body(&format!("made.up{number}"), &format!("user_{number}"));
        clerk.send_body(body.into_bytes()).await;
    }
    clerk.send_body(b"not JSON".to_vec()).await;
    let seen = scrape(&relay).await;
    let received: Vec<_> = seen
        .samples
        .iter()
        .filter(|(name, _)| name.starts_with("clerk_relay_events_received_total"))
        .collect();
    assert_eq!(received.len(), 2, "{received:?}");
    let of = |label: &str| format!("clerk_relay_events_received_total{{source=\"clerk\",type=\"{label}\"}}");
    assert_eq!((seen.value(&of("other")), seen.value(&of("unknown"))), (Some(100.0), Some(1.0)));
    assert!(!seen.text.contains("made.up") && !seen.text.contains("user_1"));
}

#[tokio::test]
async fn nothing_secret_is_shown_and_a_metrics_token_opens_nothing_else() {
    let (_home, receivers, relay) = lively().await;
    let seen = scrape(&relay).await;
    let url = &receivers[0].url;
    for secret in
        [SECRET, METRICS, WRITE, HEADER, CODE, "whsec_", "msg_", "evt_", "ema_1", "user_", url.as_str()]
    {
        assert!(!seen.text.contains(secret), "{secret} is in\n{}", seen.text);
    }
    let ask = async |path: &str, token: Option<&str>| {
        let request = client().get(format!("{}{path}", relay.admin));
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask("/metrics", None).await, 401);
    assert_eq!(ask("/metrics", Some("a-token-that-nobody-has")).await, 401);
    assert_eq!(ask("/metrics", Some(WRITE)).await, 200);
    for path in ["/api/v1/events", "/api/v1/targets", "/api/v1/refusals"] {
        assert_eq!(ask(path, Some(METRICS)).await, 403, "{path}");
    }
}

/// Everything that a relay may show, in order.
fn abouts() -> Vec<&'static About> {
    let identity =
        Identity { version: "0", fingerprint: "000000000000".into(), started_at: Timestamp::from_secs(0) };
    let health = Health { identity, ready: Ready::Yes, reasons: Vec::new(), overview: None };
    let (meters, reading) = (Meters::default(), figures::of(&health));
    meters.about().iter().chain(reading.entries()).copied().collect()
}

/// The names of our metrics that a text mentions.
fn mentioned(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_part(c)).filter(|word| word.starts_with("clerk_relay_")).collect()
}

#[tokio::test]
async fn the_examples_and_the_documentation_name_what_a_relay_shows() {
    let (_home, _receivers, relay) = lively().await;
    let url = format!("{}/api/v1/dead-letters?limit=1", relay.admin);
    let reply = client().get(&url).bearer_auth(WRITE).send().await.unwrap();
    let page: Value = serde_json::from_slice(&reply.bytes().await.unwrap()).unwrap();
    let id = page["rows"][0]["event_id"].as_str().unwrap();
    post(&relay, &format!("deliveries/{id}/down/retry")).await;
    let seen = scrape(&relay).await;
    let shown = seen.names();
    for (name, text) in [
        ("alerts.yml", include_str!("../../examples/monitoring/alerts.yml")),
        ("alerts_test.yml", include_str!("../../examples/monitoring/alerts_test.yml")),
        ("dashboard.json", include_str!("../../examples/monitoring/dashboard.json")),
    ] {
        let mentioned = mentioned(text);
        assert!(mentioned.len() > 5, "{name} mentions only {mentioned:?}");
        for metric in mentioned {
            assert!(shown.contains(metric), "{name}: {metric} is not shown\n{}", seen.text);
        }
    }
    let documented: BTreeSet<&str> = abouts().iter().map(|about| about.name).collect();
    assert_eq!(documented, seen.families());
    for sample in seen.samples.keys() {
        assert!(documented.iter().any(|name| sample.starts_with(name)), "{sample}");
    }
}

#[test]
fn the_documentation_holds_every_metric() {
    let mut table = String::from("| metric | kind | labels | what |\n|---|---|---|---|\n");
    for about in abouts() {
        let kind = match about.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
            Kind::Info => "info",
        };
        let labels: Vec<String> = about.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, labels, help) = (about.exposed(), labels.join(", "), about.help);
        table.push_str(&format!("| `{name}` | {kind} | {labels} | {help} |\n"));
    }
    let documentation = include_str!("../../docs/metrics.md");
    let block = documentation.split("<!-- metrics -->").nth(1).unwrap_or_default();
    let block = block.split("<!-- /metrics -->").next().unwrap_or_default();
    assert_eq!(block.trim(), table.trim(), "replace the block between the marks by the right side");
}
