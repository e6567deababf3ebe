//! Text → checked configuration. Every section is read to its end whatever is wrong before it, so that all mistakes
//! are told at once.
//!
//! Reads files only where the text says so (`${file:…}`, PEM files); the environment is an argument.

mod breaker;
mod operate;
mod pem;
mod source;
mod store;
mod target;

use std::ops::Range;
use std::sync::Arc;

use super::keys::{self, Kind, Section};
use super::mistakes::{Findings, Mistakes, Page, Warning};
use super::raw::{self, Node, Value};
use super::read::{self, Fields};
use super::vars::{self, Env};
use super::{Config, TypeFilter, fingerprint, redact, values};
use crate::event::catalog::{KNOWN_TYPES, UNKNOWN_TYPE};

/// Reads the configuration `text`, which is called `name` in mistakes. Variables are looked up in `env`.
///
/// # Errors
/// All mistakes at once, each with its place. No output repeats a secret or the value of a variable.
pub fn load(text: &str, name: &str, env: &Env<'_>) -> Result<(Config, Vec<Warning>), Mistakes> {
    const EXAMPLE: &str = "`clerk-relay init` writes an example to start from";
    let mut document = raw::parse(text).map_err(|flaw| {
        let page = Page::new(name, text, redact::hidden_unparsed(text));
        let help = syntax_help(text, &flaw.at);
        Mistakes::one(&page, flaw.at, flaw.reason, help)
    })?;
    let page = Page::new(name, text, redact::hidden(text, &document.root));
    match document.root.value {
        Value::Mapping(_) => {}
        Value::Null => return Err(Mistakes::one(&page, 0..0, "the configuration is empty", EXAMPLE)),
        Value::Scalar(_) | Value::Filled(_) | Value::Unfilled | Value::Sequence(_) => {
            return Err(Mistakes::one(
                &page,
                document.root.at,
                "the configuration is a mapping of keys",
                EXAMPLE,
            ));
        }
    }
    let mut findings = Findings::default();
    for flaw in document.flaws {
        findings.mistake(flaw.at, flaw.reason, "");
    }
    vars::fill(&mut document.root, text, env, &mut findings);
    let mut config = read_top(&document.root, &mut findings);
    config.fingerprint = fingerprint::of(&config);
    findings.conclude(&page, config)
}

/// What most often breaks a file: a text that begins with a character that means something to YAML.
fn syntax_help(text: &str, at: &Range<usize>) -> &'static str {
    let line_start = text[..at.start].rfind('\n').map_or(0, |newline| newline + 1);
    let before = text[line_start..at.end].trim_end_matches([']', ',', '}', ' ', '\n']);
    let begins_oddly = before.ends_with(['*', '&', '@', '%', '`', '!']) || before.contains('*');
    if begins_oddly {
        "a text that begins with `*`, `&`, `@`, `%`, `!` or a backtick has to be quoted: \"*.created\""
    } else {
        ""
    }
}

fn read_top(root: &Node, findings: &mut Findings) -> Config {
    let top = Fields::open(Section::Top, 0..0, root, findings);
    let listen = top.value("listen", findings, values::address);
    let admin = operate::admin(&top, findings);
    if collide(listen, admin.listen) {
        let reason = "`admin.listen` is the same address as `listen`";
        findings.mistake(operate::place_of_admin(&top), reason, "an address with another port");
    }
    let limits = operate::limits(&top, findings);
    let (sources, declared) = source::read(&top, &limits, findings);
    let targets = target::read(&top, &sources, &declared, findings);
    Config {
        listen,
        sources: sources.into_iter().map(Arc::new).collect(),
        targets: targets.into_iter().map(Arc::new).collect(),
        store: store::read(&top, findings),
        admin,
        log: operate::log(&top, findings),
        limits,
        trusted_proxies: networks(&top, "trusted_proxies", findings),
        idle_timeout: top.duration("idle_timeout", findings),
        shutdown_grace: top.duration("shutdown_grace", findings),
        shutdown_delay: top.duration("shutdown_delay", findings),
        fingerprint: String::new(),
    }
}

/// Whether two listeners would be in each other's way. Port 0 is a free port each time.
fn collide(one: std::net::SocketAddr, other: std::net::SocketAddr) -> bool {
    let overlap = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && overlap
}

/// The keys of a section that stands below one key; without the key, all its defaults.
fn section<'n>(above: &Fields<'n>, name: &str, section: Section, findings: &mut Findings) -> Fields<'n> {
    static NOTHING: Node = Node { at: 0..0, value: Value::Null };
    match above.entry(name) {
        Some(entry) => Fields::open(section, entry.at.clone(), &entry.node, findings),
        None => Fields::open(section, above.blame(name), &NOTHING, findings),
    }
}

fn networks(fields: &Fields<'_>, name: &str, findings: &mut Findings) -> Vec<ipnet::IpNet> {
    let scalars = fields.list(name, findings).unwrap_or_default();
    let kind = &fields.key(name).kind;
    scalars.iter().filter_map(|scalar| read::parsed(scalar, name, kind, findings, values::network)).collect()
}

/// The filter of a key with patterns, where it is given. A pattern that none of Clerk's types matches is a warning.
fn patterns(fields: &Fields<'_>, name: &str, findings: &mut Findings) -> Option<TypeFilter> {
    let scalars = fields.list(name, findings)?;
    let mut patterns = Vec::new();
    for scalar in scalars {
        let Some(pattern) = read::parsed(&scalar, name, &Kind::Patterns, findings, values::pattern) else {
            continue;
        };
        let filter = values::filter(std::slice::from_ref(&pattern));
        if !KNOWN_TYPES.iter().chain([&UNKNOWN_TYPE]).any(|known| filter.matches(known)) {
            let help = match keys::nearest(&pattern, KNOWN_TYPES.into_iter()) {
                Some(near) if scalar.origin == read::Origin::Written => format!("did you mean `{near}`?"),
                Some(_) | None => "types look like `user.created`; a `*` does not cross a dot".into(),
            };
            findings.warn(
                scalar.at,
                format!("`{name}` has a pattern that matches none of Clerk's event types"),
                help,
            );
        }
        patterns.push(pattern);
    }
    Some(values::filter(&patterns))
}
