//! The sections that operators turn: `admin`, `log` and `limits`.

use std::ops::Range;

use super::section;
use crate::config::keys::Section;
use crate::config::mistakes::Findings;
use crate::config::raw::{Node, Value};
use crate::config::read::{self, Fields};
use crate::config::values::{self, BadValue, TOKEN_CHARS_MIN};
use crate::config::{Admin, AdminToken, Limits, Log, LogFormat, Scope};
use crate::secret::{AdminSecret, TokenDigest};
use crate::telemetry::level;

pub(super) fn admin(top: &Fields<'_>, findings: &mut Findings) -> Admin {
    let fields = section(top, "admin", Section::Admin, findings);
    let listen = fields.value("listen", findings, values::address);
    let tokens = match fields.entry("tokens").map(|entry| (entry, &entry.node.value)) {
        None => Vec::new(),
        Some((entry, Value::Sequence(nodes))) => read_tokens(entry.at.clone(), nodes, findings),
        Some((_, Value::Null)) => Vec::new(),
        Some((entry, Value::Scalar(_) | Value::Filled(_) | Value::Unfilled | Value::Mapping(_))) => {
            let kind = &fields.key("tokens").kind;
            findings.mistake(entry.at.clone(), "`tokens` is a list", read::accepted(kind));
            Vec::new()
        }
    };
    let gives_tokens = matches!(fields.entry("tokens").map(|entry| &entry.node.value), Some(Value::Sequence(nodes)) if !nodes.is_empty());
    if !listen.ip().is_loopback() && !gives_tokens {
        let reason = "`admin.listen` can be reached from other machines, and there are no `admin.tokens`";
        let help = "add a token, such as `tokens: [{name: ops, token: \"${RELAY_ADMIN_TOKEN}\", can: write}]`, or listen on 127.0.0.1";
        findings.mistake(fields.blame("listen"), reason, help);
    }
    Admin { listen, tokens }
}

/// The place of `admin.listen`, or of `admin`.
pub(super) fn place_of_admin(top: &Fields<'_>) -> Range<usize> {
    let below = top.entry("admin").and_then(|entry| match &entry.node.value {
        Value::Mapping(entries) => {
            entries.iter().find(|inner| inner.name == "listen").map(|inner| inner.blame())
        }
        Value::Null | Value::Scalar(_) | Value::Filled(_) | Value::Unfilled | Value::Sequence(_) => None,
    });
    below.unwrap_or_else(|| top.blame(if top.entry("admin").is_some() { "admin" } else { "listen" }))
}

fn read_tokens(list_at: Range<usize>, nodes: &[Node], findings: &mut Findings) -> Vec<AdminToken> {
    let mut tokens: Vec<AdminToken> = Vec::new();
    for node in nodes {
        // A block mapping begins where its first key does; an empty one is blamed on the list.
        let place = if let Value::Null = node.value { list_at.clone() } else { node.at.clone() };
        let fields = Fields::open(Section::Token, place, node, findings);
        let Some(token) = read_token(&fields, findings) else { continue };
        if tokens.iter().any(|other| other.name == token.name) {
            let help = "the audit tells tokens apart by their names";
            findings.mistake(fields.blame("name"), format!("two tokens are called `{}`", token.name), help);
        }
        tokens.push(token);
    }
    tokens
}

fn read_token(fields: &Fields<'_>, findings: &mut Findings) -> Option<AdminToken> {
    // Tokens are named by the rule of targets: both become labels.
    let name = fields.optional("name", findings, values::name);
    let can = fields.value("can", findings, |text| match text {
        "metrics" => Ok(Scope::Metrics),
        "read" => Ok(Scope::Read),
        "write" => Ok(Scope::Write),
        _ => Err(BadValue::NotAChoice),
    });
    let mut secret = None;
    let digest = match (fields.entry("token"), fields.entry("sha256")) {
        (Some(_), None) => {
            secret = fields.optional("token", findings, admin_secret);
            secret.as_ref().map(|secret| TokenDigest::of(secret.expose()))
        }
        (None, Some(_)) => fields.optional("sha256", findings, |text| {
            TokenDigest::from_hex(text.trim()).ok_or(BadValue::NotASha256)
        }),
        (Some(_), Some(_)) => {
            findings.mistake(
                fields.blame("sha256"),
                "an admin token has both `token` and `sha256`",
                "exactly one of them",
            );
            None
        }
        (None, None) => {
            let help = "exactly one of them, such as `token: \"${RELAY_ADMIN_TOKEN}\"`";
            findings.mistake(fields.blame("token"), "an admin token needs `token` or `sha256`", help);
            None
        }
    };
    Some(AdminToken { name: name?, digest: digest?, secret, can })
}

fn admin_secret(text: &str) -> Result<AdminSecret, BadValue> {
    let text = text.trim();
    if text.is_empty() {
        return Err(BadValue::ShortToken);
    }
    let secret = AdminSecret::parse(text).ok_or(BadValue::NotAToken)?;
    if text.len() < TOKEN_CHARS_MIN { Err(BadValue::ShortToken) } else { Ok(secret) }
}

pub(super) fn log(top: &Fields<'_>, findings: &mut Findings) -> Log {
    let fields = section(top, "log", Section::Log, findings);
    let format = fields.optional("format", findings, |text| match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(BadValue::NotAChoice),
    });
    let level = fields.value("level", findings, |text| level::parse(text).map_err(|_| BadValue::NotAChoice));
    Log { format, level }
}

pub(super) fn limits(top: &Fields<'_>, findings: &mut Findings) -> Limits {
    let fields = section(top, "limits", Section::Limits, findings);
    let mut count = |name: &str| {
        let number = fields.count(name, findings).unwrap_or(0);
        usize::try_from(number).unwrap_or(usize::MAX)
    };
    let connections = count("connections");
    let in_flight = count("in_flight");
    let in_flight_bytes = usize::try_from(fields.size("in_flight_bytes", findings)).unwrap_or(usize::MAX);
    Limits { connections, in_flight, in_flight_bytes, store_size_bytes: fields.size("store_size", findings) }
}
