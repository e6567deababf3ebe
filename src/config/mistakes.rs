//! What is wrong with a file, and how it is shown: every mistake with its place, its line with a marker, the reason and
//! what is accepted.
//!
//! Knows no keys. Invariant: what [`Page`] was told to hide is in no output, and reasons never quote values.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// What stands in place of hidden text.
const HIDDEN: &str = "…";

/// Whether output is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// For logs, files and pipes.
    Plain,
    /// For a terminal.
    Colour,
}

/// A file as it may be shown.
#[derive(Debug)]
pub struct Page {
    name: String,
    shown: String,
    /// Where each line of the original begins.
    lines: Vec<usize>,
    original: String,
    hidden: Vec<Range<usize>>,
}

impl Page {
    /// The file `name` with this `text`, of which the `hidden` parts (sorted, apart, none across lines) are not shown.
    pub fn new(name: &str, text: &str, hidden: Vec<Range<usize>>) -> Arc<Self> {
        let mut shown = String::with_capacity(text.len());
        let mut from = 0;
        for part in &hidden {
            shown.push_str(&text[from..part.start]);
            shown.push_str(HIDDEN);
            from = part.end;
        }
        shown.push_str(&text[from..]);
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(index, _)| index + 1)).collect();
        Arc::new(Self { name: name.to_owned(), shown, lines, original: text.to_owned(), hidden })
    }

    /// The line and column of a byte of the original, both from 1, the column in characters.
    fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|&start| start <= offset).max(1);
        let column = self.original[self.lines[line - 1]..offset].chars().count() + 1;
        (line, column)
    }

    /// The range of what is shown that stands for `at` of the original, cut to its first line.
    fn place(&self, at: &Range<usize>) -> Range<usize> {
        let line_end = self.original[at.start..].find('\n').map_or(self.original.len(), |len| at.start + len);
        let start = self.moved(at.start, Edge::Start);
        let end = self.moved(at.end.min(line_end), Edge::End);
        start..end.max(start)
    }

    fn moved(&self, offset: usize, edge: Edge) -> usize {
        let mut moved = offset;
        for part in &self.hidden {
            if part.end <= offset {
                moved = moved + HIDDEN.len() - part.len();
            } else if part.start < offset {
                let edge = match edge {
                    Edge::Start => 0,
                    Edge::End => HIDDEN.len(),
                };
                return moved - (offset - part.start) + edge;
            } else {
                break;
            }
        }
        moved
    }
}

/// Which end of a range is looked for, where it falls inside something hidden.
#[derive(Debug, Clone, Copy)]
enum Edge {
    Start,
    End,
}

/// Something to tell about a place.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    at: Range<usize>,
    reason: String,
    help: String,
}

/// All that was found while reading a file, in any order.
#[derive(Debug, Default)]
pub struct Findings {
    mistakes: Vec<Finding>,
    warnings: Vec<Finding>,
}

impl Findings {
    /// Something that must be put right. `help` says what is accepted; empty where the reason says it all.
    pub fn mistake(&mut self, at: Range<usize>, reason: impl Into<String>, help: impl Into<String>) {
        push(&mut self.mistakes, Finding { at, reason: reason.into(), help: help.into() });
    }

    /// Something odd that still works.
    pub fn warn(&mut self, at: Range<usize>, reason: impl Into<String>, help: impl Into<String>) {
        push(&mut self.warnings, Finding { at, reason: reason.into(), help: help.into() });
    }

    /// Ends the reading: the configuration with the warnings, or the mistakes.
    ///
    /// # Errors
    /// Where there is at least one mistake.
    pub fn conclude<T>(mut self, page: &Arc<Page>, value: T) -> Result<(T, Vec<Warning>), Mistakes> {
        self.mistakes.sort_by_key(|finding| finding.at.start);
        self.warnings.sort_by_key(|finding| finding.at.start);
        let warnings =
            self.warnings.into_iter().map(|finding| Warning { page: Arc::clone(page), finding }).collect();
        if self.mistakes.is_empty() {
            return Ok((value, warnings));
        }
        Err(Mistakes { page: Arc::clone(page), mistakes: self.mistakes, warnings })
    }
}

/// An alias is read once at each place that names it; what is wrong with it is told once.
fn push(findings: &mut Vec<Finding>, finding: Finding) {
    if !findings.contains(&finding) {
        findings.push(finding);
    }
}

/// Something odd in a file that still works.
#[derive(Debug, Clone)]
pub struct Warning {
    page: Arc<Page>,
    finding: Finding,
}

impl Warning {
    /// What is odd, in a few words, for a log line.
    pub fn reason(&self) -> &str {
        &self.finding.reason
    }

    /// The line it stands on, from 1.
    pub fn line(&self) -> usize {
        self.page.line_and_column(self.finding.at.start).0
    }

    /// The warning with its line and marker.
    pub fn render(&self, paint: Paint) -> String {
        render(&self.page, &self.finding, Level::WARNING, paint)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Paint::Plain))
    }
}

/// All the mistakes of one file.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.render(Paint::Plain))]
pub struct Mistakes {
    page: Arc<Page>,
    mistakes: Vec<Finding>,
    warnings: Vec<Warning>,
}

impl Mistakes {
    /// A file with a single mistake.
    pub fn one(
        page: &Arc<Page>, at: Range<usize>, reason: impl Into<String>, help: impl Into<String>,
    ) -> Self {
        let mistake = Finding { at, reason: reason.into(), help: help.into() };
        Self { page: Arc::clone(page), mistakes: vec![mistake], warnings: Vec::new() }
    }

    /// How many there are; never 0.
    pub fn count(&self) -> usize {
        self.mistakes.len()
    }

    /// Line (from 1) and reason of each, in the order of the file.
    pub fn reasons(&self) -> impl Iterator<Item = (usize, &str)> {
        self.mistakes
            .iter()
            .map(|finding| (self.page.line_and_column(finding.at.start).0, finding.reason.as_str()))
    }

    /// Every mistake and every warning with its line and marker, and their number.
    pub fn render(&self, paint: Paint) -> String {
        let mut parts: Vec<String> = self.warnings.iter().map(|warning| warning.render(paint)).collect();
        parts.extend(self.mistakes.iter().map(|mistake| render(&self.page, mistake, Level::ERROR, paint)));
        let noun = if self.mistakes.len() == 1 { "mistake" } else { "mistakes" };
        parts.push(format!("{} {noun} in {}", self.mistakes.len(), self.page.name));
        parts.join("\n\n")
    }
}

fn render(page: &Page, finding: &Finding, level: Level<'_>, paint: Paint) -> String {
    let place = page.place(&finding.at);
    let snippet =
        Snippet::source(&page.shown).path(&page.name).annotation(AnnotationKind::Primary.span(place.clone()));
    let mut group: Group<'_> = level.primary_title(&finding.reason).element(snippet);
    if !finding.help.is_empty() {
        group = group.element(Level::HELP.message(&finding.help));
    }
    let renderer = match paint {
        Paint::Plain => Renderer::plain(),
        Paint::Colour => Renderer::styled(),
    };
    let rendered = renderer.render(&[group]);
    // The renderer counts columns in what is shown; where something hidden stands before the place on its line, that
    // is not the column of the file.
    let (line, column) = page.line_and_column(finding.at.start);
    let shown_line_start = page.shown[..place.start].rfind('\n').map_or(0, |newline| newline + 1);
    let shown_column = page.shown[shown_line_start..place.start].chars().count() + 1;
    let shown_at = format!("{}:{line}:{shown_column}\n", page.name);
    rendered.replacen(&shown_at, &format!("{}:{line}:{column}\n", page.name), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "a: [SECRET, x]\nb: {c: SECRET2, d: é, e: y}\n";

    fn page() -> Arc<Page> {
        let at = |word: &str| {
            let start = TEXT.find(word).unwrap();
            start..start + word.len()
        };
        Page::new("f.yaml", TEXT, vec![at("SECRET"), at("SECRET2")])
    }

    #[test]
    fn hidden_text_is_not_shown_and_the_column_is_the_files() {
        let start = TEXT.find("y}").unwrap();
        let mistakes = Mistakes::one(&page(), start..start + 1, "this is wrong", "this is right");
        insta::assert_snapshot!(mistakes, @r"
        error: this is wrong
         --> f.yaml:2:26
          |
        2 | b: {c: …, d: é, e: y}
          |                    ^
          |
          = help: this is right

        1 mistake in f.yaml
        ");
    }

    #[test]
    fn a_place_inside_hidden_text_marks_all_of_it() {
        let start = TEXT.find("CRET2").unwrap();
        let shown = Mistakes::one(&page(), start..start + 2, "wrong", "").to_string();
        assert!(shown.contains("2 | b: {c: …, d: é, e: y}\n  |        ^\n"), "{shown}");
        assert!(!shown.contains("SECRET"), "{shown}");
    }

    #[test]
    fn every_place_of_every_page_can_be_shown() {
        let page = page();
        for start in 0..=TEXT.len() {
            for end in start..=TEXT.len() {
                if TEXT.is_char_boundary(start) && TEXT.is_char_boundary(end) {
                    let shown = Mistakes::one(&page, start..end, "wrong", "").to_string();
                    assert!(!shown.contains("SECRET"), "{shown}");
                }
            }
        }
    }
}
