//! What commands print: tables for people, as wide as the terminal, and JSON for scripts. Colours only on a terminal
//! (anstream, NO_COLOR). What others wrote, such as replies of apps, never reaches the terminal with its control
//! characters.

use std::io::{self, IsTerminal as _, Write as _};

use anstyle::{AnsiColor, Style};
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};
use serde_json::Value;

/// Something went right.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Something went wrong.
pub const BAD: Style = AnsiColor::Red.on_default();
/// Something is held up.
pub const SLOW: Style = AnsiColor::Yellow.on_default();
/// Beside the point.
pub const FAINT: Style = Style::new().dimmed();
/// A heading.
pub const STRONG: Style = Style::new().bold();

/// Narrower terminals get the table of this width.
const WIDTH_MIN: u16 = 40;

/// The form of what a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For scripts: times in UTC, nothing shortened.
    Json,
}

/// The option of all commands that print something.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Output {
    /// How to print the result
    #[arg(long, short, value_enum, value_name = "FORM", default_value_t = Format::Table)]
    pub output: Format,
}

/// What a column holds, which says how it may be fitted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ids and names: never cut or broken, so that they can be copied.
    Whole,
    /// Text that may be broken into lines.
    Text,
    /// A number, to the right.
    Number,
    /// A word for a state, coloured.
    State,
}

/// A column: its heading and what it holds.
pub type Column = (&'static str, Kind);

/// Prints one line to standard output.
///
/// # Errors
/// Where standard output is closed.
pub fn line(text: impl AsRef<str>) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_ref().as_bytes())?;
    out.write_all(b"\n")
}

/// Prints a value as JSON, over several lines.
///
/// # Errors
/// Where standard output is closed.
pub fn json(value: &Value) -> anyhow::Result<()> {
    Ok(line(serde_json::to_string_pretty(value)?)?)
}

/// The text as it may be shown: without control characters, each replaced by a blank.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || is_direction(c) { ' ' } else { c }).collect()
}

/// Marks that turn the direction of writing, and so make a text look like another.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text of at most `chars` characters, with `…` where it was cut.
pub fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", &text[..at]),
    }
}

/// The table with these columns and rows, each line ending in a line break.
pub fn table(columns: &[Column], rows: Vec<Vec<String>>) -> String {
    render(columns, rows, width())
}

fn render(columns: &[Column], rows: Vec<Vec<String>>, width: Option<u16>) -> String {
    let (columns, rows) = if width.is_some() { filled(columns, rows) } else { (columns.to_vec(), rows) };
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(columns.iter().map(|(title, _)| *title));
    match width {
        Some(width) => {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width.max(WIDTH_MIN))
        }
        // Piped: one line a row, for grep and awk.
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    for row in rows {
        table.add_row(row.iter().map(|cell| clean(cell)).collect::<Vec<_>>());
    }
    for (index, (_, kind)) in columns.iter().enumerate() {
        let Some(column) = table.column_mut(index) else { continue };
        column.set_padding((0, 2));
        match kind {
            Kind::Whole | Kind::State => {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
            Kind::Number => {
                column.set_constraint(ColumnConstraint::ContentWidth);
                column.set_cell_alignment(CellAlignment::Right);
            }
            Kind::Text => {}
        }
    }
    let tinted = columns.iter().position(|(_, kind)| *kind == Kind::State);
    let mut shown = String::new();
    let mut start = None;
    for (number, text) in table.lines().enumerate() {
        let text = text.trim_end();
        if number == 0 {
            start = tinted.map(|index| start_of(text, &columns, index));
            shown.push_str(&format!("{STRONG}{text}{STRONG:#}\n"));
        } else {
            shown.push_str(&tint(text, start));
            shown.push('\n');
        }
    }
    shown
}

/// Without the columns that say nothing in any row: room for the others. Whoever pipes has them all, each at its place.
fn filled(columns: &[Column], rows: Vec<Vec<String>>) -> (Vec<Column>, Vec<Vec<String>>) {
    let says = |index: usize| rows.iter().any(|row| row.get(index).is_some_and(|cell| !cell.is_empty()));
    let kept: Vec<usize> = (0..columns.len()).filter(|index| says(*index)).collect();
    let rows = rows.iter().map(|row| kept.iter().map(|index| row[*index].clone()).collect()).collect();
    (kept.into_iter().map(|index| columns[index]).collect(), rows)
}

/// At which character a column begins, by the headings.
fn start_of(header: &str, columns: &[Column], index: usize) -> usize {
    let mut from = 0;
    for (title, _) in &columns[..index] {
        from += header[from..].find(title).map_or(0, |at| at + title.len());
    }
    from + header[from..].find(columns[index].0).unwrap_or_default()
}

/// The line with the word that begins at the state's place coloured.
fn tint(text: &str, start: Option<usize>) -> String {
    let Some((at, _)) = start.and_then(|start| text.char_indices().nth(start)) else {
        return text.to_owned();
    };
    let (before, rest) = text.split_at(at);
    let word = rest.split("  ").next().unwrap_or_default();
    let style = style_of(word);
    format!("{before}{style}{word}{style:#}{}", &rest[word.len()..])
}

/// The colour of a state.
pub fn style_of(state: &str) -> Style {
    match state.split_whitespace().next().unwrap_or_default() {
        "delivered" | "active" | "closed" | "done" | "ok" => GOOD,
        "dead" | "open" | "down" | "orphan" => BAD,
        "waiting" | "parked" | "paused" | "degraded" | "running" | "in_flight" => SLOW,
        "cancelled" | "skipped" => FAINT,
        _ => Style::new(),
    }
}

/// How wide tables may be: `COLUMNS`, else the terminal; `None` where there is none.
fn width() -> Option<u16> {
    if let Some(columns) = super::given::variable("COLUMNS").and_then(|text| text.parse().ok()) {
        return Some(columns);
    }
    let out = io::stdout();
    if !out.is_terminal() {
        return None;
    }
    rustix::termios::tcgetwinsize(out).ok().map(|size| size.ws_col).filter(|columns| *columns > 0)
}

/// A size in bytes, for people.
pub fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        let row = |id: &str, state: &str, count: &str, text: &str| {
            [id, state, count, text].map(str::to_owned).to_vec()
        };
        vec![
            row("evt_0193", "dead", "12", "a long text that does not fit into a narrow table at all"),
            row("evt_0194", "delivered", "1", "short\u{1b}[31m"),
        ]
    }

    const COLUMNS: [Column; 4] =
        [("ID", Kind::Whole), ("STATE", Kind::State), ("TRIES", Kind::Number), ("WHY", Kind::Text)];

    fn plain(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn a_table_fits_and_never_breaks_an_id() {
        let shown = plain(&render(&COLUMNS, rows(), Some(50)));
        assert!(shown.lines().all(|line| line.chars().count() <= 50), "{shown}");
        assert!(shown.contains("evt_0193  dead") && shown.contains("evt_0194  delivered"), "{shown}");
        let piped = plain(&render(&COLUMNS, rows(), None));
        assert_eq!(piped.lines().count(), 3, "one line a row where nobody looks:\n{piped}");
    }

    #[test]
    fn a_state_is_coloured_and_foreign_control_characters_are_not_shown() {
        let shown = render(&COLUMNS, rows(), None);
        assert!(shown.contains(&format!("{BAD}dead{BAD:#}")), "{shown:?}");
        assert!(shown.contains(&format!("{GOOD}delivered{GOOD:#}")), "{shown:?}");
        assert!(shown.contains("short [31m"), "{shown:?}");
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("héllo", 5), "héllo");
        assert_eq!(cut("héllo", 2), "hé…");
    }
}
