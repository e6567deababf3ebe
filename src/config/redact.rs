//! Which parts of a file must not be shown. The rule is turned around to be safe: a value is shown only where the
//! table of keys says that it is no secret; everything else (values of unknown keys, comments, whatever looks like a
//! signing secret) is hidden. References such as `${X}` are always shown, their values never.

use std::ops::Range;

use super::keys::{self, Kind, Section, Visibility};
use super::raw::{Node, Value};
use super::vars::is_variable;

/// Whether a text holds a key of Clerk or Svix, by its prefix.
pub fn holds_key(text: &str) -> bool {
    ["whsec_", "whsk_", "whpk_", "sk_live_", "sk_test_"].iter().any(|prefix| text.contains(prefix))
}

/// Whether a text holds something that may be a secret in the wrong place: a key by its prefix, or a long word of mixed
/// letters and digits as random keys have it. A path or a type name is taken for one now and then, and hidden for
/// nothing; that is the cheaper error.
pub fn looks_secret(text: &str) -> bool {
    /// Below it, words of people and machines cannot be told apart.
    const WORD_CHARS_MIN: usize = 20;
    let is_random = |word: &str| {
        word.len() >= WORD_CHARS_MIN
            && word.bytes().any(|b| b.is_ascii_digit())
            && word.bytes().any(|b| b.is_ascii_uppercase())
            && word.bytes().any(|b| b.is_ascii_lowercase())
    };
    let is_word_char = |c: char| c.is_ascii_alphanumeric() || "+/=_-".contains(c);
    holds_key(text) || text.split(|c| !is_word_char(c)).any(is_random)
}

/// The name of a key as a reason may repeat it: what stands there may be a secret in the wrong place.
pub fn shown_name(name: &str) -> String {
    /// Longer than any header or event type in use.
    const CHARS_MAX: usize = 60;
    if looks_secret(name) || name.chars().count() > CHARS_MAX {
        "…".into()
    } else {
        name.escape_debug().to_string()
    }
}

/// The parts of `text` to hide, given the tree it was parsed into (before variables were filled in).
pub fn hidden(text: &str, root: &Node) -> Vec<Range<usize>> {
    let mut walk = Walk { text, leaves: Vec::new() };
    walk.section(root, Section::Top);
    let Walk { mut leaves, .. } = walk;
    leaves.sort_by_key(|(at, _)| at.start);
    let mut hidden: Vec<Range<usize>> = Vec::new();
    let mut seen_to = 0;
    for (at, shown) in leaves {
        hide_gap(text, seen_to..at.start.max(seen_to), &mut hidden);
        seen_to = seen_to.max(at.end);
        if !shown {
            hide_lines(text, at, &mut hidden);
        }
    }
    hide_gap(text, seen_to..text.len(), &mut hidden);
    merged(hidden)
}

/// The parts of `text` to hide when it is no YAML and so has no tree: on every line, the words of whatever is not the
/// plain value of a key that is known to be harmless.
pub fn hidden_unparsed(text: &str) -> Vec<Range<usize>> {
    let mut hidden = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let value = start + value_offset(line);
        let key = line[..value - start].trim().trim_start_matches("- ").trim_end_matches(':');
        let written = &text[value..start + line.len()];
        let harmless = kind_of(key).is_some_and(|kind| is_shown(&kind, written));
        // After a comma or a brace another key may follow on the line, and a comment may hold anything.
        if !harmless || written.contains([',', '{', '#']) {
            hide_words(text, value..start + line.len(), &mut hidden);
        }
        start += line.len();
    }
    merged(hidden)
}

/// The kind of a key by its name alone, where all sections agree that its values may be shown.
fn kind_of(name: &str) -> Option<Kind> {
    let mut kinds = keys::KEYS.iter().filter(|key| key.name == name).map(|key| key.kind);
    let kind = kinds.next()?;
    kinds.all(|other| other.visibility() == kind.visibility()).then_some(kind)
}

/// Where the value begins on a line of the form `key: value`, perhaps after `- `; 0 where it has another form.
fn value_offset(line: &str) -> usize {
    let indent = line.len() - line.trim_start_matches([' ', '-']).len();
    let Some(colon) = line[indent..].find(':') else { return 0 };
    let key = &line[indent..indent + colon];
    let is_key = (1..=64).contains(&key.len())
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        && line[indent + colon + 1..].starts_with([' ', '\n', '\r'])
        && !looks_secret(key);
    if is_key { indent + colon + 1 } else { 0 }
}

struct Walk<'t> {
    text: &'t str,
    /// Keys and scalars, each with whether it may be shown.
    leaves: Vec<(Range<usize>, bool)>,
}

impl Walk<'_> {
    fn section(&mut self, node: &Node, section: Section) {
        let Value::Mapping(entries) = &node.value else { return self.hide(node) };
        for entry in entries {
            self.name(&entry.at);
            match keys::find(section, &entry.name) {
                Some(key) => self.value(&entry.node, &key.kind),
                None => self.hide(&entry.node),
            }
        }
    }

    fn value(&mut self, node: &Node, kind: &Kind) {
        if let Kind::One(section) = kind {
            self.section(node, *section);
        } else if let (Kind::OneOrOff(section), Value::Mapping(_)) = (kind, &node.value) {
            self.section(node, *section);
        } else if let (Kind::Named(section), Value::Mapping(entries)) = (kind, &node.value) {
            for entry in entries {
                self.name(&entry.at);
                self.section(&entry.node, *section);
            }
        } else if let (Kind::Many(section), Value::Sequence(nodes)) = (kind, &node.value) {
            nodes.iter().for_each(|inner| self.section(inner, *section));
        } else if let (Kind::Headers | Kind::Expiries { .. }, Value::Mapping(entries)) = (kind, &node.value) {
            for entry in entries {
                self.name(&entry.at);
                self.leaf(&entry.node, kind);
            }
        } else if let Value::Sequence(nodes) = &node.value {
            nodes.iter().for_each(|inner| self.leaf(inner, kind));
        } else {
            self.leaf(node, kind);
        }
    }

    fn leaf(&mut self, node: &Node, kind: &Kind) {
        match &node.value {
            Value::Scalar(_) => {
                let shown = is_shown(kind, &self.text[node.at.clone()]);
                self.leaves.push((node.at.clone(), shown));
            }
            Value::Null | Value::Filled(_) | Value::Unfilled => {}
            Value::Sequence(_) | Value::Mapping(_) => self.hide(node),
        }
    }

    fn name(&mut self, at: &Range<usize>) {
        self.leaves.push((at.clone(), !looks_secret(&self.text[at.clone()])));
    }

    /// Hides a value of which nothing is known, with the keys in it.
    fn hide(&mut self, node: &Node) {
        match &node.value {
            Value::Scalar(_) => {
                let shown = is_only_references(&self.text[node.at.clone()]);
                self.leaves.push((node.at.clone(), shown));
            }
            Value::Null | Value::Filled(_) | Value::Unfilled => {}
            Value::Sequence(nodes) => nodes.iter().for_each(|inner| self.hide(inner)),
            Value::Mapping(entries) => {
                for entry in entries {
                    self.leaves.push((entry.at.clone(), false));
                    self.hide(&entry.node);
                }
            }
        }
    }
}

fn is_shown(kind: &Kind, written: &str) -> bool {
    let plain = !looks_secret(written);
    match kind.visibility() {
        Visibility::Shown => plain,
        Visibility::ShownWithoutCredentials => {
            plain && (!may_hold_login(written) || is_only_references(written))
        }
        Visibility::Hidden => is_only_references(written),
    }
}

/// Whether a URL as written may hold a login or a query, also where it is cut short: `redis://:password` is what is left
/// of one without its host. A host with a port that is no number is taken for one, and hidden for nothing.
fn may_hold_login(written: &str) -> bool {
    if written.contains(['@', '?']) {
        return true;
    }
    let Some((_, rest)) = written.split_once("://") else { return false };
    let authority = rest.split(['/', '"', '\'']).next().unwrap_or_default().trim_end();
    let is_port = |text: &str| (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    authority.split(',').any(|place| {
        // The colons of an IPv6 address are none that a password could follow.
        let from = if place.starts_with('[') { place.find(']').unwrap_or(0) } else { 0 };
        let colon = place[from..].find(':').map(|index| from + index);
        colon.is_some_and(|colon| colon == 0 || !is_port(&place[colon + 1..]))
    })
}

/// Whether a scalar as written is nothing but `${X}` and `${file:…}`: a default may be a secret.
fn is_only_references(written: &str) -> bool {
    let mut rest = written.trim().trim_matches(['"', '\'']);
    while let Some(inside) = rest.strip_prefix("${") {
        let Some((reference, after)) = inside.split_once('}') else { return false };
        if holds_key(reference) || !(is_variable(reference) || reference.starts_with("file:")) {
            return false;
        }
        rest = after;
    }
    rest.is_empty()
}

/// Hides the words in a part of the text that is in no leaf of the tree: comments whole, and whatever the tree does not
/// hold, such as a list in place of a key. The punctuation of YAML stays.
fn hide_gap(text: &str, gap: Range<usize>, hidden: &mut Vec<Range<usize>>) {
    hide_words(text, gap.clone(), hidden);
    let mut start = gap.start;
    while let Some(hash) = text[start..gap.end].find('#') {
        let from = start + hash + 1;
        let end = text[from..gap.end].find('\n').map_or(gap.end, |newline| from + newline);
        if from < end {
            hidden.push(from..end);
        }
        start = end;
    }
}

/// Hides a range line by line, so that line numbers stay right.
fn hide_lines(text: &str, at: Range<usize>, hidden: &mut Vec<Range<usize>>) {
    let mut start = at.start;
    for line in text[at].split_inclusive('\n') {
        let bare = line.trim_end();
        let from = start + (bare.len() - bare.trim_start().len());
        if from < start + bare.len() {
            hidden.push(from..start + bare.len());
        }
        start += line.len();
    }
}

/// Hides the words of a range and leaves the punctuation of YAML, which is what a syntax error is about.
fn hide_words(text: &str, at: Range<usize>, hidden: &mut Vec<Range<usize>>) {
    let is_word = |c: char| !c.is_whitespace() && !"[]{},:\"'#&*!|>%@`-?".contains(c);
    let mut word: Option<usize> = None;
    for (index, c) in text[at.clone()].char_indices() {
        match (is_word(c), word) {
            (true, None) => word = Some(at.start + index),
            (false, Some(start)) => {
                hidden.push(start..at.start + index);
                word = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }
    if let Some(start) = word {
        hidden.push(start..at.end);
    }
}

fn merged(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_by_key(|range| (range.start, range.end));
    let mut merged: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            Some(_) | None => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::raw;

    fn shown(text: &str) -> String {
        let hidden =
            raw::parse(text).map_or_else(|_| hidden_unparsed(text), |document| hidden(text, &document.root));
        let mut shown = text.to_owned();
        for part in hidden.into_iter().rev() {
            shown.replace_range(part, "…");
        }
        shown
    }

    #[test]
    fn only_values_that_are_known_to_be_harmless_are_shown() {
        for (text, expected) in [
            ("listen: 0.0.0.0:80 # why\n", "listen: 0.0.0.0:80 #…\n"),
            ("lisen: 0.0.0.0:80\n", "lisen: …\n"),
            ("store: {url: \"redis://u:p@h\", retention: 7d}\n", "store: {url: …, retention: 7d}\n"),
            ("admin: {tokens: [{name: a, token: b}]}\n", "admin: {tokens: [{name: a, token: …}]}\n"),
            (
                "targets:\n a:\n  headers:\n   X: |\n    one\n    two\n",
                "targets:\n a:\n  headers:\n   X: |\n    …\n    …\n",
            ),
            ("store: {url: \"redis://:hunter2\"}\n", "store: {url: …}\n"),
            ("store: {url: redis://ann:hunter2}\n", "store: {url: …}\n"),
            ("store: {url: 'redis://ann:hun]ter2'}\n", "store: {url: …}\n"),
            ("store: {url: redis://:12345}\n", "store: {url: …}\n"),
            ("store: {url: \"redis://h:6379,h/1\"}\n", "store: {url: \"redis://h:6379,h/1\"}\n"),
            ("store: {url: \"redis://[::1]:6379\"}\n", "store: {url: \"redis://[::1]:6379\"}\n"),
            ("store:\n url: redis://ann:hunter2\n b: [\n", "store:\n url: …:…:…\n b: [\n"),
            ("store:\n url: redis://h:6379\n b: [\n", "store:\n url: redis://h:6379\n b: [\n"),
            ("? [a, b]\n: c\n", "? […, …]\n: …\n"),
            ("a: &anchor {b: c}\n", "a: &… {…: …}\n"),
        ] {
            assert_eq!(shown(text), expected);
        }
    }

    #[test]
    fn references_are_shown_but_not_their_defaults() {
        let token = |value: &str| shown(&format!("admin: {{tokens: [{{token: \"{value}\"}}]}}"));
        assert!(token("${A}${file:/run/b}").contains("${A}${file:/run/b}"));
        for value in ["${A:-secret}", "secret${A}", "${whsec_secret}", "${A"] {
            assert!(!token(value).contains(value), "{value}");
        }
    }

    #[test]
    fn without_a_tree_only_plain_lines_are_shown() {
        let text =
            "listen: 0.0.0.0:80\ntokens: [{name: a, token: b},\n  name: a, token: b\n  b ] # c\nurl: @x\n";
        assert_eq!(
            hidden_unparsed(text).iter().map(|part| &text[part.clone()]).collect::<Vec<_>>(),
            ["name", "a", "token", "b", "a", "token", "b", "b", "c", "x"]
        );
    }

    #[test]
    fn a_random_word_looks_like_a_secret_and_names_do_not() {
        for text in ["x whsec_a", "Bearer MfKQ9r8GKYqrTwjUPD8ILPZIo2", "x1Xx1Xx1Xx1Xx1Xx1Xx1X+/="] {
            assert!(looks_secret(text), "{text}");
        }
        for text in [
            "organizationMembership.created",
            "/webhooks/clerk/production-2",
            "0.0.0.0:8080",
            "CLERK_WEBHOOK_SIGNING_SECRET_2",
        ] {
            assert!(!looks_secret(text), "{text}");
        }
    }
}
