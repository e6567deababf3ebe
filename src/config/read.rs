//! Typed reading of one mapping by the table of keys: unknown keys are told once, a value that is wrong is told and
//! then stood in for by its default, so that reading goes on and finds the other mistakes.
//!
//! Knows the shape of the table, but not what any key means.

use std::ops::Range;
use std::time::Duration;

use super::keys::{self, Absent, Guess, Key, Kind, Section};
use super::mistakes::Findings;
use super::raw::{Entry, Node, Value};
use super::redact::shown_name;
use super::values::{self, BadValue};

/// A scalar with its text and place.
#[derive(Debug, Clone)]
pub struct Scalar<'n> {
    /// Its text, variables filled in.
    pub text: &'n str,
    /// Where it stands.
    pub at: Range<usize>,
    /// Whether the text stands in the file as it is, so that a hint may build on it.
    pub origin: Origin,
}

/// Where the text of a scalar comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// From the file.
    Written,
    /// From a variable, at least in part.
    Filled,
}

/// The known keys of one mapping of a section.
pub struct Fields<'n> {
    section: Section,
    /// What to blame for a key that is missing.
    place: Range<usize>,
    found: Vec<(&'static Key, &'n Entry)>,
}

impl<'n> Fields<'n> {
    /// The keys of `node`, which is to be a mapping of `section`. Nothing at all is an empty mapping. What is missing
    /// will be blamed on `place`.
    pub fn open(section: Section, place: Range<usize>, node: &'n Node, findings: &mut Findings) -> Self {
        let entries: &[Entry] = match &node.value {
            Value::Mapping(entries) => entries,
            Value::Null | Value::Unfilled => &[],
            Value::Scalar(_) | Value::Filled(_) | Value::Sequence(_) => {
                let help = format!("keys: {}", keys::names(section));
                findings.mistake(place.clone(), format!("{} is a mapping of keys", section.title()), help);
                &[]
            }
        };
        let mut found: Vec<(&'static Key, &'n Entry)> = Vec::new();
        for entry in entries {
            match keys::find(section, &entry.name) {
                // A key that stands twice was told when the text was parsed.
                Some(key) if found.iter().any(|(other, _)| other.name == key.name) => {}
                Some(key) => found.push((key, entry)),
                None => refuse(section, entry, findings),
            }
        }
        Self { section, place, found }
    }

    /// The entry of a key, where it is given.
    pub fn entry(&self, name: &str) -> Option<&'n Entry> {
        self.found.iter().find(|(key, _)| key.name == name).map(|(_, entry)| *entry)
    }

    /// What to blame for the value of a key: the value, or where it is not given, the mapping.
    pub fn blame(&self, name: &str) -> Range<usize> {
        self.entry(name).map_or_else(|| self.place.clone(), Entry::blame)
    }

    /// The key's row in the table.
    pub fn key(&self, name: &str) -> &'static Key {
        keys::find(self.section, name).expect("only keys of the table are read, which a test shows")
    }

    /// The text of a key's value. A list, a mapping or nothing in its place is told.
    pub fn scalar(&self, name: &str, findings: &mut Findings) -> Option<Scalar<'n>> {
        let Some(entry) = self.entry(name) else {
            self.tell_missing(name, findings);
            return None;
        };
        scalar(&entry.node, entry.at.clone(), name, &self.key(name).kind, findings)
    }

    /// Tells that a required key is missing.
    pub fn tell_missing(&self, name: &str, findings: &mut Findings) {
        let key = self.key(name);
        if key.absent == Absent::Required {
            let reason = format!("{} needs `{name}`", self.section.title());
            findings.mistake(self.place.clone(), reason, format!("for example `{name}: {}`", key.example));
        }
    }

    /// The value of a key, where it is given and right.
    pub fn optional<T>(
        &self, name: &str, findings: &mut Findings, parse: impl Fn(&str) -> Result<T, BadValue>,
    ) -> Option<T> {
        let scalar = self.scalar(name, findings)?;
        parsed(&scalar, name, &self.key(name).kind, findings, parse)
    }

    /// The value of a key that has a default in the table, read by `parse`.
    pub fn value<T>(
        &self, name: &str, findings: &mut Findings, parse: impl Fn(&str) -> Result<T, BadValue>,
    ) -> T {
        if let Some(value) = self.optional(name, findings, &parse) {
            return value;
        }
        let default = match self.key(name).absent {
            Absent::Value(text) => parse(text).ok(),
            Absent::Required | Absent::Told(_) => None,
        };
        default.expect("keys read this way have a default that parses, which a test shows")
    }

    /// The duration of a key with bounds and a default.
    pub fn duration(&self, name: &str, findings: &mut Findings) -> Duration {
        let bounds = if let Kind::Duration { min, max } = self.key(name).kind {
            (min, max)
        } else {
            (Duration::ZERO, Duration::MAX)
        };
        self.value(name, findings, |text| values::duration_within(text, bounds.0, bounds.1))
    }

    /// The size in bytes of a key with bounds and a default.
    pub fn size(&self, name: &str, findings: &mut Findings) -> u64 {
        let bounds =
            if let Kind::Size { min, max } = self.key(name).kind { (min, max) } else { (0, u64::MAX) };
        self.value(name, findings, |text| values::size_within(text, bounds.0, bounds.1))
    }

    /// The whole number of a key with bounds; `None` where it is not given and has no default.
    pub fn count(&self, name: &str, findings: &mut Findings) -> Option<u64> {
        let bounds =
            if let Kind::Count { min, max } = self.key(name).kind { (min, max) } else { (0, u64::MAX) };
        let parse = |text: &str| values::count_within(text, bounds.0, bounds.1);
        match self.key(name).absent {
            Absent::Value(_) => Some(self.value(name, findings, parse)),
            Absent::Required | Absent::Told(_) => self.optional(name, findings, parse),
        }
    }

    /// The number of a key with bounds and a default.
    pub fn number(&self, name: &str, findings: &mut Findings) -> f64 {
        let bounds = if let Kind::Number { min, max } = self.key(name).kind {
            (min, max)
        } else {
            (f64::MIN, f64::MAX)
        };
        self.value(name, findings, |text| values::number_within(text, bounds.0, bounds.1))
    }

    /// The scalars of a key that is a list; `None` where it is not given or is no list.
    pub fn list(&self, name: &str, findings: &mut Findings) -> Option<Vec<Scalar<'n>>> {
        let Some(entry) = self.entry(name) else {
            self.tell_missing(name, findings);
            return None;
        };
        let kind = &self.key(name).kind;
        match &entry.node.value {
            Value::Sequence(nodes) => Some(
                nodes
                    .iter()
                    .filter_map(|node| scalar(node, entry.at.clone(), name, kind, findings))
                    .collect(),
            ),
            Value::Unfilled => None,
            Value::Null => {
                findings.mistake(entry.at.clone(), format!("`{name}` has no value"), accepted(kind));
                None
            }
            Value::Scalar(_) | Value::Filled(_) | Value::Mapping(_) => {
                findings.mistake(entry.blame(), format!("`{name}` is a list"), accepted(kind));
                None
            }
        }
    }
}

/// What a kind accepts, as the help of a mistake.
pub fn accepted(kind: &Kind) -> String {
    format!("accepted: {}", kind.accepted())
}

/// The pairs of a mapping whose keys are chosen by the operator. Anything but a mapping or nothing is told.
pub fn pairs<'n>(entry: &'n Entry, kind: &Kind, findings: &mut Findings) -> &'n [Entry] {
    match &entry.node.value {
        Value::Mapping(entries) => entries,
        Value::Null | Value::Unfilled => &[],
        Value::Scalar(_) | Value::Filled(_) | Value::Sequence(_) => {
            findings.mistake(entry.blame(), format!("`{}` is a mapping", entry.name), accepted(kind));
            &[]
        }
    }
}

/// The text of `node`, the value or an element of the key `name` at `key_at`. Anything but a scalar is told.
pub fn scalar<'n>(
    node: &'n Node, key_at: Range<usize>, name: &str, kind: &Kind, findings: &mut Findings,
) -> Option<Scalar<'n>> {
    match &node.value {
        Value::Scalar(text) => Some(Scalar { text, at: node.at.clone(), origin: Origin::Written }),
        Value::Filled(text) => Some(Scalar { text, at: node.at.clone(), origin: Origin::Filled }),
        Value::Unfilled => None,
        Value::Null => {
            findings.mistake(key_at, format!("`{name}` has no value"), accepted(kind));
            None
        }
        Value::Sequence(_) => {
            findings.mistake(key_at, format!("`{name}` takes no list here"), accepted(kind));
            None
        }
        Value::Mapping(_) => {
            findings.mistake(key_at, format!("`{name}` takes no mapping here"), accepted(kind));
            None
        }
    }
}

/// The value of a scalar; what is wrong with it is told, with the nearest word where words are accepted.
pub fn parsed<T>(
    scalar: &Scalar<'_>, name: &str, kind: &Kind, findings: &mut Findings,
    parse: impl Fn(&str) -> Result<T, BadValue>,
) -> Option<T> {
    match parse(scalar.text) {
        Ok(value) => Some(value),
        Err(bad) => {
            let near = match (kind, scalar.origin) {
                (Kind::Choice(words), Origin::Written) => {
                    keys::nearest(&scalar.text.to_lowercase(), words.iter().copied())
                }
                (_, Origin::Written | Origin::Filled) => None,
            };
            let help = match near {
                Some(word) => format!("did you mean `{word}`? Accepted: {}", kind.accepted()),
                None => accepted(kind),
            };
            findings.mistake(scalar.at.clone(), format!("`{name}` {bad}"), help);
            None
        }
    }
}

fn refuse(section: Section, entry: &Entry, findings: &mut Findings) {
    let place = section.title();
    let known = format!("keys of {place}: {}", keys::names(section));
    if keys::is_planned(section, &entry.name) {
        let reason = format!("`{}` is not available in this version", entry.name);
        return findings.mistake(entry.at.clone(), reason, "leave it out");
    }
    let reason = format!("`{}` is not a key of {place}", shown_name(&entry.name));
    let help = match keys::guess(section, &entry.name) {
        Some(Guess::Misspelt(key)) => format!("did you mean `{}`?", key.name),
        Some(Guess::Misplaced(key)) => format!("did you mean `{}{}`?", key.section.prefix(), key.name),
        None => known,
    };
    findings.mistake(entry.at.clone(), reason, help);
}
