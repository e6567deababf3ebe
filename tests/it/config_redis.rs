//! The configuration of a Redis store as people meet it: what an address may say, which keys go with it, and that its
//! password is shown nowhere. What is an address and what is none stands beside the parser.

use std::path::Path;
use std::time::Duration;

use clerk_relay::cli::check;
use clerk_relay::config::redis_url::{Topology, Transport};
use clerk_relay::config::{self, Config, DurabilityWanted, Mistakes, RedisUrl, StoreUrl, keys};

use crate::config::{assert_no_secret, env, good, mistakes, snapshots, warnings};

/// As a hosted Redis gives one: with characters that mean something in a URL.
const PASSWORD: &str = "not-to-be-shown/+@";
/// The same, percent-encoded.
const ENCODED: &str = "not-to-be-shown%2F%2B%40";

fn load(text: &str, pem: &Path) -> Result<Config, Mistakes> {
    let env = |name: &str| match name {
        "REDIS_PASSWORD" => Some(ENCODED.to_owned()),
        "RAW_PASSWORD" => Some(PASSWORD.to_owned()),
        "PEM" => Some(pem.display().to_string()),
        other => env(other),
    };
    config::load(text, "relay.yaml", &env).map(|(config, _)| config)
}

fn told(text: &str, pem: &Path) -> String {
    let told = load(text, pem).err().unwrap_or_else(|| panic!("no mistake in\n{text}")).to_string();
    assert_no_secret(&told);
    told
}

fn redis(config: &Config) -> &RedisUrl {
    match &config.store.url {
        StoreUrl::Redis(url) => url,
        StoreUrl::Sqlite(_) => panic!("no Redis"),
    }
}

/// A folder with a CA, a certificate and its key, and the key of another.
fn pem_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let [made, other] =
        ["relay", "other"].map(|name| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap());
    for (name, pem) in [
        ("ca.pem", other.cert.pem()),
        ("relay.pem", made.cert.pem()),
        ("relay-key.pem", made.signing_key.serialize_pem()),
        ("other-key.pem", other.signing_key.serialize_pem()),
        ("empty.pem", String::new()),
        ("broken.pem", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".to_owned()),
    ] {
        std::fs::write(folder.path().join(name), pem).unwrap();
    }
    folder
}

fn url(url: &str) -> String {
    good(&format!("store: {{url: \"{url}\"}}\n"))
}

snapshots! { mistakes:
    an_address_with_a_password_is_not_shown: url("redis://user:not-to-be-shown@cache:6379/zero");
    an_address_whose_password_is_not_encoded_says_how_to: url("redis://:not-to-be-shown/1@cache");
    an_address_that_lost_its_host_is_not_shown: url("redis://user:not-to-be-shown");
    an_address_without_a_password_is_shown: url("redis://one:6379,two:6379");
    an_address_with_parameters_is_refused: url("rediss://cache/0?ssl_cert_reqs=none");
    an_address_of_another_scheme_is_refused_with_the_known_ones: url("redis-sentinel://cache/main");
    a_password_that_is_not_set_is_named: url("redis://:${MISSING_PASSWORD}@cache");
    a_password_beside_a_syntax_error_is_not_shown:
        good("store:\n  url: \"redis://user:not-to-be-shown@cache\" prefix: a\n");
    keys_of_redis_are_refused_beside_sqlite:
        good("store: {durability: relaxed, wait_replicas: 1, prefix: a, tls: {ca_file: /nowhere/ca.pem}}\n");
    tls_is_refused_where_the_address_has_none: good("store:\n  url: redis://cache\n  tls: {}\n");
    values_of_redis_keys_have_bounds:
        good("store: {url: \"redis://cache\", durability: strickt, wait_replicas: 17, prefix: \"a{b}\"}\n");
    a_certificate_and_its_key_go_together:
        good("store:\n  url: rediss://cache\n  tls: {cert_file: /nowhere/relay.pem, ca: /nowhere/ca.pem}\n");
}

snapshots! { warnings:
    a_password_in_the_file_itself_is_warned_of: url("redis://:not-to-be-shown@cache");
}

#[test]
fn everything_that_can_be_said_of_redis_is_heard() {
    let folder = pem_folder();
    let text = include_str!("../fixtures/every-key-redis.yaml");
    let config = load(text, folder.path()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let url = redis(&config);
    assert_eq!(url.topology, Topology::Sentinel { master: "main".into() });
    let nodes = [("one.example".to_owned(), 26379), ("two.example".to_owned(), 26380)];
    assert_eq!(url.transport, Transport::Tls(nodes.to_vec()));
    assert_eq!((url.username.as_deref(), url.password.as_deref()), (Some("relay"), Some(PASSWORD)));
    assert_eq!(url.database, 2);
    let store = &config.store;
    assert_eq!((store.durability, store.wait_replicas), (DurabilityWanted::Managed, 2));
    assert_eq!((store.prefix.as_str(), store.dedupe), ("staging-1", Duration::from_secs(2 * 86400)));
    let file = |name: &str| Some(folder.path().join(name));
    assert_eq!(store.tls.ca_file, file("ca.pem"));
    assert_eq!((&store.tls.cert_file, &store.tls.key_file), (&file("relay.pem"), &file("relay-key.pem")));
}

#[test]
fn the_fixtures_say_every_key() {
    let said =
        concat!(include_str!("../fixtures/every-key.yaml"), include_str!("../fixtures/every-key-redis.yaml"));
    let unsaid: Vec<_> =
        keys::KEYS.iter().map(|key| key.name).filter(|name| !said.contains(&format!("{name}:"))).collect();
    assert_eq!(unsaid, Vec::<&str>::new());
}

#[test]
fn a_redis_without_a_word_is_strict() {
    let config = load(&url("redis://cache"), Path::new("")).unwrap();
    let store = config.store;
    assert_eq!((store.durability, store.wait_replicas), (DurabilityWanted::Strict, 0));
    assert_eq!((store.prefix.as_str(), store.tls), ("relay", config::StoreTls::default()));
}

#[test]
fn a_password_comes_out_of_a_variable_and_must_be_encoded_there() {
    let config = load(&url("redis://:${REDIS_PASSWORD}@cache"), Path::new("")).unwrap();
    assert_eq!(redis(&config).password.as_deref(), Some(PASSWORD));
    let told = told(&url("redis://:${RAW_PASSWORD}@cache"), Path::new(""));
    assert!(told.contains("`/` `%2F`") && told.contains("what a variable fills in"), "{told}");
}

#[test]
fn pem_files_of_tls_have_to_be_what_they_are_named() {
    let folder = pem_folder();
    for (tls, reasons) in [
        ("ca_file: ${PEM}/relay-key.pem", &["`ca_file` holds no certificate"][..]),
        ("ca_file: ${PEM}/broken.pem", &["`ca_file` is not a PEM file"]),
        ("ca_file: ${PEM}", &["`ca_file` cannot be read: it is a folder"]),
        (
            "cert_file: ${PEM}/empty.pem\n    key_file: ${PEM}/relay.pem",
            &["`cert_file` holds no certificate", "`key_file` holds no private key"],
        ),
        (
            "cert_file: ${PEM}/relay.pem\n    key_file: ${PEM}/other-key.pem",
            &["`key_file` is not the key of the certificate in `cert_file`"],
        ),
        ("key_file: ${PEM}/relay-key.pem", &["`key_file` is given without `cert_file`"]),
    ] {
        let text = good(&format!("store:\n  url: rediss://cache\n  tls:\n    {tls}\n"));
        let mistakes = load(&text, folder.path()).unwrap_err();
        assert_eq!(mistakes.count(), reasons.len(), "{mistakes}");
        for reason in reasons {
            assert!(mistakes.to_string().contains(reason), "{mistakes}");
        }
    }
}

#[test]
fn an_address_that_is_wrong_says_nothing_of_the_keys_beside_it() {
    for address in ["redis://", "${MISSING}", "[redis]"] {
        let text = good(&format!("store:\n  url: {address}\n  durability: relaxed\n"));
        let mistakes = load(&text, Path::new("")).unwrap_err();
        assert_eq!(mistakes.count(), 1, "{mistakes}");
    }
}

#[test]
fn nothing_shows_the_login_of_a_redis() {
    let text = url("redis+cluster://ann:${REDIS_PASSWORD}@one,two");
    let config = load(&text, Path::new("")).unwrap();
    let summary = check::summary(&config).replace(&config.fingerprint, "FINGERPRINT");
    let debug = format!("{config:?}");
    for shown in [&summary, &debug] {
        assert_no_secret(shown);
        assert!(!shown.contains("ann"), "{shown}");
    }
    insta::assert_snapshot!(summary);
}
