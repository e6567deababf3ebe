//! The configuration as people meet it: what a file is told to be wrong about, word for word, and what it comes to.
//!
//! The snapshots beside this file are the texts that people read. Secrets in these files are made up.

use std::time::Duration;

use clerk_relay::config::{self, Config, OnReplay, Scope, StoreUrl, TypeFilter};
use clerk_relay::lifecycle::breaker::BreakerPolicy;
use clerk_relay::lifecycle::{Ordering, Start};

/// A secret of 32 bytes, as a variable and as it must never be shown.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwxyzABCDEFGE=";
const OTHER: &str = "whsec_b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcjEyMzQ1Njc=";
pub const TOKEN: &str = "Zm9vYmFyYmF6cXV4-not-to-be-shown";

pub fn env(name: &str) -> Option<String> {
    match name {
        "SECRET" | "CLERK_WEBHOOK_SIGNING_SECRET" => Some(SECRET.into()),
        "OTHER" => Some(OTHER.into()),
        "TOKEN" => Some(TOKEN.into()),
        "QUOTED" => Some(format!("\"{SECRET}\"\n")),
        "CUT" => Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZI!o2L".into()),
        "BAD_URL" => Some("ftp://hidden-host/hidden".into()),
        "EMPTY" => Some(String::new()),
        "PORT" => Some("3000".into()),
        _ => None,
    }
}

fn load(text: &str) -> Config {
    match config::load(text, "relay.yaml", &env) {
        Ok((config, _)) => config,
        Err(mistakes) => panic!("{mistakes}"),
    }
}

pub fn mistakes(text: &str) -> String {
    match config::load(text, "relay.yaml", &env) {
        Ok(_) => panic!("no mistake in\n{text}"),
        Err(mistakes) => mistakes.to_string(),
    }
}

pub fn warnings(text: &str) -> String {
    match config::load(text, "relay.yaml", &env) {
        Ok((_, warnings)) => warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n"),
        Err(mistakes) => panic!("{mistakes}"),
    }
}

/// A file that is right, with `more` after it.
pub fn good(more: &str) -> String {
    format!("sources:\n  clerk:\n    signing_secrets: [\"${{SECRET}}\"]\n{more}")
}

/// A file that is right but for these lines of its only target.
fn target(lines: &str) -> String {
    let lines = lines.lines().map(|line| format!("    {line}\n")).collect::<String>();
    good(&format!("targets:\n  app:\n    url: http://localhost:3000/\n{lines}"))
}

/// Fails where `told` holds a secret of the files here.
pub fn assert_no_secret(told: &str) {
    for secret in [SECRET, OTHER, TOKEN, "MfKQ9r8G", "hidden-host", "not-to-be-shown", "pw-not-shown"] {
        assert!(!told.contains(secret), "{told}");
    }
}

macro_rules! snapshots {
    ($of:ident: $($claim:ident: $text:expr;)*) => {$(
        #[test]
        fn $claim() {
            let told = $of(&$text);
            $crate::config::assert_no_secret(&told);
            insta::assert_snapshot!(told);
        }
    )*};
}
pub(crate) use snapshots;

snapshots! { mistakes:
    an_empty_file_is_told_to_be_empty: "# nothing yet\n";
    a_list_is_no_configuration: "- listen: 0.0.0.0:8080\n";
    a_syntax_error_is_shown_in_its_line: "listen: 0.0.0.0:8080\nsources: [\ntargets: {}\n";
    an_unquoted_star_is_explained: target("events: [*, user.created]");
    a_second_document_is_refused: good("---\nlisten: 0.0.0.0:80\n");
    a_key_that_stands_twice_is_refused: good("listen: 0.0.0.0:80\nlisten: 0.0.0.0:81\n");
    a_merge_key_is_refused: good("store: {<<: {retention: 1d}}\n");
    an_unknown_key_is_refused_with_the_nearest_one: target("evnets: [user.created]");
    a_key_in_the_wrong_section_is_sent_to_its_own: good("retention: 3d\n");
    a_strange_key_is_refused_with_the_known_ones: good("log: {colour: red}\n");
    a_planned_key_says_so: target("rate: 100/s");
    a_store_url_with_slashes_is_refused: good("store: {url: sqlite:///data/relay.db}\n");
    a_duration_without_unit_is_refused: target("timeout: 15");
    a_negative_duration_is_refused: target("max_wait: -5m");
    a_duration_outside_its_bounds_is_refused: target("timeout: 15m");
    a_size_that_is_none_is_refused: good("limits: {store_size: lots}\n");
    a_number_outside_its_bounds_is_refused: target("concurrency: 0");
    a_misspelt_choice_is_refused_with_the_nearest_one: target("ordering: subjects");
    a_list_in_place_of_a_text_is_refused: target("timeout: [15s, 30s]");
    a_text_in_place_of_a_list_is_refused: target("events: user.*");
    a_text_in_place_of_a_section_is_refused: good("store: sqlite:relay.db\n");
    a_key_without_a_value_is_refused: target("timeout:");
    a_url_without_a_scheme_is_refused: good("targets: {app: {url: \"localhost:3000\"}}\n");
    a_url_without_a_host_is_refused: good("targets: {app: {url: \"http:///api/webhooks\"}}\n");
    a_url_from_a_variable_is_not_repeated: good("targets: {app: {url: \"${BAD_URL}\"}}\n");
    a_target_without_a_url_is_refused: good("targets:\n  app:\n    timeout: 5s\n");
    a_variable_that_is_not_set_is_named: target("headers:\n  X-One: Bearer ${MISSING} and ${EMPTY}");
    a_variable_that_is_not_closed_is_refused: target("user_agent: ${TOKEN");
    a_secret_in_a_file_that_is_not_there_is_refused: target("signing_secret: ${file:/run/secrets/absent}");
    a_cut_secret_is_refused_and_not_shown: good("targets: {app: {url: \"http://a/\", signing_secret: \"${CUT}\"}}\n");
    a_literal_secret_that_is_wrong_is_not_shown:
        format!("sources: {{clerk: {{signing_secrets: [{SECRET}, whsec_{SECRET}], path: clerk}}}} # old: {OTHER}\n");
    a_secret_under_an_unknown_key_is_not_shown: target(&format!("signing_secretz: {SECRET}"));
    a_secret_beside_a_syntax_error_is_not_shown:
        format!("sources:\n  clerk:\n    signing_secrets: [\"{SECRET}\"\n    path: /a\n");
    sources_are_required: "listen: 0.0.0.0:8080\n";
    a_source_is_required: "sources:\n  # none yet\n";
    signing_secrets_are_required: "sources:\n  clerk:\n    path: /a\n  empty:\n    signing_secrets: []\n";
    a_bad_name_is_refused: "sources:\n  Clerk Prod:\n    signing_secrets: [\"${SECRET}\"]\n";
    two_sources_on_one_path_are_refused:
        good("    path: /hook\n  other:\n    path: /hook\n    signing_secrets: [\"${SECRET}\"]\n");
    a_reserved_path_is_refused: good("    path: /health/live\n  b: {path: hook, signing_secrets: [\"${SECRET}\"]}\n");
    a_body_that_could_never_be_taken_is_refused: good("    body_max: 2 MiB\nlimits: {in_flight_bytes: 1 MiB}\n");
    an_unknown_source_of_a_target_is_refused: target("sources: [clrek]");
    a_target_fed_under_two_secrets_is_refused:
        format!("sources: {{a: {{signing_secrets: [\"${{SECRET}}\"]}}, b: {{signing_secrets: [\"${{OTHER}}\"]}}}}\ntargets: {{app: {{url: \"http://a/\"}}}}\n");
    both_ways_to_give_secrets_are_refused: target("signing_secret: ${SECRET}\nsigning_secrets: [\"${OTHER}\"]");
    patterns_that_are_none_are_refused: target("events: [user.**, \"user created\", \"\", \"{user,role}.*\"]");
    no_pattern_at_all_is_refused: target("events: []");
    headers_that_the_relay_sets_are_refused:
        target("headers: {Svix-Id: a, content-type: b, User-Agent: c, X-A: \"${TOKEN}\", x-a: d, \"a b\": e}");
    an_expiry_by_pattern_is_refused: target("expire: {\"email.*\": 5m, sms.created: soon}");
    a_retry_that_starts_above_its_maximum_is_refused: target("retry: {initial: 1h, max: 5m}");
    a_breaker_that_is_no_breaker_is_refused: target("breaker: on");
    a_breaker_out_of_its_bounds_is_refused: target("breaker: {failures: 0, ratio: 50, probe_evry: 1m}");
    a_ca_file_that_is_not_there_is_refused: target("ca_file: /nowhere/ca.pem");
    a_dedupe_shorter_than_retention_is_refused: good("store: {retention: 10d, dedupe: 5d}\n");
    an_open_admin_listener_without_tokens_is_refused: good("admin: {listen: 0.0.0.0:8081}\n");
    two_listeners_on_one_port_are_refused: good("admin: {listen: 127.0.0.1:8080}\n");
    an_admin_token_has_one_form: good(&format!(
        "admin:\n  tokens:\n    - {{name: a, token: \"${{TOKEN}}\", sha256: {}}}\n    - {{name: b}}\n    - {{name: c, token: hunter2, can: wirte}}\n    - {{sha256: abc}}\n",
        "ab".repeat(32)
    ));
    many_mistakes_are_told_at_once: format!("\
listen: 8080
sources:
  clerk:
    path: webhooks
    signing_secrets: [\"${{UNSET_SECRET}}\"]
    tolerance: 5 mins ago
    alow_from: [10.0.0.0/8]
  second:
    signing_secrets: {SECRET}
targets:
  app:
    url: https://user:pw-not-shown@example.com
    events: [usr.created]
    retry: {{multiplier: 0.5, attempts: many}}
    on_dead: hold
  App2:
    timeout: 1ms
store:
  retention: forever
log: {{level: loud, format: xml}}
alarms: {{}}
");
}

snapshots! { warnings:
    odd_things_that_work_are_warned_of: good(&format!("    instance_id: prod
  literal:
    signing_secrets: [{OTHER}, \"${{QUOTED}}\", {OTHER}]
    drop: [sesion.created]
targets:
  app:
    url: https://user:pw-not-shown@example.com
    signing_secret: ${{SECRET}}
    events: [user.create, usr.*, \"*\", user.created]
    expire: {{user.exploded: 5m}}
"));
}

#[test]
fn the_smallest_file_comes_to_the_defaults() {
    let config = load(&target(""));
    assert_eq!(config.listen.to_string(), "0.0.0.0:8080");
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:8081");
    assert!(config.admin.tokens.is_empty() && config.trusted_proxies.is_empty());
    assert_eq!(config.store.url, StoreUrl::Sqlite("relay.db".into()));
    assert_eq!(config.store.dedupe, Duration::from_secs(7 * 86400));
    assert_eq!(config.store.dead_letter_retention, Duration::from_secs(30 * 86400));
    assert_eq!((config.idle_timeout.as_secs(), config.shutdown_grace.as_secs()), (75, 20));
    assert_eq!(config.limits.in_flight_bytes, 32 << 20);
    assert_eq!(
        (config.limits.connections, config.limits.in_flight, config.limits.store_size_bytes),
        (4096, 512, 8 << 30)
    );
    assert_eq!((config.log.format, config.log.level), (None, tracing::Level::INFO));
    let source = &config.sources[0];
    assert_eq!((source.path.as_str(), source.body_max), ("/webhooks/clerk", 1 << 20));
    assert_eq!((source.tolerance.as_secs(), source.on_replay), (300, OnReplay::RetryDead));
    assert!(!source.drop.matches("user.created") && source.allows("192.0.2.1".parse().unwrap()));
    let target = &config.targets[0];
    assert!(matches!(target.events, TypeFilter::All));
    assert_eq!(target.policy.retry, clerk_relay::backoff::RetryPolicy::default());
    assert_eq!(target.policy.expire.keys().collect::<Vec<_>>(), ["email.created", "sms.created"]);
    assert_eq!((target.policy.max_wait.as_secs(), target.timeout.as_secs()), (14 * 86400, 15));
    assert_eq!((target.concurrency, target.ordering, target.start), (16, Ordering::None, Start::Now));
    assert_eq!(target.user_agent, concat!("clerk-relay/", env!("CARGO_PKG_VERSION")));
    assert_eq!(target.signing_secrets[&source.name][0].expose(), SECRET);
    assert_eq!(target.breaker, Some(BreakerPolicy::default()));
}

#[test]
fn everything_that_can_be_said_is_heard() {
    let config = load(include_str!("../fixtures/every-key.yaml"));
    assert_eq!(config.listen.to_string(), "127.0.0.1:3000");
    let [a, b] = config.sources.as_slice() else { panic!("two sources") };
    assert_eq!((a.signing_secrets.len(), a.tolerance.as_secs(), a.body_max), (2, 90, 64 << 10));
    assert!(a.allows("10.1.2.3".parse().unwrap()) && !a.allows("192.0.2.1".parse().unwrap()));
    assert_eq!((a.instance_id.as_deref(), a.on_replay), (Some("ins_1"), OnReplay::Ignore));
    assert!(a.drop.matches("session.ended") && !a.drop.matches("user.created"));
    let [app, own] = config.targets.as_slice() else { panic!("two targets") };
    assert_eq!(app.url.as_str(), "https://app.example.com:3000/hook");
    assert!(app.events.matches("user.created") && !app.events.matches("organization.deleted"));
    assert_eq!(app.signing_secrets.keys().collect::<Vec<_>>(), [&b.name]);
    assert_eq!(app.headers["authorization"], format!("Bearer {TOKEN}"));
    assert!(app.headers["authorization"].is_sensitive() && app.headers["x-n"] == "5");
    assert_eq!(
        (app.timeout.as_millis(), app.concurrency, app.user_agent.as_bytes()),
        (500, 3, &b"mine/1"[..])
    );
    assert_eq!((app.ordering, app.start), (Ordering::Subject, Start::Beginning));
    assert_eq!((app.policy.retry.attempts, app.policy.retry.jitter), (Some(7), 0.0));
    let breaker = BreakerPolicy { failures: 3, window: 10, ratio: 0.8, probe_every: Duration::from_secs(60) };
    assert_eq!((app.breaker, own.breaker), (Some(breaker), None));
    let expire: Vec<_> =
        app.policy.expire.iter().map(|(name, after)| (name.as_str(), after.as_secs())).collect();
    assert_eq!(expire, [("email.created", 300), ("session.ended", 3600)]);
    assert_eq!(own.signing_secrets.len(), 2, "its own secret serves every source");
    assert_eq!(own.signing_secrets[&b.name][0].expose(), SECRET);
    assert_eq!(config.store.dedupe, config.store.retention, "without a word, dedupe grows with retention");
    assert_eq!(
        config.admin.tokens.iter().map(|token| token.can).collect::<Vec<_>>(),
        [Scope::Write, Scope::Read]
    );
    assert!(config.admin.tokens[0].digest.matches(TOKEN) && !config.admin.tokens[1].digest.matches(TOKEN));
    assert_eq!(config.shutdown_grace, Duration::ZERO);
}

#[test]
fn two_sources_with_the_same_secrets_may_feed_one_target() {
    let text = "sources: {a: {signing_secrets: [\"${SECRET}\", \"${OTHER}\"]}, b: {signing_secrets: [\"${OTHER}\", \"${SECRET}\"]}}\ntargets: {app: {url: \"http://a/\"}}\n";
    assert_eq!(load(text).targets[0].signing_secrets.len(), 2);
}

#[test]
fn a_ca_file_has_to_hold_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    for (content, reason) in [
        ("", "holds no certificate"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "holds a certificate that cannot be used",
        ),
    ] {
        std::fs::write(&path, content).unwrap();
        let told = mistakes(&target(&format!("ca_file: {}", path.display())));
        assert!(told.contains(reason), "{told}");
    }
}

#[test]
fn the_debug_form_of_a_configuration_shows_no_secret() {
    let shown = format!("{:?}", load(&target("signing_secret: ${SECRET}\nheaders: {X-A: \"${TOKEN}\"}")));
    assert!(!shown.contains("MfKQ9r8G") && !shown.contains(TOKEN), "{shown}");
}
