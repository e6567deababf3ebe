//! The rows of the table of keys, in the order of the reference. Bounds are chosen so that a slip of the unit is
//! caught (`15m` for `15s`, `1 GiB` for `1 MiB`) and nothing sensible is refused.

use std::time::Duration;

use super::Absent::{Required, Told, Value};
use super::Section::{Admin, Breaker, Limits, Log, Retry, Source, Store, Target, Tls, Token, Top};
use super::{Absent, Key, Kind, Section};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

const fn key(
    section: Section, name: &'static str, kind: Kind, absent: Absent, doc: &'static str,
    example: &'static str,
) -> Key {
    Key { section, name, kind, absent, doc, example }
}

const fn span(min: Duration, max: Duration) -> Kind {
    Kind::Duration { min, max }
}

const fn count(min: u64, max: u64) -> Kind {
    Kind::Count { min, max }
}

const fn size(min: u64, max: u64) -> Kind {
    Kind::Size { min, max }
}

/// `User-Agent` of attempts, unless the target sets its own.
const USER_AGENT: &str = concat!("clerk-relay/", env!("CARGO_PKG_VERSION"));

/// Every key that this version knows.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key(Top, "listen", Kind::Address, Value("0.0.0.0:8080"), "Where Clerk's requests arrive.", "0.0.0.0:8080"),
    key(Top, "sources", Kind::Named(Source), Required, "The Clerk endpoints that post here, by name.",
        "{clerk: {signing_secrets: [\"${CLERK_WEBHOOK_SIGNING_SECRET}\"]}}"),
    key(Top, "targets", Kind::Named(Target), Told("none: events are only kept"),
        "The apps that get the events, by name. The name is the target's identity.",
        "{app: {url: \"http://localhost:3000/api/webhooks/clerk\"}}"),
    key(Top, "store", Kind::One(Store), Told("see `store.*`"), "Where events are kept, and for how long.",
        "{url: \"sqlite:relay.db\"}"),
    key(Top, "admin", Kind::One(Admin), Told("see `admin.*`"), "The listener for operators.",
        "{listen: \"127.0.0.1:8081\"}"),
    key(Top, "log", Kind::One(Log), Told("see `log.*`"), "How logs look.", "{level: info}"),
    key(Top, "limits", Kind::One(Limits), Told("see `limits.*`"), "The bounds on everything that comes in.",
        "{connections: 4096}"),
    key(Top, "trusted_proxies", Kind::Networks, Told("none"),
        "Proxies in front of the relay whose `X-Forwarded-For` is believed.", "[10.0.0.0/8]"),
    key(Top, "idle_timeout", span(SECOND, HOUR), Value("75s"), "An idle connection is closed after this.", "75s"),
    key(Top, "shutdown_grace", span(Duration::ZERO, HOUR), Value("20s"),
        "How long a stop waits for attempts that are under way.", "20s"),
    key(Top, "shutdown_delay", span(Duration::ZERO, HOUR), Value("0s"),
        "How long a stop goes on accepting, so that a load balancer notices.", "5s"),

    key(Source, "path", Kind::Path, Told("`/webhooks/<name>`"), "The path that Clerk posts to.", "/webhooks/clerk"),
    key(Source, "signing_secrets", Kind::SigningSecrets, Required,
        "Any of these may have signed an event. Give the old and the new one while rotating.",
        "[\"${CLERK_WEBHOOK_SIGNING_SECRET}\"]"),
    key(Source, "tolerance", span(SECOND, DAY), Value("5m"), "How far the sender's clock may be off.", "5m"),
    key(Source, "body_max", size(KIB, 64 * MIB), Value("1 MiB"), "Larger bodies are refused.", "1 MiB"),
    key(Source, "allow_from", Kind::Networks, Told("anyone"), "Only these addresses may post.", "[192.0.2.0/24]"),
    key(Source, "instance_id", Kind::Text, Told("any"), "Only events of this Clerk instance are taken.", "ins_2abc"),
    key(Source, "on_replay", Kind::Choice(&["retry_dead", "redeliver", "ignore"]), Value("retry_dead"),
        "What a replay from Clerk's dashboard does: deliver again where the event is dead, everywhere, or nowhere.",
        "retry_dead"),
    key(Source, "drop", Kind::Patterns, Told("none"), "Types that are answered 2xx and counted, but never stored.",
        "[\"session.*\"]"),

    key(Target, "url", Kind::Url, Required, "Where the app takes events.", "http://localhost:3000/api/webhooks/clerk"),
    key(Target, "events", Kind::Patterns, Told("all types"), "The types that the app wants.",
        "[\"user.*\", \"organizationMembership.*\"]"),
    key(Target, "sources", Kind::SourceNames, Told("all sources"), "The sources whose events the app wants.", "[clerk]"),
    key(Target, "signing_secret", Kind::SigningSecret, Told("those of the event's source"),
        "What the relay signs with for this app.", "${APP_WEBHOOK_SECRET}"),
    key(Target, "signing_secrets", Kind::SigningSecrets, Told("those of the event's source"),
        "The same, several at once while rotating; in place of `signing_secret`.",
        "[\"${APP_WEBHOOK_SECRET_NEW}\", \"${APP_WEBHOOK_SECRET}\"]"),
    key(Target, "headers", Kind::Headers, Told("none"), "Headers sent with every attempt.",
        "{Authorization: \"Bearer ${APP_TOKEN}\"}"),
    key(Target, "user_agent", Kind::Text, Value(USER_AGENT), "`User-Agent` of every attempt.", "my-relay/1"),
    key(Target, "timeout", span(Duration::from_millis(100), Duration::from_secs(300)), Value("15s"),
        "The deadline of a whole attempt, from DNS to the end of the reply.", "15s"),
    key(Target, "concurrency", count(1, 1024), Value("16"), "Attempts under way at once, over all relays that share the store.", "16"),
    key(Target, "ordering", Kind::Choice(&["none", "subject"]), Value("none"),
        "`subject`: the events of one user or organization go one after the other.", "subject"),
    key(Target, "retry", Kind::One(Retry), Told("see `retry.*`"), "When failed attempts are repeated.",
        "{give_up_after: 3d}"),
    key(Target, "breaker", Kind::OneOrOff(Breaker), Told("see `breaker.*`"),
        "When attempts stop because the target is down. `off`: never.", "{failures: 5}"),
    key(Target, "expire", Kind::Expiries { min: SECOND, max: YEAR }, Told("`email.created: 10m, sms.created: 10m`"),
        "Types that are worthless after a while. Added to the default; `never` (or `0`) switches one off.",
        "{email.created: 10m}"),
    key(Target, "max_wait", span(MINUTE, YEAR), Value("14d"), "What was never taken for so long ends dead.", "14d"),
    key(Target, "start", Kind::Choice(&["now", "beginning"]), Value("now"),
        "Where a new target begins: with the next event, or with the oldest that is still kept.", "now"),
    key(Target, "ca_file", Kind::PemFile, Told("the system's"), "Certificates to trust beside the system's.",
        "/etc/ssl/internal-ca.pem"),
    key(Target, "proxy", Kind::ProxyUrl, Told("none"), "A proxy to go through.", "http://proxy.internal:3128"),

    key(Retry, "initial", span(MILLISECOND, DAY), Value("5s"), "The delay after the first failure.", "5s"),
    key(Retry, "multiplier", Kind::Number { min: 1.0, max: 100.0 }, Value("3"),
        "Each delay is this many times the one before.", "3"),
    key(Retry, "max", span(MILLISECOND, Duration::from_secs(7 * 24 * 3600)), Value("6h"), "No delay is longer.", "6h"),
    key(Retry, "jitter", Kind::Number { min: 0.0, max: 1.0 }, Value("0.2"),
        "Each delay is spread by up to this fraction, either way.", "0.2"),
    key(Retry, "attempts", count(1, 10_000), Told("no limit"), "Give up after this many attempts.", "20"),
    key(Retry, "give_up_after", span(SECOND, YEAR), Value("3d"),
        "Give up when the first attempt is longer ago than this.", "3d"),

    key(Breaker, "failures", count(1, 1000), Value("5"), "It opens after this many failures without a success between them.",
        "5"),
    key(Breaker, "window", count(1, 1000), Value("20"), "It also judges the last so many attempts.", "20"),
    key(Breaker, "ratio", Kind::Number { min: 0.05, max: 1.0 }, Value("0.5"),
        "It opens when this share of them failed.", "0.5"),
    key(Breaker, "probe_every", span(Duration::from_millis(100), Duration::from_secs(300)), Value("30s"),
        "While it is open, one attempt this often; each that fails doubles the time, up to 5m.", "30s"),

    key(Store, "url", Kind::StoreUrl, Value("sqlite:relay.db"),
        "Which store: a file (its path is relative to the working directory), or a Redis that many relays may share. \
         User and password of a Redis stand before the host, percent-encoded.",
        "rediss://:${REDIS_PASSWORD}@redis.internal"),
    key(Store, "retention", span(MINUTE, YEAR), Value("7d"),
        "Events are kept this long; longer while a delivery is unfinished or dead.", "7d"),
    key(Store, "dead_letter_retention", span(MINUTE, YEAR), Value("30d"), "Dead letters are kept this long.", "30d"),
    key(Store, "dedupe", span(MINUTE, YEAR), Told("`7d`, or `retention` where that is longer"),
        "How long the same `svix-id` counts as a duplicate; at least `retention`.", "7d"),
    key(Store, "durability", Kind::Choice(&["strict", "managed", "relaxed"]), Value("strict"),
        "Redis only. `strict`: its own settings must prove that it keeps what is answered; `managed`: you declare it, \
         where a hosted Redis does not show them; `relaxed`: it may lose events.", "managed"),
    key(Store, "wait_replicas", count(0, 16), Value("0"),
        "Redis only. An event is answered 2xx when this many replicas have it as well.", "1"),
    key(Store, "prefix", Kind::Name, Value("relay"),
        "Redis only. What its keys begin with; relays with the same one work together.", "relay"),
    key(Store, "lease", span(SECOND, Duration::from_secs(5 * 60)), Value("15s"),
        "Redis only: a relay that was not heard of for so long is dead, and the others take over its deliveries.", "15s"),
    key(Store, "tls", Kind::One(Tls), Told("see `store.tls.*`"), "Redis only, for an address that begins with `rediss`.",
        "{ca_file: /etc/ssl/redis-ca.pem}"),
    key(Tls, "ca_file", Kind::PemFile, Told("the system's"), "Certificates to trust in place of the system's.",
        "/etc/ssl/redis-ca.pem"),
    key(Tls, "cert_file", Kind::PemFile, Told("none"), "The relay's own certificate, where Redis asks for one.",
        "/etc/ssl/relay.pem"),
    key(Tls, "key_file", Kind::PemKeyFile, Told("none"), "The key of `cert_file`.", "/etc/ssl/relay-key.pem"),

    key(Admin, "listen", Kind::Address, Value("127.0.0.1:8081"),
        "Where operators connect. Needs `tokens` unless it is a loopback address.", "127.0.0.1:8081"),
    key(Admin, "tokens", Kind::Many(Token), Told("none: loopback only"), "Who may use it.",
        "[{name: ops, token: \"${RELAY_ADMIN_TOKEN}\", can: write}]"),
    key(Token, "name", Kind::Name, Required, "Its name in the audit.", "ops"),
    key(Token, "token", Kind::Token, Told("use `sha256`"), "The token itself. Exactly one of `token` and `sha256`.",
        "${RELAY_ADMIN_TOKEN}"),
    key(Token, "sha256", Kind::TokenSha256, Told("use `token`"), "Its SHA-256, so that the file holds no secret.",
        "${RELAY_ADMIN_TOKEN_SHA256}"),
    key(Token, "can", Kind::Choice(&["metrics", "read", "write"]), Value("read"), "What it may do.", "write"),

    key(Log, "format", Kind::Choice(&["text", "json"]), Told("`text` on a terminal, else `json`"), "The form of a line.",
        "json"),
    key(Log, "level", Kind::Choice(&["error", "warn", "info", "debug", "trace"]), Value("info"),
        "The least severe level that is logged.", "info"),

    key(Limits, "connections", count(1, 1_000_000), Value("4096"), "Open connections.", "4096"),
    key(Limits, "in_flight", count(1, 100_000), Value("512"), "Requests under way; more are answered 503.", "512"),
    key(Limits, "in_flight_bytes", size(64 * KIB, 64 * GIB), Value("32 MiB"),
        "Bytes of bodies under way; more are answered 503.", "32 MiB"),
    key(Limits, "store_size", size(MIB, 64 * TIB), Value("8 GiB"),
        "Bytes the store may use; above it, requests are answered 503. With Redis, its own `maxmemory` where that is smaller.",
        "8 GiB"),
];

/// Keys that a later version will know: refused like unknown ones, but with a reason that saves a search.
pub const PLANNED: &[(Section, &str)] =
    &[(Target, "rate"), (Target, "match"), (Target, "on_dead"), (Top, "alarms"), (Top, "heartbeat_url")];
