//! The fingerprint of a configuration: equal for equal ones, however they are written; another as soon as a value is.

use std::collections::BTreeSet;

use clerk_relay::config;
use serde_json::{Value, json};

fn fingerprint(text: &str) -> String {
    let env = |name: &str| (name == "X").then(|| "filled in".to_owned());
    match config::load(text, "relay.yaml", &env) {
        Ok((config, _)) => config.fingerprint,
        Err(mistakes) => panic!("{mistakes}"),
    }
}

/// A configuration with something in every section.
fn whole() -> Value {
    json!({
        "listen": "0.0.0.0:8080",
        "trusted_proxies": ["10.0.0.0/8"],
        "idle_timeout": "70s",
        "shutdown_grace": "21s",
        "shutdown_delay": "1s",
        "sources": { "clerk": {
            "path": "/in", "signing_secrets": ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], "tolerance": "4m",
            "body_max": "512 KiB", "allow_from": ["10.1.0.0/16"], "instance_id": "ins_1", "on_replay": "ignore",
            "drop": ["session.*"],
        } },
        "targets": { "app": {
            "url": "https://app.example/hook?key=1", "events": ["user.*"], "sources": ["clerk"],
            "signing_secret": "whsec_QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB", "headers": { "X-A": "one" },
            "user_agent": "mine", "timeout": "9s", "concurrency": 3, "ordering": "subject", "start": "beginning",
            "retry": { "initial": "6s", "multiplier": 2, "max": "5h", "jitter": 0.1, "attempts": 9, "give_up_after": "2d" },
            "breaker": { "failures": 4, "window": 10, "ratio": 0.4, "probe_every": "20s" },
            "expire": { "email.created": "9m" }, "max_wait": "9d", "proxy": "http://proxy.example:3128",
        } },
        "store": {
            "url": "redis://me:word@redis.example/2", "retention": "6d", "dead_letter_retention": "20d", "dedupe": "8d",
            "durability": "managed", "wait_replicas": 1, "prefix": "mine", "lease": "16s",
        },
        "admin": { "listen": "127.0.0.1:9091", "tokens": [
            { "name": "ops", "token": "a-token-that-is-long-enough", "can": "read" },
        ] },
        "log": { "format": "json", "level": "debug" },
        "limits": { "connections": 99, "in_flight": 98, "in_flight_bytes": "16 MiB", "store_size": "1 GiB" },
    })
}

#[test]
fn equal_configurations_have_one_fingerprint_however_they_are_written() {
    let bare = "sources: {clerk: {signing_secrets: [whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw]}}";
    let spoken = "# the same\nlog:\n    level: info\nstore: {retention: 168h, url: 'sqlite:relay.db'}\n\
                  sources:\n  clerk:\n    signing_secrets:\n      - \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n";
    assert_eq!(fingerprint(bare), fingerprint(spoken));
    let targets = |targets: &str| format!("{bare}\ntargets: {{{targets}}}");
    let (a, b) = ("a: {url: 'http://a.example'}", "b: {url: 'http://b.example'}");
    assert_eq!(fingerprint(&targets(&format!("{a}, {b}"))), fingerprint(&targets(&format!("{b}, {a}"))));
    let header =
        |value: &str| targets(&format!("a: {{url: 'http://a.example', headers: {{X-A: '{value}'}}}}"));
    assert_eq!(fingerprint(&header("${X}")), fingerprint(&header("filled in")));
    let shown = fingerprint(bare);
    assert!(shown.len() == 12 && shown.bytes().all(|b| b.is_ascii_hexdigit()), "{shown}");
}

#[test]
fn every_value_that_changes_changes_the_fingerprint() {
    let other = [
        ("/listen", json!("0.0.0.0:8079")),
        ("/trusted_proxies/0", json!("10.0.0.0/9")),
        ("/idle_timeout", json!("71s")),
        ("/shutdown_grace", json!("22s")),
        ("/shutdown_delay", json!("2s")),
        ("/sources/clerk/path", json!("/other")),
        ("/sources/clerk/signing_secrets/0", json!("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSx")),
        ("/sources/clerk/tolerance", json!("3m")),
        ("/sources/clerk/body_max", json!("513 KiB")),
        ("/sources/clerk/allow_from/0", json!("10.2.0.0/16")),
        ("/sources/clerk/instance_id", json!("ins_2")),
        ("/sources/clerk/on_replay", json!("redeliver")),
        ("/sources/clerk/drop/0", json!("session.created")),
        ("/targets/app/url", json!("https://app.example/hook?key=2")),
        ("/targets/app/events/0", json!("*")),
        ("/targets/app/signing_secret", json!("whsec_QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFC")),
        ("/targets/app/headers/X-A", json!("two")),
        ("/targets/app/user_agent", json!("yours")),
        ("/targets/app/timeout", json!("8s")),
        ("/targets/app/concurrency", json!(4)),
        ("/targets/app/ordering", json!("none")),
        ("/targets/app/start", json!("now")),
        ("/targets/app/retry/initial", json!("7s")),
        ("/targets/app/retry/multiplier", json!(4)),
        ("/targets/app/retry/max", json!("4h")),
        ("/targets/app/retry/jitter", json!(0.3)),
        ("/targets/app/retry/attempts", json!(8)),
        ("/targets/app/retry/give_up_after", json!("1d")),
        ("/targets/app/breaker/failures", json!(3)),
        ("/targets/app/breaker", json!("off")),
        ("/targets/app/expire/email.created", json!("8m")),
        ("/targets/app/max_wait", json!("8d")),
        ("/targets/app/proxy", json!("http://proxy.example:3129")),
        ("/store/url", json!("redis://me:other@redis.example/2")),
        ("/store/retention", json!("5d")),
        ("/store/dead_letter_retention", json!("21d")),
        ("/store/dedupe", json!("9d")),
        ("/store/durability", json!("relaxed")),
        ("/store/wait_replicas", json!(2)),
        ("/store/prefix", json!("yours")),
        ("/store/lease", json!("17s")),
        ("/admin/listen", json!("127.0.0.1:9092")),
        ("/admin/tokens/0/name", json!("dev")),
        ("/admin/tokens/0/token", json!("another-token-that-is-long")),
        ("/admin/tokens/0/can", json!("metrics")),
        ("/log/format", json!("text")),
        ("/log/level", json!("trace")),
        ("/limits/connections", json!(97)),
        ("/limits/in_flight", json!(97)),
        ("/limits/in_flight_bytes", json!("17 MiB")),
        ("/limits/store_size", json!("2 GiB")),
    ];
    let mut seen = BTreeSet::from([fingerprint(&whole().to_string())]);
    for (place, value) in other {
        let mut changed = whole();
        let found =
            changed.pointer_mut(place).unwrap_or_else(|| panic!("{place} is not in the configuration"));
        assert_ne!(*found, value, "{place}");
        *found = value;
        assert!(seen.insert(fingerprint(&changed.to_string())), "{place} makes no difference");
    }
}
