//! The table of keys against what is written about it (the example, the README) and against what is read; and the two
//! laws of reading: no text makes it panic, and no mistake shows a secret.

use std::collections::BTreeSet;

use clerk_relay::config::keys::{self, Absent, Section};
use clerk_relay::config::{Paint, load};
use proptest::prelude::*;

use crate::config::{SECRET, TOKEN, env, mistakes};

/// The example as people get it, with nothing set but the signing secret.
fn example(name: &str) -> Option<String> {
    (name == "CLERK_WEBHOOK_SIGNING_SECRET").then(|| SECRET.into())
}

#[test]
fn the_example_works_with_only_the_signing_secret_set() {
    let text = include_str!("../../relay.yaml");
    let (config, warnings) =
        load(text, "relay.yaml", &example).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(warnings.len(), 0, "{warnings:?}");
    assert_eq!(config.targets.len(), 1);
}

#[test]
fn the_example_mentions_every_key() {
    let text = include_str!("../../relay.yaml");
    for key in keys::KEYS {
        assert!(
            text.contains(&format!("{}:", key.name)),
            "{}{} is not in relay.yaml",
            key.section.prefix(),
            key.name
        );
    }
}

#[test]
fn the_readme_holds_the_reference_of_all_keys() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let readme = std::fs::read_to_string(path).expect("README.md is there");
    let (_, rest) = readme.split_once("<!-- keys -->").expect("README.md has the mark <!-- keys -->");
    let (block, _) = rest.split_once("<!-- /keys -->").expect("README.md has the mark <!-- /keys -->");
    assert_eq!(
        block.trim(),
        keys::reference().trim(),
        "replace the block between the marks by the right side"
    );
}

#[test]
fn every_default_and_every_example_of_the_table_is_accepted() {
    for key in keys::KEYS {
        let values = match key.absent {
            Absent::Value(default) => vec![key.example, default],
            Absent::Required | Absent::Told(_) => vec![key.example],
        };
        for value in values {
            let text = with_key(key, value);
            let env = |name: &str| match name {
                "RELAY_ADMIN_TOKEN" | "APP_TOKEN" => Some(TOKEN.to_owned()),
                "RELAY_ADMIN_TOKEN_SHA256" => Some("ab".repeat(32)),
                _ => Some(SECRET.to_owned()),
            };
            let told = match load(&text, "relay.yaml", &env) {
                Ok(_) => Vec::new(),
                Err(mistakes) => mistakes.reasons().map(|(_, reason)| reason.to_owned()).collect(),
            };
            // Examples that name a file of the operator's: it is not on this machine.
            assert_eq!(told.is_empty(), !text.contains("/etc/ssl/"), "{told:?} in\n{text}");
            let is_absent = |reason: &String| reason.ends_with("cannot be read: there is no such file");
            assert!(told.iter().all(is_absent), "{told:?} in\n{text}");
        }
    }
}

/// A file that says `value` for `key` and is right otherwise.
fn with_key(key: &keys::Key, value: &str) -> String {
    let quoted = if value.starts_with(['[', '{', '"']) { value.to_owned() } else { format!("\"{value}\"") };
    let pair = format!("{}: {quoted}", key.name);
    let source = |more: &str| format!("sources: {{clerk: {{{more}}}}}\n");
    let secrets = "signing_secrets: [\"${SECRET}\"]";
    let url = "url: \"http://localhost/\"";
    match key.section {
        Section::Top if key.name == "sources" => format!("{pair}\n"),
        Section::Top => source(secrets) + &pair + "\n",
        Section::Source if key.name == "signing_secrets" => source(&pair),
        Section::Source => source(&format!("{secrets}, {pair}")),
        Section::Target if key.name == "url" => source(secrets) + &format!("targets: {{app: {{{pair}}}}}\n"),
        Section::Target => source(secrets) + &format!("targets: {{app: {{{url}, {pair}}}}}\n"),
        Section::Retry => source(secrets) + &format!("targets: {{app: {{{url}, retry: {{{pair}}}}}}}\n"),
        Section::Breaker => source(secrets) + &format!("targets: {{app: {{{url}, breaker: {{{pair}}}}}}}\n"),
        Section::Store if ["durability", "wait_replicas", "prefix", "lease", "tls"].contains(&key.name) => {
            source(secrets) + &format!("store: {{url: \"rediss://localhost\", {pair}}}\n")
        }
        Section::Store => source(secrets) + &format!("store: {{{pair}}}\n"),
        Section::Tls => {
            let other = match key.name {
                "cert_file" => ", key_file: /etc/ssl/relay-key.pem",
                "key_file" => ", cert_file: /etc/ssl/relay.pem",
                _ => "",
            };
            source(secrets) + &format!("store: {{url: \"rediss://localhost\", tls: {{{pair}{other}}}}}\n")
        }
        Section::Admin => source(secrets) + &format!("admin: {{{pair}}}\n"),
        Section::Token => {
            let rest = match key.name {
                "name" => "token: \"${RELAY_ADMIN_TOKEN}\"",
                "can" => "name: a, token: \"${RELAY_ADMIN_TOKEN}\"",
                _ => "name: a",
            };
            source(secrets) + &format!("admin: {{tokens: [{{{pair}, {rest}}}]}}\n")
        }
        Section::Log => source(secrets) + &format!("log: {{{pair}}}\n"),
        Section::Limits => source(secrets) + &format!("limits: {{{pair}}}\n"),
    }
}

#[test]
fn every_planned_key_is_refused_as_planned() {
    let titles: BTreeSet<_> = keys::PLANNED.iter().map(|(section, _)| section.title()).collect();
    assert_eq!(titles.len(), 2);
    for (section, name) in keys::PLANNED {
        let key = keys::Key { name, section: *section, ..keys::KEYS[0] };
        let told = mistakes(&with_key(&key, "x"));
        assert!(told.contains(&format!("`{name}` is not available in this version")), "{told}");
    }
}

/// Files that say much, with a secret wherever one can stand, and also where none should.
const LEAKY: &str = "\
listen: 127.0.0.1:8080 # SECRET
sources:
  clerk:
    signing_secrets:
      - SECRET
      - \"SECRET\"
    path: /hook
targets:
  app:
    url: https://user:SECRET@example.com/?key=SECRET
    signing_secret: 'SECRET'
    headers:
      Authorization: Bearer SECRET
      X-Multi: |
        one SECRET
        two SECRET
    proxy: http://SECRET:SECRET@proxy/
    secret: {nested: [SECRET, {deep: SECRET}]}
    timeout: 5s
store: {url: \"redis://user:SECRET@host,host\", tls: {key: SECRET}}
admin:
  tokens: [{name: ops, token: SECRET, can: write}, {name: two, sha256: \"SECRET\"}]
heartbeat_url: https://SECRET.example.com
";

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_mistake_shows_a_secret_however_the_file_is_broken(
        secret in "[A-Z][0-9][a-z][A-Za-z0-9+/]{21,40}", at in 0..LEAKY.len(), cut in 0usize..12,
        put in "[\\[\\]{}:\"'#*&|>,\\-\n ]{0,3}",
    ) {
        let cut_end = (at + cut).min(LEAKY.len());
        let broken = format!("{}{put}{}", &LEAKY[..at], &LEAKY[cut_end..]);
        // A cut through the mark itself would leave a part of it that is no secret any more.
        let text = broken.replace("SECRET", &secret);
        if let Err(mistakes) = load(&text, "relay.yaml", &env) {
            let told = mistakes.to_string();
            prop_assert!(!told.contains(&secret), "{told}");
            prop_assert!(!mistakes.render(Paint::Colour).contains(&secret));
        }
    }

    #[test]
    fn no_text_makes_reading_panic(text in "((sources|targets|store|admin|url|app|[a-z]{1,3}|\\$\\{X\\}|[ -~é…])(: |:\n  |\n|- |, )?){0,12}") {
        if let Err(mistakes) = load(&text, "relay.yaml", &env) {
            prop_assert!(mistakes.count() > 0 && !mistakes.to_string().is_empty());
        }
    }
}
