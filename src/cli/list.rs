//! Lists: page after page of the API, as one table or one JSON array.

use std::marker::PhantomData;
use std::process::ExitCode;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::client::{Client, Query};
use super::output::{self, Column, Format};
use crate::clock::{Clock, Timestamp};
use crate::store::query::PAGE_ROWS_MAX;

/// How many rows.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Rows {
    /// At most this many rows
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: u64,
    /// Every row
    #[arg(long, conflicts_with = "limit")]
    pub all: bool,
}

impl Rows {
    fn max(self) -> u64 {
        if self.all { u64::MAX } else { self.limit }
    }
}

/// One row of a list, as the API gives it and as a table shows it.
pub trait Row: DeserializeOwned {
    /// The columns.
    const COLUMNS: &'static [Column];
    /// What is said where there is no row.
    const NONE: &'static str;
    /// Its cells.
    fn cells(&self, now: Timestamp) -> Vec<String>;
}

/// One page, as the API gives it.
#[derive(Debug, Deserialize)]
pub struct Page {
    /// The rows.
    pub rows: Vec<Value>,
    /// Where to go on.
    pub next: Option<String>,
}

/// Prints the list at `path`.
///
/// # Errors
/// Those of the API.
pub async fn print<R: Row>(
    client: &Client, path: &[&str], query: Query, rows: Rows, format: Format,
) -> anyhow::Result<ExitCode> {
    let mut pages = Pages::new(client, path, query, rows.max());
    let mut printer = Printer::<R>::new(format);
    while let Some(page) = pages.next().await? {
        printer.add(page)?;
    }
    let count = printer.count;
    printer.end()?;
    if pages.more_follow() {
        anstream::eprintln!("the first {count}: more follow with a larger --limit, or --all");
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a list that the API gives whole.
///
/// # Errors
/// Those of the API.
pub async fn print_whole<R: Row>(client: &Client, path: &[&str], format: Format) -> anyhow::Result<ExitCode> {
    let page: Page = client.get(path, &Vec::new()).await?;
    let mut printer = Printer::<R>::new(format);
    printer.add(page.rows)?;
    printer.end()?;
    Ok(ExitCode::SUCCESS)
}

/// Prints rows as they come, or as one table at the end.
struct Printer<R> {
    format: Format,
    now: Timestamp,
    count: u64,
    shown: Vec<Vec<String>>,
    row: PhantomData<R>,
}

impl<R: Row> Printer<R> {
    fn new(format: Format) -> Self {
        Self { format, now: Clock::system().now(), count: 0, shown: Vec::new(), row: PhantomData }
    }

    fn add(&mut self, rows: Vec<Value>) -> anyhow::Result<()> {
        for row in rows {
            match self.format {
                // As it comes, so that a list of any length takes no memory; the array is closed at the end.
                Format::Json => output::line(format!("{}{row}", if self.count == 0 { "[" } else { "," }))?,
                Format::Table => self.shown.push(serde_json::from_value::<R>(row)?.cells(self.now)),
            }
            self.count += 1;
        }
        Ok(())
    }

    fn end(self) -> anyhow::Result<()> {
        match self.format {
            Format::Json => output::line(if self.count == 0 { "[]" } else { "]" })?,
            Format::Table if self.shown.is_empty() => anstream::eprintln!("{}", R::NONE),
            Format::Table => output::line(output::table(R::COLUMNS, self.shown).trim_end())?,
        }
        Ok(())
    }
}

/// A walk over the pages of a list.
pub struct Pages<'c> {
    client: &'c Client,
    path: &'c [&'c str],
    query: Query,
    left: u64,
    next: Next,
}

enum Next {
    First,
    After(String),
    End,
}

impl<'c> Pages<'c> {
    /// From the first row, up to `max` rows.
    pub fn new(client: &'c Client, path: &'c [&'c str], query: Query, max: u64) -> Self {
        Self { client, path, query, left: max, next: Next::First }
    }

    /// The next page, which may be empty although more follow; `None` at the end.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn next(&mut self) -> anyhow::Result<Option<Vec<Value>>> {
        let mut query = self.query.clone();
        match &self.next {
            _ if self.left == 0 => return Ok(None),
            Next::First => {}
            Next::After(cursor) => query.push(("cursor", cursor.clone())),
            Next::End => return Ok(None),
        }
        query.push(("limit", self.left.min(PAGE_ROWS_MAX.into()).to_string()));
        let page: Page = self.client.get(self.path, &query).await?;
        self.left = self.left.saturating_sub(page.rows.len() as u64);
        self.next = page.next.map_or(Next::End, Next::After);
        Ok(Some(page.rows))
    }

    /// Whether there are rows behind those that were given.
    pub fn more_follow(&self) -> bool {
        matches!(self.next, Next::After(_))
    }
}
