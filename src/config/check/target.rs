//! `targets`: where events go, with which signature, how often.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

use super::source::{secret, secrets};
use super::{breaker, patterns, pem, section};
use crate::backoff::RetryPolicy;
use crate::config::keys::{self, Kind, Section};
use crate::config::mistakes::Findings;
use crate::config::raw::Entry;
use crate::config::read::{self, Fields};
use crate::config::redact::shown_name;
use crate::config::values::{self, BadValue};
use crate::config::{Source, Target, TypeFilter};
use crate::event::catalog::KNOWN_TYPES;
use crate::event::{SourceName, TargetName};
use crate::lifecycle::{Ordering, Policy, Start};
use crate::secret::SigningSecret;

/// Types that hold a one-time code, which is worthless ten minutes later.
const EXPIRE_DEFAULT: [(&str, Duration); 2] =
    [("email.created", Duration::from_secs(600)), ("sms.created", Duration::from_secs(600))];

/// Headers that the relay or the connection sets. Beginnings end with `-`.
const HEADERS_FORBIDDEN: [&str; 17] = [
    "svix-",
    "webhook-",
    "relay-",
    "proxy-",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "http2-settings",
];

/// The targets that could be read. `declared` names all sources of the file, `sources` are those that could be read.
pub(super) fn read(
    top: &Fields<'_>, sources: &[Source], declared: &[String], findings: &mut Findings,
) -> Vec<Target> {
    let Some(entry) = top.entry("targets") else { return Vec::new() };
    let kind = &top.key("targets").kind;
    let mut targets = Vec::new();
    for pair in read::pairs(entry, kind, findings) {
        let fields = Fields::open(Section::Target, pair.at.clone(), &pair.node, findings);
        let name = pair.name.parse::<TargetName>().ok();
        if name.is_none() {
            let reason = format!("`{}` is not a name for a target", shown_name(&pair.name));
            findings.mistake(pair.at.clone(), reason, read::accepted(&Kind::Name));
        }
        targets.extend(read_one(name, pair, &fields, sources, declared, findings));
    }
    targets
}

fn read_one(
    name: Option<TargetName>, pair: &Entry, fields: &Fields<'_>, sources: &[Source], declared: &[String],
    findings: &mut Findings,
) -> Option<Target> {
    let url = fields.optional("url", findings, values::url);
    if url.as_ref().is_some_and(|url| !url.username().is_empty() || url.password().is_some()) {
        let help = "better a header: `headers: {Authorization: \"Basic ${APP_CREDENTIALS}\"}`";
        findings.warn(
            fields.blame("url"),
            "`url` carries credentials, which may end up in logs of proxies",
            help,
        );
    }
    let events = read_events(fields, findings);
    let wanted = read_sources(fields, declared, findings);
    let signing_secrets = signing(pair, fields, sources, wanted.as_deref().unwrap_or_default(), findings);
    let target = Target {
        // Stand-ins where something is missing: what was told keeps them from being used.
        name: name.clone().unwrap_or_else(|| "unnamed".parse().expect("`unnamed` is a name")),
        url: url.clone().unwrap_or_else(|| "http://localhost/".parse().expect("this is a URL")),
        events,
        sources: wanted.unwrap_or_default(),
        signing_secrets,
        headers: read_headers(fields, findings),
        user_agent: fields.value("user_agent", findings, header_value),
        timeout: fields.duration("timeout", findings),
        concurrency: fields.count("concurrency", findings).and_then(|n| usize::try_from(n).ok()).unwrap_or(1),
        policy: read_policy(fields, findings),
        breaker: breaker::read(fields, findings),
        ordering: fields.value("ordering", findings, |text| match text {
            "none" => Ok(Ordering::None),
            "subject" => Ok(Ordering::Subject),
            _ => Err(BadValue::NotAChoice),
        }),
        start: fields.value("start", findings, |text| match text {
            "now" => Ok(Start::Now),
            "beginning" => Ok(Start::Beginning),
            _ => Err(BadValue::NotAChoice),
        }),
        ca_file: pem::authorities(fields, "ca_file", findings),
        proxy: fields.optional("proxy", findings, values::url),
    };
    (name.is_some() && url.is_some()).then_some(target)
}

fn read_events(fields: &Fields<'_>, findings: &mut Findings) -> TypeFilter {
    if fields.entry("events").is_some_and(Entry::is_empty_list) {
        let help = "at least one pattern; leave the key out for all types";
        findings.mistake(fields.blame("events"), "`events` is an empty list", help);
    }
    patterns(fields, "events", findings).unwrap_or(TypeFilter::All)
}

/// The sources of the target, where it names any.
fn read_sources(
    fields: &Fields<'_>, declared: &[String], findings: &mut Findings,
) -> Option<Vec<SourceName>> {
    fields.entry("sources")?;
    let scalars = fields.list("sources", findings)?;
    if scalars.is_empty() {
        findings.mistake(
            fields.blame("sources"),
            "`sources` is an empty list",
            "leave the key out for all sources",
        );
    }
    let mut wanted = Vec::new();
    for scalar in scalars {
        if !declared.iter().any(|name| name == scalar.text) {
            let near = keys::nearest(scalar.text, declared.iter().map(String::as_str));
            let known =
                declared.iter().map(|name| format!("`{}`", shown_name(name))).collect::<Vec<_>>().join(", ");
            let help = match near {
                Some(near) => format!("did you mean `{}`?", shown_name(near)),
                None => format!("sources of this file: {known}"),
            };
            findings.mistake(scalar.at, "`sources` names a source that is not in this file", help);
        } else if let Ok(name) = scalar.text.parse() {
            wanted.push(name);
        }
    }
    Some(wanted)
}

/// What to sign with for each source that feeds the target.
fn signing(
    pair: &Entry, fields: &Fields<'_>, sources: &[Source], wanted: &[SourceName], findings: &mut Findings,
) -> BTreeMap<SourceName, Vec<SigningSecret>> {
    let one = fields.entry("signing_secret");
    let many = fields.entry("signing_secrets");
    let mut own = secrets(fields, "signing_secrets", findings);
    if let (Some(_), Some(second)) = (one, many) {
        let reason = "a target has both `signing_secret` and `signing_secrets`";
        findings.mistake(second.at.clone(), reason, "one of them; the list takes several, the newest first");
    }
    if one.is_some() {
        own.extend(fields.scalar("signing_secret", findings).and_then(|scalar| secret(&scalar, findings)));
    }
    let feeding: Vec<&Source> =
        sources.iter().filter(|source| wanted.is_empty() || wanted.contains(&source.name)).collect();
    let has_own = one.is_some() || many.is_some();
    // A source without readable secrets was told; comparing it would only add a second mistake.
    let readable: Vec<&&Source> =
        feeding.iter().filter(|source| !source.signing_secrets.is_empty()).collect();
    let differing = readable.windows(2).find(|two| !same(&two[0].signing_secrets, &two[1].signing_secrets));
    if let (false, Some(two)) = (has_own, differing) {
        let reason = format!(
            "the target gets events of `{}` and `{}`, whose signing secrets differ: the app could verify only one of them",
            two[0].name, two[1].name
        );
        let help = "give the target its own `signing_secret`, or limit it to one of them with `sources`";
        findings.mistake(pair.at.clone(), reason, help);
    }
    let secrets_for = |source: &Source| if has_own { own.clone() } else { source.signing_secrets.clone() };
    feeding.into_iter().map(|source| (source.name.clone(), secrets_for(source))).collect()
}

/// Whether two lists hold the same secrets, in any order.
fn same(one: &[SigningSecret], other: &[SigningSecret]) -> bool {
    one.iter().all(|secret| other.contains(secret)) && other.iter().all(|secret| one.contains(secret))
}

fn header_value(text: &str) -> Result<HeaderValue, BadValue> {
    HeaderValue::from_str(&values::text(text)?).map_err(|_| BadValue::NotAHeaderValue)
}

fn read_headers(fields: &Fields<'_>, findings: &mut Findings) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let Some(entry) = fields.entry("headers") else { return headers };
    let kind = &fields.key("headers").kind;
    for pair in read::pairs(entry, kind, findings) {
        let shown = shown_name(&pair.name);
        let value = read::scalar(&pair.node, pair.at.clone(), &shown, kind, findings)
            .and_then(|scalar| read::parsed(&scalar, &shown, kind, findings, header_value));
        let Ok(name) = HeaderName::from_bytes(pair.name.as_bytes()) else {
            findings.mistake(
                pair.at.clone(),
                format!("`{shown}` is not the name of a header"),
                read::accepted(kind),
            );
            continue;
        };
        let is_forbidden = |forbidden: &str| {
            name.as_str() == forbidden || (forbidden.ends_with('-') && name.as_str().starts_with(forbidden))
        };
        if HEADERS_FORBIDDEN.iter().any(|forbidden| is_forbidden(forbidden)) {
            let help = if name == "user-agent" { "use the key `user_agent`" } else { "leave it out" };
            findings.mistake(pair.at.clone(), format!("the relay sets the header `{shown}` itself"), help);
        } else if headers.contains_key(&name) {
            let reason = format!("the header `{shown}` stands twice, in different case");
            findings.mistake(pair.at.clone(), reason, "each header once");
        } else if let Some(mut value) = value {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    headers
}

fn read_policy(fields: &Fields<'_>, findings: &mut Findings) -> Policy {
    let retry = section(fields, "retry", Section::Retry, findings);
    let policy = RetryPolicy {
        initial: retry.duration("initial", findings),
        multiplier: retry.number("multiplier", findings),
        max: retry.duration("max", findings),
        jitter: retry.number("jitter", findings),
        attempts: retry.count("attempts", findings).and_then(|n| u32::try_from(n).ok()),
        give_up_after: retry.duration("give_up_after", findings),
    };
    if policy.initial > policy.max {
        findings.mistake(
            retry.blame("initial"),
            "`retry.initial` is longer than `retry.max`",
            "no delay is longer than `max`",
        );
    }
    Policy {
        retry: policy,
        expire: read_expire(fields, findings),
        max_wait: fields.duration("max_wait", findings),
    }
}

/// The defaults, changed by what the target says.
fn read_expire(fields: &Fields<'_>, findings: &mut Findings) -> BTreeMap<String, Duration> {
    let mut expire: BTreeMap<String, Duration> =
        EXPIRE_DEFAULT.into_iter().map(|(event_type, after)| (event_type.to_owned(), after)).collect();
    let Some(entry) = fields.entry("expire") else { return expire };
    let kind = &fields.key("expire").kind;
    let Kind::Expiries { min, max } = *kind else { return expire };
    for pair in read::pairs(entry, kind, findings) {
        let shown = shown_name(&pair.name);
        if pair.name.contains('*') || values::pattern(&pair.name).is_err() {
            let help = "a type such as `email.created`, not a pattern";
            findings.mistake(
                pair.at.clone(),
                format!("`expire` has `{shown}`, which is not an event type"),
                help,
            );
        } else if !KNOWN_TYPES.contains(&pair.name.as_str()) {
            findings.warn(pair.at.clone(), format!("`{shown}` is none of Clerk's event types"), "");
        }
        let after = read::scalar(&pair.node, pair.at.clone(), &shown, kind, findings).and_then(|scalar| {
            read::parsed(&scalar, &shown, kind, findings, |text| match text.trim() {
                "never" => Ok(None),
                text if values::duration(text) == Ok(Duration::ZERO) => Ok(None),
                text => values::duration_within(text, min, max).map(Some),
            })
        });
        match after {
            Some(Some(after)) => drop(expire.insert(pair.name.clone(), after)),
            Some(None) => drop(expire.remove(&pair.name)),
            None => {}
        }
    }
    expire
}
