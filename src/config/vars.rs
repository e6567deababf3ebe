//! Variables: `${X}`, `${X:-default}` and `${file:/path}` inside scalars, filled in after the YAML was parsed, so that a
//! value can never change the structure of the file. `$${` stands for `${`. Keys are not touched.
//!
//! The environment is an argument: two relays in one process can have two. An unset or empty variable without a
//! default is a mistake, never an empty text. No error repeats a value.

use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;

use super::mistakes::Findings;
use super::raw::{Node, Value};
use super::redact::{holds_key, shown_name};

/// Where variables come from.
pub type Env<'e> = dyn Fn(&str) -> Option<String> + 'e;

/// The largest file that `${file:…}` reads: a secret is short, and a wrong path may be a disk image.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Why a reference could not be filled in.
#[derive(Debug, thiserror::Error)]
pub enum BadReference {
    /// There is no such variable.
    #[error("the environment variable {0} is not set")]
    Unset(String),
    /// It is empty.
    #[error("the environment variable {0} is empty")]
    Empty(String),
    /// `${` without `}`.
    #[error("`${{` without a `}}`")]
    Unclosed,
    /// What stands between the braces is no reference.
    #[error("this is not a variable")]
    NotAReference,
    /// The file cannot be read.
    #[error("the file {path} cannot be read: {}", reason_of(.source))]
    File {
        /// Its path.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The file holds nothing.
    #[error("the file {0} is empty")]
    FileEmpty(String),
    /// The file holds more than a value.
    #[error("the file {0} is larger than 64 KiB")]
    FileTooLarge(String),
}

impl BadReference {
    fn help(&self) -> String {
        match self {
            Self::Unset(name) | Self::Empty(name) => {
                format!("set {name}, or give a default: `${{{name}:-default}}`")
            }
            Self::Unclosed | Self::NotAReference => {
                "`${NAME}`, `${NAME:-default}` or `${file:/path}`; `$${` stands for `${` itself".into()
            }
            Self::File { .. } | Self::FileEmpty(_) | Self::FileTooLarge(_) => {
                "`${file:/path}` of a readable file with one value in it".into()
            }
        }
    }
}

/// A reference that could not be filled in, with the part of the text to look for when showing it.
#[derive(Debug)]
pub struct Unfilled {
    /// As it stands in the text.
    pub written: String,
    /// Why.
    pub why: BadReference,
}

/// Fills in every scalar of `node`; `text` is the source that it was parsed from.
pub fn fill(node: &mut Node, text: &str, env: &Env<'_>, findings: &mut Findings) {
    match &mut node.value {
        Value::Scalar(scalar) if scalar.contains("${") => match substitute(scalar, env) {
            Ok(filled) => node.value = Value::Filled(filled),
            Err(bad) => {
                for unfilled in bad {
                    let at = place(text, &node.at, &unfilled.written);
                    findings.mistake(at, unfilled.why.to_string(), unfilled.why.help());
                }
                node.value = Value::Unfilled;
            }
        },
        Value::Null | Value::Scalar(_) | Value::Filled(_) | Value::Unfilled => {}
        Value::Sequence(nodes) => nodes.iter_mut().for_each(|inner| fill(inner, text, env, findings)),
        Value::Mapping(entries) => {
            entries.iter_mut().for_each(|entry| fill(&mut entry.node, text, env, findings))
        }
    }
}

/// Where `written` stands within the scalar at `scalar`, or the whole scalar where escapes hide it.
fn place(text: &str, scalar: &Range<usize>, written: &str) -> Range<usize> {
    text[scalar.clone()].find(written).map_or_else(
        || scalar.clone(),
        |within| {
            let start = scalar.start + within;
            start..start + written.len()
        },
    )
}

/// `text` with its references filled in.
///
/// # Errors
/// Every reference that cannot be.
pub fn substitute(text: &str, env: &Env<'_>) -> Result<String, Vec<Unfilled>> {
    let mut filled = String::with_capacity(text.len());
    let mut bad = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if rest[..start].ends_with('$') {
            filled.push_str(&rest[..start - 1]);
            filled.push_str("${");
            rest = &rest[start + 2..];
            continue;
        }
        filled.push_str(&rest[..start]);
        let Some(len) = rest[start..].find('}') else {
            bad.push(Unfilled { written: "${".into(), why: BadReference::Unclosed });
            rest = "";
            break;
        };
        let written = &rest[start..=start + len];
        match value_of(&written[2..len], env) {
            Ok(value) => filled.push_str(&value),
            Err(why) => bad.push(Unfilled { written: written.to_owned(), why }),
        }
        rest = &rest[start + len + 1..];
    }
    filled.push_str(rest);
    if bad.is_empty() { Ok(filled) } else { Err(bad) }
}

fn value_of(reference: &str, env: &Env<'_>) -> Result<String, BadReference> {
    // A secret in braces would be repeated as a name or a path.
    if holds_key(reference) {
        return Err(BadReference::NotAReference);
    }
    if let Some(path) = reference.strip_prefix("file:") {
        return file(path.trim());
    }
    let (name, default) = match reference.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    if !is_variable(name) || default.is_some_and(|text| text.contains("${")) {
        return Err(BadReference::NotAReference);
    }
    match (env(name), default) {
        (Some(value), _) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (Some(_), None) => Err(BadReference::Empty(shown_name(name))),
        (None, None) => Err(BadReference::Unset(shown_name(name))),
    }
}

/// Why a file cannot be read, for people.
pub fn reason_of(error: &io::Error) -> String {
    let known = [
        (io::ErrorKind::NotFound, "there is no such file"),
        (io::ErrorKind::PermissionDenied, "its permissions do not allow it"),
        (io::ErrorKind::IsADirectory, "it is a folder"),
        (io::ErrorKind::InvalidData, "it is not text"),
    ];
    let words = known.into_iter().find(|(kind, _)| *kind == error.kind()).map(|(_, words)| words.to_owned());
    words.unwrap_or_else(|| error.kind().to_string())
}

/// Whether `name` is a name that a shell could export.
pub fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn file(path: &str) -> Result<String, BadReference> {
    let unreadable = |source| BadReference::File { path: path.to_owned(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(BadReference::FileTooLarge(path.to_owned()));
    }
    match text.trim() {
        "" => Err(BadReference::FileEmpty(path.to_owned())),
        trimmed => Ok(trimmed.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("example.com".into()),
            "PORT" => Some("80".into()),
            "NESTED" => Some("${HOST}".into()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn references_are_filled_in_anywhere_in_a_text() {
        for (text, filled) in [
            ("http://${HOST}:${PORT}/x", "http://example.com:80/x"),
            ("${MISSING:-none}", "none"),
            ("${EMPTY:-none}", "none"),
            ("${MISSING:-}", ""),
            ("${MISSING:-a:-b}", "a:-b"),
            ("$${HOST}", "${HOST}"),
            ("$$${HOST}", "$${HOST}"),
            ("$HOST {HOST} $ 5$", "$HOST {HOST} $ 5$"),
        ] {
            assert_eq!(substitute(text, &env).unwrap(), filled, "{text}");
        }
    }

    #[test]
    fn a_value_is_not_looked_into_again() {
        assert_eq!(substitute("${NESTED}", &env).unwrap(), "${HOST}");
    }

    #[test]
    fn every_bad_reference_is_told_by_its_name() {
        let bad = substitute("${ONE} ${HOST} ${EMPTY} ${a b} ${X:?y} ${", &env).unwrap_err();
        let told: Vec<String> = bad.iter().map(|unfilled| unfilled.why.to_string()).collect();
        assert_eq!(
            told,
            [
                "the environment variable ONE is not set",
                "the environment variable EMPTY is empty",
                "this is not a variable",
                "this is not a variable",
                "`${` without a `}`",
            ]
        );
    }

    #[test]
    fn a_file_is_trimmed_and_an_empty_absent_or_huge_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("good"), " secret\n\n").unwrap();
        std::fs::write(path("empty"), "\n").unwrap();
        std::fs::write(path("huge"), "x".repeat(70_000)).unwrap();
        assert_eq!(substitute(&format!("a ${{file:{}}} b", path("good")), &env).unwrap(), "a secret b");
        for name in ["empty", "absent", "huge"] {
            assert!(substitute(&format!("${{file:{}}}", path(name)), &env).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(\\$|\\{|\\}|:-|HOST|file:|é|[ -~]){0,12}") {
            let _ = substitute(&text, &env);
        }

        #[test]
        fn text_without_references_stays_as_it_is(text in "[^$]{0,40}") {
            prop_assert_eq!(substitute(&text, &env).unwrap(), text);
        }
    }
}
