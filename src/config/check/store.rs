//! The section `store`: where events are kept and for how long, and what only a Redis store has.

use std::time::Duration;

use super::{pem, section};
use crate::config::keys::{Kind, Section, show};
use crate::config::mistakes::Findings;
use crate::config::raw::Value;
use crate::config::read::Fields;
use crate::config::values::{self, BadValue};
use crate::config::{DurabilityWanted, StoreConfig, StoreTls, StoreUrl};

/// A week: Clerk's sender retries for little more than a day, and people replay by hand within days.
const DEDUPE_DEFAULT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Keys that do nothing beside a SQLite store.
const REDIS_ONLY: [&str; 5] = ["durability", "wait_replicas", "prefix", "lease", "tls"];

pub(super) fn read(top: &Fields<'_>, findings: &mut Findings) -> StoreConfig {
    let fields = section(top, "store", Section::Store, findings);
    let url = match fields.entry("url") {
        Some(_) => fields.optional("url", findings, values::store_url),
        None => Some(fields.value("url", findings, values::store_url)),
    };
    // An address that is wrong says nothing of the keys beside it.
    if let Some(url) = &url {
        refuse_idle_keys(&fields, url, findings);
        warn_of_literal_password(&fields, url, findings);
    }
    let retention = fields.duration("retention", findings);
    StoreConfig {
        // A stand-in where the address is wrong: what was told keeps it from being used.
        url: url.unwrap_or_else(|| StoreUrl::Sqlite("relay.db".into())),
        retention,
        dead_letter_retention: fields.duration("dead_letter_retention", findings),
        dedupe: read_dedupe(&fields, retention, findings),
        durability: fields.value("durability", findings, |text| match text {
            "strict" => Ok(DurabilityWanted::Strict),
            "managed" => Ok(DurabilityWanted::Managed),
            "relaxed" => Ok(DurabilityWanted::Relaxed),
            _ => Err(BadValue::NotAChoice),
        }),
        wait_replicas: fields
            .count("wait_replicas", findings)
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or_default(),
        prefix: fields.value("prefix", findings, values::name),
        tls: read_tls(&fields, findings),
        lease: fields.duration("lease", findings),
    }
}

/// Tells the keys that would do nothing with the store at `url`.
fn refuse_idle_keys(fields: &Fields<'_>, url: &StoreUrl, findings: &mut Findings) {
    match url {
        StoreUrl::Sqlite(_) => {
            for entry in REDIS_ONLY.iter().filter_map(|name| fields.entry(name)) {
                let reason = format!("`{}` is only for a Redis store, and this one is SQLite", entry.name);
                let help = "leave it out, or give the address of a Redis in `store.url`";
                findings.mistake(entry.at.clone(), reason, help);
            }
        }
        StoreUrl::Redis(redis) => {
            if let (Some(entry), false) = (fields.entry("tls"), redis.has_tls()) {
                let reason = "`tls` is given, and the connection to Redis would have no TLS";
                findings.mistake(
                    entry.at.clone(),
                    reason,
                    "leave it out, or begin `store.url` with `rediss`",
                );
            }
        }
    }
}

fn warn_of_literal_password(fields: &Fields<'_>, url: &StoreUrl, findings: &mut Findings) {
    let StoreUrl::Redis(redis) = url else { return };
    let is_literal = fields.entry("url").is_some_and(|entry| matches!(entry.node.value, Value::Scalar(_)));
    if is_literal && redis.password.is_some() {
        let help = "put it into an environment variable: `redis://:${REDIS_PASSWORD}@HOST`";
        findings.warn(fields.blame("url"), "the password of Redis stands in the file itself", help);
    }
}

fn read_dedupe(fields: &Fields<'_>, retention: Duration, findings: &mut Findings) -> Duration {
    let dedupe = fields.optional("dedupe", findings, |text| {
        let Kind::Duration { min, max } = fields.key("dedupe").kind else { return values::duration(text) };
        values::duration_within(text, min, max)
    });
    if dedupe.is_some_and(|dedupe| dedupe < retention) {
        let reason = format!("`dedupe` is shorter than `retention`, which is {}", show(retention));
        let help = "an event that is still kept has to be known as a duplicate; leave `dedupe` out, or make it longer";
        findings.mistake(fields.blame("dedupe"), reason, help);
    }
    dedupe.unwrap_or(DEDUPE_DEFAULT).max(retention)
}

fn read_tls(store: &Fields<'_>, findings: &mut Findings) -> StoreTls {
    let fields = section(store, "tls", Section::Tls, findings);
    let ca_file = pem::authorities(&fields, "ca_file", findings);
    let (cert_file, key_file) = pem::identity(&fields, "cert_file", "key_file", findings);
    StoreTls { ca_file, cert_file, key_file }
}
