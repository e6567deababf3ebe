//! Which configuration runs: a short digest over the checked values, defaults included. Equal for equal configurations,
//! however they are written; another as soon as any value is. Secrets go in as digests, so that nothing in between holds
//! them. Every struct is taken apart by name: a new key does not compile until it is in here.

use sha2::{Digest, Sha256};

use super::{
    Admin, AdminToken, Config, Limits, Log, LogFormat, OnReplay, RedisUrl, Scope, Source, StoreConfig,
    StoreTls, StoreUrl, Target, TypeFilter,
};
use crate::backoff::RetryPolicy;
use crate::lifecycle::breaker::BreakerPolicy;
use crate::lifecycle::{Ordering, Policy, Start};
use crate::secret::SigningSecret;

/// Hex digits of a fingerprint: enough to tell the configurations of one fleet apart, short enough to read out.
const HEX_DIGITS: usize = 12;

/// The fingerprint of `config`, whatever its `fingerprint` says now.
pub fn of(config: &Config) -> String {
    let Config {
        listen,
        sources,
        targets,
        store,
        admin,
        log,
        limits,
        trusted_proxies,
        idle_timeout,
        shutdown_grace,
        shutdown_delay,
        fingerprint: _,
    } = config;
    let mut page = Page::default();
    page.add("listen", listen);
    // The order of mappings means nothing.
    let mut by_name: Vec<_> = sources.iter().collect();
    by_name.sort_by_key(|source| source.name.clone());
    by_name.into_iter().for_each(|one| source(&mut page, one));
    let mut by_name: Vec<_> = targets.iter().collect();
    by_name.sort_by_key(|target| target.name.clone());
    by_name.into_iter().for_each(|one| target(&mut page, one));
    store_of(&mut page, store);
    admin_of(&mut page, admin);
    let Log { format, level } = log;
    page.add("log.format", format!("{:?}", format.map(log_format)));
    page.add("log.level", level);
    let Limits { connections, in_flight, in_flight_bytes, store_size_bytes } = limits;
    page.add("limits.connections", connections);
    page.add("limits.in_flight", in_flight);
    page.add("limits.in_flight_bytes", in_flight_bytes);
    page.add("limits.store_size", store_size_bytes);
    trusted_proxies.iter().for_each(|net| page.add("trusted_proxy", net));
    page.add("idle_timeout", idle_timeout.as_millis());
    page.add("shutdown_grace", shutdown_grace.as_millis());
    page.add("shutdown_delay", shutdown_delay.as_millis());
    page.end()
}

/// What is digested: lines of names and values.
#[derive(Default)]
struct Page(Sha256);

impl Page {
    /// Each with its length, so that no two pages read alike.
    fn add(&mut self, name: &str, value: impl ToString) {
        for text in [name, &value.to_string()] {
            self.0.update((text.len() as u64).to_be_bytes());
            self.0.update(text.as_bytes());
        }
    }

    fn add_secret(&mut self, name: &str, secret: impl AsRef<[u8]>) {
        self.add(name, hex(&Sha256::digest(secret.as_ref())));
    }

    fn end(self) -> String {
        let mut text = hex(&self.0.finalize());
        text.truncate(HEX_DIGITS);
        text
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn log_format(format: LogFormat) -> &'static str {
    match format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    }
}

fn source(page: &mut Page, source: &Source) {
    let Source { name, path, signing_secrets, tolerance, body_max, allow_from, instance_id, on_replay, drop } =
        source;
    page.add("source", name);
    page.add("path", path);
    secrets(page, signing_secrets);
    page.add("tolerance", tolerance.as_millis());
    page.add("body_max", body_max);
    allow_from.iter().for_each(|net| page.add("allow_from", net));
    page.add("instance_id", instance_id.as_deref().unwrap_or_default());
    let word = match on_replay {
        OnReplay::RetryDead => "retry_dead",
        OnReplay::Redeliver => "redeliver",
        OnReplay::Ignore => "ignore",
    };
    page.add("on_replay", word);
    patterns(page, "drop", drop);
}

fn target(page: &mut Page, target: &Target) {
    let Target {
        name,
        url,
        events,
        sources,
        signing_secrets,
        headers,
        user_agent,
        timeout,
        concurrency,
        policy,
        breaker,
        ordering,
        start,
        ca_file,
        proxy,
    } = target;
    page.add("target", name);
    page.add_secret("url", url.as_str()); // its query may hold a token
    patterns(page, "events", events);
    sources.iter().for_each(|source| page.add("of", source));
    for (source, keys) in signing_secrets {
        page.add("signed_for", source);
        secrets(page, keys);
    }
    let mut values: Vec<_> = headers.iter().collect();
    values.sort_by(|one, other| (one.0.as_str(), one.1).cmp(&(other.0.as_str(), other.1)));
    for (name, value) in values {
        page.add("header", name);
        page.add_secret("value", value);
    }
    page.add_secret("user_agent", user_agent);
    page.add("timeout", timeout.as_millis());
    page.add("concurrency", concurrency);
    policy_of(page, policy);
    if let Some(BreakerPolicy { failures, window, ratio, probe_every }) = breaker {
        page.add("breaker", format!("{failures} {window} {ratio} {}", probe_every.as_millis()));
    }
    let (ordering, start) = (
        match ordering {
            Ordering::None => "none",
            Ordering::Subject => "subject",
        },
        match start {
            Start::Now => "now",
            Start::Beginning => "beginning",
        },
    );
    page.add("ordering", ordering);
    page.add("start", start);
    page.add("ca_file", format!("{ca_file:?}"));
    page.add_secret("proxy", proxy.as_ref().map_or("", |proxy| proxy.as_str())); // it may hold a password
}

fn policy_of(page: &mut Page, policy: &Policy) {
    let Policy { retry, expire, max_wait } = policy;
    let RetryPolicy { initial, multiplier, max, jitter, attempts, give_up_after } = retry;
    page.add("initial", initial.as_millis());
    page.add("multiplier", multiplier);
    page.add("max", max.as_millis());
    page.add("jitter", jitter);
    page.add("attempts", format!("{attempts:?}"));
    page.add("give_up_after", give_up_after.as_millis());
    for (event_type, after) in expire {
        page.add("expire", event_type);
        page.add("after", after.as_millis());
    }
    page.add("max_wait", max_wait.as_millis());
}

fn store_of(page: &mut Page, store: &StoreConfig) {
    let StoreConfig {
        url,
        retention,
        dead_letter_retention,
        dedupe,
        durability,
        wait_replicas,
        prefix,
        tls,
        lease,
    } = store;
    match url {
        StoreUrl::Sqlite(path) => page.add("sqlite", path.display()),
        StoreUrl::Redis(url) => {
            let RedisUrl { topology: _, transport: _, username, password, database: _ } = url;
            page.add("redis", url); // all but the login
            page.add_secret("username", username.as_deref().unwrap_or_default());
            page.add_secret("password", password.as_deref().unwrap_or_default());
        }
    }
    page.add("retention", retention.as_millis());
    page.add("dead_letter_retention", dead_letter_retention.as_millis());
    page.add("dedupe", dedupe.as_millis());
    page.add("durability", durability);
    page.add("wait_replicas", wait_replicas);
    page.add("prefix", prefix);
    let StoreTls { ca_file, cert_file, key_file } = tls;
    page.add("tls", format!("{ca_file:?} {cert_file:?} {key_file:?}"));
    page.add("lease", lease.as_millis());
}

fn admin_of(page: &mut Page, admin: &Admin) {
    let Admin { listen, tokens } = admin;
    page.add("admin.listen", listen);
    // The digest says as much as the token itself, and is there for both ways to give one.
    for AdminToken { name, digest, can, secret: _ } in tokens {
        page.add("token", name);
        page.add("sha256", hex(digest.as_bytes()));
        let can = match can {
            Scope::Metrics => "metrics",
            Scope::Read => "read",
            Scope::Write => "write",
        };
        page.add("can", can);
    }
}

fn secrets(page: &mut Page, secrets: &[SigningSecret]) {
    secrets.iter().for_each(|secret| page.add_secret("signing_secret", secret.expose()));
}

fn patterns(page: &mut Page, name: &str, filter: &TypeFilter) {
    match filter {
        TypeFilter::All => page.add(name, "*"),
        TypeFilter::Some(patterns) => {
            page.add(name, "");
            patterns.texts().iter().for_each(|text| page.add("pattern", text));
        }
    }
}
