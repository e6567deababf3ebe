//! YAML text → a tree in which every value knows its place in the text. Nothing is interpreted: a scalar is its text,
//! whether it was quoted or not, so that `1.10` stays `1.10` and a number may come out of a variable.
//!
//! Knows no keys and no variables. Anchors and aliases work; merge keys (`<<`) do not, because what a merge overrides
//! would not be in the tree and so could not be hidden from error messages.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{MessageFormatter as _, Spanned, UserMessageFormatter};

/// A value and where it stands, in bytes. Mappings and block lists have a place but no extent.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it stands.
    pub at: Range<usize>,
    /// What it is.
    pub value: Value,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing, or `~`.
    Null,
    /// Text as written, without quotes.
    Scalar(String),
    /// Text that variables were filled into.
    Filled(String),
    /// A scalar whose variables could not be filled in; this was told already.
    Unfilled,
    /// A list.
    Sequence(Vec<Node>),
    /// A mapping, in the order of the text.
    Mapping(Vec<Entry>),
}

/// One pair of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key's text.
    pub name: String,
    /// Where the key stands.
    pub at: Range<usize>,
    /// The value.
    pub node: Node,
}

impl Entry {
    /// Whether the value is a list without elements.
    pub fn is_empty_list(&self) -> bool {
        matches!(&self.node.value, Value::Sequence(nodes) if nodes.is_empty())
    }

    /// The place to blame for a bad value: the value where it is one, else the key.
    pub fn blame(&self) -> Range<usize> {
        match self.node.value {
            Value::Scalar(_) | Value::Filled(_) | Value::Unfilled => self.node.at.clone(),
            Value::Null | Value::Sequence(_) | Value::Mapping(_) => self.at.clone(),
        }
    }
}

/// Something wrong with the text itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Flaw {
    /// Where.
    pub at: Range<usize>,
    /// What.
    pub reason: String,
}

/// A parsed text.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its outermost value.
    pub root: Node,
    /// Keys that stand twice (the first counts) or are no text.
    pub flaws: Vec<Flaw>,
}

/// Parses one YAML document.
///
/// # Errors
/// The first syntax error; there is no tree then.
pub fn parse(text: &str) -> Result<Document, Flaw> {
    let options = serde_saphyr::options! {
        // Told together with all other mistakes, rather than alone.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::AsOrdinary,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        with_snippet: false,
    };
    let parsed: Spanned<Any> =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| syntax_flaw(text, &error))?;
    let mut flaws = Vec::new();
    let root = node(text, parsed, &mut flaws);
    Ok(Document { root, flaws })
}

fn syntax_flaw(text: &str, error: &serde_saphyr::Error) -> Flaw {
    let inner = error.without_snippet();
    let start = error.location().map_or(0, |location| offset(text, location.line(), location.column()));
    let end = text[start..].chars().next().map_or(start, |c| start + c.len_utf8());
    let reason = if matches!(inner, serde_saphyr::Error::MultipleDocuments { .. }) {
        "there is a second document after `---`; the file is one document".into()
    } else {
        let message = UserMessageFormatter.format_message(inner).replace(char::is_control, " ");
        format!("not valid YAML: {message}")
    };
    Flaw { at: start..end, reason }
}

/// The byte offset of a line and column, both counted from 1 in characters, and always within `text`.
fn offset(text: &str, line: u64, column: u64) -> usize {
    let lines_before = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
    let chars_before = usize::try_from(column.saturating_sub(1)).unwrap_or(usize::MAX);
    let line_start = text.split_inclusive('\n').take(lines_before).map(str::len).sum::<usize>();
    let rest = &text[line_start..];
    line_start + rest.chars().take_while(|&c| c != '\n').take(chars_before).map(char::len_utf8).sum::<usize>()
}

/// What the YAML library tells of a value. Numbers and booleans are not kept: their text is read from the source.
enum Any {
    Null,
    Plain,
    Text(String),
    Sequence(Vec<Spanned<Any>>),
    Mapping(Vec<(Spanned<Any>, Spanned<Any>)>),
}

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyVisitor)
    }
}

struct AnyVisitor;

impl<'de> Visitor<'de> for AnyVisitor {
    type Value = Any;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_unit<E>(self) -> Result<Any, E> {
        Ok(Any::Null)
    }

    fn visit_none<E>(self) -> Result<Any, E> {
        Ok(Any::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Any, E> {
        Ok(Any::Plain)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Any, E> {
        Ok(Any::Plain)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Any, E> {
        Ok(Any::Plain)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Any, E> {
        Ok(Any::Plain)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Any, E> {
        Ok(Any::Plain)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Any, E> {
        Ok(Any::Plain)
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Any, E> {
        Ok(Any::Text(String::from_utf8_lossy(bytes).into_owned()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Any, E> {
        Ok(Any::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Any, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = items.next_element()? {
            nodes.push(node);
        }
        Ok(Any::Sequence(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Any, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = pairs.next_entry()? {
            entries.push(entry);
        }
        Ok(Any::Mapping(entries))
    }
}

fn node(text: &str, spanned: Spanned<Any>, flaws: &mut Vec<Flaw>) -> Node {
    let at = place(text, &spanned);
    let value = match spanned.value {
        Any::Null => Value::Null,
        Any::Plain => Value::Scalar(text[at.clone()].trim().to_owned()),
        Any::Text(text) => Value::Scalar(text),
        Any::Sequence(nodes) => {
            Value::Sequence(nodes.into_iter().map(|inner| node(text, inner, flaws)).collect())
        }
        Any::Mapping(pairs) => Value::Mapping(entries(text, pairs, flaws)),
    };
    Node { at, value }
}

fn entries(text: &str, pairs: Vec<(Spanned<Any>, Spanned<Any>)>, flaws: &mut Vec<Flaw>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        let at = place(text, &key);
        let name = match key.value {
            Any::Text(name) => name,
            Any::Plain | Any::Null => text[at.clone()].trim().to_owned(),
            Any::Sequence(_) | Any::Mapping(_) => {
                flaws.push(Flaw { at, reason: "a key is a text, not a list or a mapping".into() });
                continue;
            }
        };
        let node = node(text, value, flaws);
        if entries.iter().any(|entry| entry.name == name) {
            flaws.push(Flaw { at: at.clone(), reason: "this key stands twice in one mapping".into() });
        }
        entries.push(Entry { name, at, node });
    }
    entries
}

/// Where a value is defined; for an alias that is at its anchor. Always a valid range of `text`.
fn place<T>(text: &str, spanned: &Spanned<T>) -> Range<usize> {
    let span = spanned.defined.span();
    let bytes = span.byte_offset().zip(span.byte_len()).and_then(|(start, len)| {
        let start = usize::try_from(start).ok()?;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        text.get(start..end).map(|_| start..end)
    });
    bytes.unwrap_or_else(|| {
        let start = offset(text, spanned.defined.line(), spanned.defined.column());
        start..start
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scalars(text: &str) -> Vec<(String, String)> {
        let Value::Mapping(entries) = parse(text).unwrap().root.value else { panic!("no mapping") };
        entries
            .into_iter()
            .filter_map(|entry| match entry.node.value {
                Value::Scalar(value) => Some((value, text[entry.node.at].to_owned())),
                Value::Null | Value::Filled(_) | Value::Unfilled | Value::Sequence(_) | Value::Mapping(_) => {
                    None
                }
            })
            .collect()
    }

    #[test]
    fn a_scalar_is_its_text_and_knows_its_place() {
        let text = "a: 1.10\nb: 'it''s' # c\né: \"ü\\u0041\"\nd: 007\nf: yes\ng: .nan\nh: 0x10\n";
        let expected = [
            ("1.10", "1.10"),
            ("it's", "'it''s'"),
            ("üA", "\"ü\\u0041\""),
            ("007", "007"),
            ("yes", "yes"),
            (".nan", ".nan"),
            ("0x10", "0x10"),
        ];
        assert_eq!(scalars(text), expected.map(|(value, raw)| (value.to_owned(), raw.to_owned())));
    }

    #[test]
    fn an_alias_points_to_its_anchor() {
        let text = "a: &x 5m\nb: *x\n";
        assert_eq!(scalars(text), [("5m".into(), "5m".into()), ("5m".into(), "5m".into())]);
    }

    #[test]
    fn a_key_that_stands_twice_is_a_flaw_and_the_rest_is_still_read() {
        let document = parse("a: 1\nb:\n  c: 1\n  c: 2\na: 2\n").unwrap();
        assert_eq!(document.flaws.iter().map(|flaw| flaw.at.start).collect::<Vec<_>>(), [17, 22]);
    }

    #[test]
    fn a_syntax_error_has_a_place() {
        let flaw = parse("é: 1\na: [1\nb: 2\n").unwrap_err();
        assert_eq!(flaw.at, 13..14);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_within_its_bounds(text in "[a-c:\\-\\[\\]{}#'\"*& \n\té$|>?!%]{0,40}") {
            if let Err(flaw) = parse(&text) {
                prop_assert!(text.get(flaw.at).is_some());
            }
        }
    }
}
