//! `sources`: each with a path of its own and at least one signing secret.

use std::ops::Range;

use super::{networks, patterns};
use crate::config::keys::{Kind, Section};
use crate::config::mistakes::Findings;
use crate::config::raw::Entry;
use crate::config::read::{self, Fields, Origin, Scalar};
use crate::config::redact::shown_name;
use crate::config::values::{self, BadValue};
use crate::config::{Limits, OnReplay, Source, TypeFilter};
use crate::event::SourceName;
use crate::secret::SigningSecret;

/// The sources that could be read, and the names of all that the file declares.
pub(super) fn read(top: &Fields<'_>, limits: &Limits, findings: &mut Findings) -> (Vec<Source>, Vec<String>) {
    let Some(entry) = top.entry("sources") else {
        top.tell_missing("sources", findings);
        return (Vec::new(), Vec::new());
    };
    let kind = &top.key("sources").kind;
    let pairs = read::pairs(entry, kind, findings);
    if pairs.is_empty() {
        findings.mistake(entry.at.clone(), "there is no source", "at least one, with its `signing_secrets`");
    }
    let declared = pairs.iter().map(|pair| pair.name.clone()).collect();
    let mut sources: Vec<(Source, Range<usize>)> = Vec::new();
    for pair in pairs {
        let fields = Fields::open(Section::Source, pair.at.clone(), &pair.node, findings);
        let name = pair.name.parse::<SourceName>();
        if name.is_err() {
            let reason = format!("`{}` is not a name for a source", shown_name(&pair.name));
            findings.mistake(pair.at.clone(), reason, read::accepted(&Kind::Name));
        }
        let source = read_one(name.ok(), &fields, limits, findings);
        let Some(source) = source else { continue };
        let place = fields.blame("path");
        if let Some((other, _)) = sources.iter().find(|(other, _)| other.path == source.path) {
            let reason = format!("the sources `{}` and `{}` have the same path", other.name, source.name);
            findings.mistake(place.clone(), reason, "a path of its own for each source");
        }
        sources.push((source, place));
    }
    (sources.into_iter().map(|(source, _)| source).collect(), declared)
}

/// The source, unless it has no valid name; everything else has a stand-in.
fn read_one(
    name: Option<SourceName>, fields: &Fields<'_>, limits: &Limits, findings: &mut Findings,
) -> Option<Source> {
    let path = fields.optional("path", findings, values::path);
    let body_max = usize::try_from(fields.size("body_max", findings)).unwrap_or(usize::MAX);
    if body_max > limits.in_flight_bytes {
        let reason =
            "`body_max` is larger than `limits.in_flight_bytes`, so the largest body could never be taken";
        findings.mistake(
            fields.blame("body_max"),
            reason,
            "a smaller `body_max`, or a larger `limits.in_flight_bytes`",
        );
    }
    let instance_id = fields.optional("instance_id", findings, values::text);
    if instance_id.as_ref().is_some_and(|id| !id.starts_with("ins_")) {
        findings.warn(fields.blame("instance_id"), "Clerk's instance ids begin with `ins_`", "");
    }
    let signing_secrets = secrets(fields, "signing_secrets", findings);
    let tolerance = fields.duration("tolerance", findings);
    let allow_from = networks(fields, "allow_from", findings);
    let on_replay = fields.value("on_replay", findings, |text| match text {
        "retry_dead" => Ok(OnReplay::RetryDead),
        "redeliver" => Ok(OnReplay::Redeliver),
        "ignore" => Ok(OnReplay::Ignore),
        _ => Err(BadValue::NotAChoice),
    });
    let drop = patterns(fields, "drop", findings).unwrap_or_else(TypeFilter::none);
    let name = name?;
    Some(Source {
        path: path.unwrap_or_else(|| format!("/webhooks/{name}")),
        name,
        signing_secrets,
        tolerance,
        body_max,
        allow_from,
        instance_id,
        on_replay,
        drop,
    })
}

/// The secrets of a list that can be read; what is wrong with the others is told.
pub(super) fn secrets(fields: &Fields<'_>, name: &str, findings: &mut Findings) -> Vec<SigningSecret> {
    if fields.entry(name).is_some_and(Entry::is_empty_list) {
        let help = read::accepted(&fields.key(name).kind);
        findings.mistake(fields.blame(name), format!("`{name}` is an empty list"), help);
        return Vec::new();
    }
    let scalars = fields.list(name, findings).unwrap_or_default();
    let mut secrets: Vec<SigningSecret> = Vec::new();
    for scalar in &scalars {
        let Some(secret) = secret(scalar, findings) else { continue };
        if secrets.contains(&secret) {
            findings.warn(scalar.at.clone(), "this signing secret stands twice in the list", "");
        } else {
            secrets.push(secret);
        }
    }
    secrets
}

/// One signing secret; what is wrong or odd about it is told, without repeating it.
pub(super) fn secret(scalar: &Scalar<'_>, findings: &mut Findings) -> Option<SigningSecret> {
    match SigningSecret::parse(scalar.text) {
        Ok((secret, odd)) => {
            for oddity in odd {
                findings.warn(scalar.at.clone(), oddity.to_string(), "");
            }
            if scalar.origin == Origin::Written {
                let help = "put it into an environment variable or a file: `${VARIABLE}` or `${file:/run/secrets/x}`";
                findings.warn(scalar.at.clone(), "a signing secret stands in the file itself", help);
            }
            Some(secret)
        }
        Err(bad) => {
            findings.mistake(scalar.at.clone(), bad.to_string(), read::accepted(&Kind::SigningSecret));
            None
        }
    }
}
