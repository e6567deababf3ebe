//! The one table of keys. What a file may say, what is refused, the JSON Schema and the reference in the README are
//! all read from it, so that they cannot disagree.
//!
//! Knows nothing of YAML or of a particular file. Invariant: a default given as text parses as the key's kind.

pub mod table;

use std::fmt::Write as _;
use std::time::Duration;

pub use table::{KEYS, PLANNED};

/// A mapping of the file with keys of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// The file itself.
    Top,
    /// One of `sources`.
    Source,
    /// One of `targets`.
    Target,
    /// `retry` of a target.
    Retry,
    /// `breaker` of a target.
    Breaker,
    /// `store`.
    Store,
    /// `tls` of the store.
    Tls,
    /// `admin`.
    Admin,
    /// One of `admin.tokens`.
    Token,
    /// `log`.
    Log,
    /// `limits`.
    Limits,
}

impl Section {
    /// All of them, in the order of the reference.
    pub const ALL: [Self; 11] = [
        Self::Top,
        Self::Source,
        Self::Target,
        Self::Retry,
        Self::Breaker,
        Self::Store,
        Self::Tls,
        Self::Admin,
        Self::Token,
        Self::Log,
        Self::Limits,
    ];

    /// What stands before a key's name in its full path.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Top => "",
            Self::Source => "sources.<name>.",
            Self::Target => "targets.<name>.",
            Self::Retry => "targets.<name>.retry.",
            Self::Breaker => "targets.<name>.breaker.",
            Self::Store => "store.",
            Self::Tls => "store.tls.",
            Self::Admin => "admin.",
            Self::Token => "admin.tokens[].",
            Self::Log => "log.",
            Self::Limits => "limits.",
        }
    }

    /// The section for people, as in "`urll` is not a key of a target".
    pub fn title(self) -> &'static str {
        match self {
            Self::Top => "the top level",
            Self::Source => "a source",
            Self::Target => "a target",
            Self::Retry => "`retry`",
            Self::Breaker => "`breaker`",
            Self::Store => "`store`",
            Self::Tls => "`tls`",
            Self::Admin => "`admin`",
            Self::Token => "an admin token",
            Self::Log => "`log`",
            Self::Limits => "`limits`",
        }
    }
}

/// What a key's value looks like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Any text that is not empty.
    Text,
    /// A name by the rule of sources and targets.
    Name,
    /// `IP:PORT`.
    Address,
    /// The path of a URL.
    Path,
    /// An http or https URL of a target.
    Url,
    /// An http or https URL of a proxy; may carry credentials.
    ProxyUrl,
    /// `sqlite:PATH`, or the address of a Redis; may carry credentials.
    StoreUrl,
    /// A PEM file with certificates.
    PemFile,
    /// A PEM file with a private key.
    PemKeyFile,
    /// A duration within these bounds.
    Duration {
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
    /// A size in bytes within these bounds.
    Size {
        /// The smallest, in bytes.
        min: u64,
        /// The largest, in bytes.
        max: u64,
    },
    /// A whole number within these bounds.
    Count {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// A number within these bounds.
    Number {
        /// The smallest.
        min: f64,
        /// The largest.
        max: f64,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A signing secret.
    SigningSecret,
    /// A list of signing secrets.
    SigningSecrets,
    /// An admin token.
    Token,
    /// The SHA-256 of an admin token, in hex.
    TokenSha256,
    /// A list of patterns on event types.
    Patterns,
    /// A list of address ranges.
    Networks,
    /// A list of names of sources.
    SourceNames,
    /// A mapping of header names to values; the values may be secret.
    Headers,
    /// A mapping of event types to durations.
    Expiries {
        /// The shortest.
        min: Duration,
        /// The longest.
        max: Duration,
    },
    /// A mapping with the keys of this section.
    One(Section),
    /// The same, or the word `off`.
    OneOrOff(Section),
    /// A mapping of names to mappings with the keys of this section.
    Named(Section),
    /// A list of mappings with the keys of this section.
    Many(Section),
}

/// Whether a value may be shown to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// Always.
    Shown,
    /// Unless it carries credentials or a query.
    ShownWithoutCredentials,
    /// Never: it is a secret, or no single value at all.
    Hidden,
}

impl Kind {
    /// What is accepted, in words.
    pub fn accepted(&self) -> String {
        match self {
            Self::Text => "text".into(),
            Self::Name => "1 to 40 characters of a-z, 0-9, `_` and `-`".into(),
            Self::Address => "`IP:PORT` or `localhost:PORT`, such as `0.0.0.0:8080` or `[::1]:8081`".into(),
            Self::Path => "a path such as `/webhooks/clerk`, not below `/health`".into(),
            Self::Url => "an http or https URL, such as `https://app.example.com/api/webhooks/clerk`".into(),
            Self::ProxyUrl => "an http or https URL, such as `http://proxy.internal:3128`".into(),
            Self::StoreUrl => "`sqlite:PATH`, such as `sqlite:/data/relay.db`; or a Redis: `redis://HOST`, \
                `redis+cluster://HOST,HOST`, `redis+sentinel://HOST,HOST/MASTER` (each with TLS as `rediss…`), \
                `redis+unix:///PATH`"
                .into(),
            Self::PemFile => "the path of a file with PEM certificates".into(),
            Self::PemKeyFile => "the path of a file with a PEM private key".into(),
            Self::Duration { min, max } => {
                format!("a duration from {} to {}", show(*min), show(*max))
            }
            Self::Size { min, max } => {
                format!("a size from {} to {}", show_size(*min), show_size(*max))
            }
            Self::Count { min, max } => format!("a whole number from {min} to {max}"),
            Self::Number { min, max } => format!("a number from {min} to {max}"),
            Self::Choice(words) => {
                let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
                format!("one of {}", words.join(", "))
            }
            Self::SigningSecret => "`whsec_…` as Clerk's dashboard shows it, best as `${VARIABLE}`".into(),
            Self::SigningSecrets => {
                "a list of `whsec_…`, the newest first, best as `[\"${VARIABLE}\"]`".into()
            }
            Self::Token => "at least 16 characters, best as `${VARIABLE}`".into(),
            Self::TokenSha256 => "the SHA-256 of the token as 64 hex digits".into(),
            Self::Patterns => {
                "a list of event types; `*` stands for a part of one, such as `[\"user.*\"]`".into()
            }
            Self::Networks => "a list of addresses or ranges, such as `[10.0.0.0/8, 192.0.2.7]`".into(),
            Self::SourceNames => "a list of names from `sources`".into(),
            Self::Headers => "header names, each with a text".into(),
            Self::Expiries { min, max } => {
                format!("event types, each with a duration from {} to {}, or `never`", show(*min), show(*max))
            }
            Self::One(section) => format!("keys: {}", names(*section)),
            Self::OneOrOff(section) => format!("`off`, or keys: {}", names(*section)),
            Self::Named(section) => format!("names, each with keys: {}", names(*section)),
            Self::Many(section) => format!("a list, each with keys: {}", names(*section)),
        }
    }

    /// Whether values of this kind may be shown.
    pub fn visibility(&self) -> Visibility {
        match self {
            Self::Text
            | Self::Name
            | Self::Address
            | Self::Path
            | Self::PemFile
            | Self::PemKeyFile
            | Self::Duration { .. }
            | Self::Size { .. }
            | Self::Count { .. }
            | Self::Number { .. }
            | Self::Choice(_)
            | Self::Patterns
            | Self::Networks
            | Self::SourceNames
            | Self::Expiries { .. }
            | Self::OneOrOff(_) => Visibility::Shown,
            Self::Url | Self::ProxyUrl | Self::StoreUrl => Visibility::ShownWithoutCredentials,
            Self::SigningSecret
            | Self::SigningSecrets
            | Self::Token
            | Self::TokenSha256
            | Self::Headers
            | Self::One(_)
            | Self::Named(_)
            | Self::Many(_) => Visibility::Hidden,
        }
    }
}

/// What holds where a key is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// It may not be left out.
    Required,
    /// As if this text were there.
    Value(&'static str),
    /// This, in words.
    Told(&'static str),
}

/// One key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Key {
    /// Where it may stand.
    pub section: Section,
    /// Its name.
    pub name: &'static str,
    /// What its value looks like.
    pub kind: Kind,
    /// What holds without it.
    pub absent: Absent,
    /// What it does, in one line.
    pub doc: &'static str,
    /// A value, as it stands in YAML.
    pub example: &'static str,
}

/// The keys of `section`, in the order of the reference.
pub fn of(section: Section) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.section == section)
}

/// The key `name` of `section`.
pub fn find(section: Section, name: &str) -> Option<&'static Key> {
    of(section).find(|key| key.name == name)
}

/// Whether `name` is a key of `section` that a later version will know.
pub fn is_planned(section: Section, name: &str) -> bool {
    PLANNED.contains(&(section, name))
}

/// What an unknown key was probably meant to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Guess {
    /// A key of the same section, misspelt.
    Misspelt(&'static Key),
    /// A key of another section.
    Misplaced(&'static Key),
}

/// Guesses what the unknown key `name` of `section` was meant to be.
pub fn guess(section: Section, name: &str) -> Option<Guess> {
    let lower = name.to_lowercase().replace('-', "_");
    if let Some(near) = nearest(&lower, of(section).map(|key| key.name)) {
        return find(section, near).map(Guess::Misspelt);
    }
    KEYS.iter().find(|key| key.name == lower && key.section != section).map(Guess::Misplaced)
}

/// The one of `known` that `word` is a likely misspelling of.
pub fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    // A third of the letters may be wrong; more, and the guess would mislead.
    let distance_max = (word.chars().count() / 3).clamp(1, 4);
    known
        .map(|candidate| (strsim::osa_distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= distance_max)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The names of a section's keys, for people.
pub fn names(section: Section) -> String {
    of(section).map(|key| format!("`{}`", key.name)).collect::<Vec<_>>().join(", ")
}

/// The reference of all keys as a Markdown table, as it stands in the README.
pub fn reference() -> String {
    let mut table = String::from("| Key | Default | What it does |\n|---|---|---|\n");
    for key in Section::ALL.into_iter().flat_map(of) {
        let default = match key.absent {
            Absent::Required => "required".into(),
            // A release is no reason to change the README.
            Absent::Value(text) => format!("`{}`", text.replace(env!("CARGO_PKG_VERSION"), "<version>")),
            Absent::Told(words) => words.to_owned(),
        };
        let has_own_keys =
            matches!(key.kind, Kind::One(_) | Kind::OneOrOff(_) | Kind::Named(_) | Kind::Many(_));
        let accepted = if has_own_keys { String::new() } else { format!(" Takes {}.", key.kind.accepted()) };
        let doc = format!("{}{accepted}", key.doc).replace('|', "\\|");
        // Writing into a String cannot fail.
        let _ = writeln!(table, "| `{}{}` | {default} | {doc} |", key.section.prefix(), key.name);
    }
    table
}

/// A duration in the largest units that show it exactly.
pub fn show(duration: Duration) -> String {
    const UNITS: [(u128, &str); 5] =
        [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")];
    let mut rest_ms = duration.as_millis();
    let mut parts = Vec::new();
    for (unit_ms, unit) in UNITS {
        if rest_ms >= unit_ms {
            parts.push(format!("{}{unit}", rest_ms / unit_ms));
            rest_ms %= unit_ms;
        }
    }
    if parts.is_empty() { "0s".into() } else { parts.join(" ") }
}

/// A size in the largest unit that shows it exactly.
pub fn show_size(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.into_iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{} {name}", bytes / unit),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_once_in_the_table_and_is_not_planned_as_well() {
        for (index, key) in KEYS.iter().enumerate() {
            let same = |other: &Key| other.section == key.section && other.name == key.name;
            assert!(!KEYS[index + 1..].iter().any(same), "{}{} stands twice", key.section.prefix(), key.name);
            assert!(!is_planned(key.section, key.name), "{} is planned and known", key.name);
        }
    }

    #[test]
    fn a_misspelt_key_is_guessed_and_a_strange_one_is_not() {
        let misspelt = |name| match guess(Section::Target, name) {
            Some(Guess::Misspelt(key)) => Some(key.name),
            Some(Guess::Misplaced(_)) | None => None,
        };
        assert_eq!(misspelt("evnets"), Some("events"));
        assert_eq!(misspelt("signing-secret"), Some("signing_secret"));
        assert_eq!(misspelt("Timeout"), Some("timeout"));
        assert_eq!(misspelt("colour"), None);
        assert!(
            matches!(guess(Section::Top, "retention"), Some(Guess::Misplaced(key)) if key.section == Section::Store)
        );
    }

    #[test]
    fn durations_are_shown_exactly() {
        assert_eq!(show(Duration::from_secs(7 * 86400)), "7d");
        assert_eq!(show(Duration::from_secs(90)), "1m 30s");
        assert_eq!(show(Duration::from_millis(100)), "100ms");
        assert_eq!(show(Duration::ZERO), "0s");
    }
}
