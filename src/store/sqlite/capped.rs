//! Tables of which only the newest rows are kept: refusals and the audit. A row's number is its key, and the only thing
//! that this file knows of it.

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use crate::clock::Timestamp;
use crate::store::ledger::{AUDIT_KEPT, AuditEntry, REFUSALS_KEPT, Refusal, cut};
use crate::store::query::{Cursor, Page, Paged};

use super::fault::Fault;
use super::writer::Tx;

/// What such a table keeps.
pub trait Capped: Sized {
    /// The table's name.
    const TABLE: &'static str;
    /// Its columns behind `number`.
    const COLUMNS: &'static [&'static str];
    /// How many rows are kept.
    const KEPT: usize;

    /// The values of the columns.
    fn values(&self) -> Vec<Value>;

    /// What a row says; the columns begin at 1.
    fn read(row: &Row<'_>) -> Result<Self, Fault>;
}

/// Appends rows, oldest first, and drops the oldest ones beyond the cap.
///
/// # Errors
/// Where SQLite fails.
pub fn append<C: Capped>(tx: &Tx<'_>, rows: &[C]) -> Result<(), Fault> {
    let places = ", ?".repeat(C::COLUMNS.len());
    let mut insert = tx.conn.prepare_cached(&format!("INSERT INTO {} VALUES (NULL{places})", C::TABLE))?;
    for row in &rows[rows.len().saturating_sub(C::KEPT)..] {
        insert.execute(params_from_iter(row.values()))?; // the others would be dropped at once
    }
    let table = C::TABLE;
    tx.conn
        .prepare_cached(&format!(
            "DELETE FROM {table} WHERE number <= (SELECT max(number) FROM {table}) - ?1"
        ))?
        .execute([i64::try_from(C::KEPT).unwrap_or(i64::MAX)])?;
    Ok(())
}

/// Rows, newest first.
///
/// # Errors
/// Where SQLite fails.
pub fn list<C: Capped>(conn: &Connection, page: &Page) -> Result<Paged<C>, Fault> {
    let below = match page.cursor() {
        None => i64::MAX,
        Some(Cursor::Number(number)) => i64::try_from(*number).unwrap_or(i64::MAX),
        Some(Cursor::Event(_) | Cursor::Delivery(..)) => 0, // a cursor of another list
    };
    let mut statement = conn.prepare_cached(&format!(
        "SELECT number, {} FROM {} WHERE number < ?1 ORDER BY number DESC LIMIT ?2",
        C::COLUMNS.join(", "),
        C::TABLE,
    ))?;
    let mut rows = statement.query([below, i64::from(page.rows_max()) + 1])?;
    let (mut found, mut last) = (Vec::new(), None);
    while let Some(row) = rows.next()? {
        if found.len() == page.rows_max() as usize {
            return Ok(Paged { rows: found, next: last.map(Cursor::Number) });
        }
        last = u64::try_from(row.get::<_, i64>(0)?).ok();
        found.push(C::read(row)?);
    }
    Ok(Paged { rows: found, next: None })
}

impl Capped for Refusal {
    const TABLE: &'static str = "refusal";
    const COLUMNS: &'static [&'static str] =
        &["at", "source", "status", "code", "cause", "remote", "svix_id", "user_agent", "body_bytes"];
    const KEPT: usize = REFUSALS_KEPT;

    fn values(&self) -> Vec<Value> {
        let cut_some = |text: &Option<String>| text.as_deref().map(cut).into();
        vec![
            self.at.as_ms().into(),
            self.source.as_ref().map(|source| source.as_str().to_owned()).into(),
            i64::from(self.status).into(),
            cut(&self.code).into(),
            cut(&self.cause).into(),
            cut_some(&self.remote),
            cut_some(&self.svix_id),
            cut_some(&self.user_agent),
            i64::try_from(self.body_bytes).unwrap_or(i64::MAX).into(),
        ]
    }

    fn read(row: &Row<'_>) -> Result<Self, Fault> {
        let source: Option<String> = row.get(2)?;
        Ok(Self {
            at: Timestamp::from_ms(row.get(1)?),
            source: source.map(|name| name.parse()).transpose().map_err(|_| Fault::Unreadable("source"))?,
            status: row.get(3)?,
            code: row.get(4)?,
            cause: row.get(5)?,
            remote: row.get(6)?,
            svix_id: row.get(7)?,
            user_agent: row.get(8)?,
            body_bytes: u64::try_from(row.get::<_, i64>(9)?).unwrap_or_default(),
        })
    }
}

impl Capped for AuditEntry {
    const TABLE: &'static str = "audit";
    const COLUMNS: &'static [&'static str] = &["at", "actor", "action", "object", "detail"];
    const KEPT: usize = AUDIT_KEPT;

    fn values(&self) -> Vec<Value> {
        let texts = [&self.actor, &self.action, &self.object, &self.detail];
        std::iter::once(self.at.as_ms().into()).chain(texts.map(|text| cut(text).into())).collect()
    }

    fn read(row: &Row<'_>) -> Result<Self, Fault> {
        Ok(Self {
            at: Timestamp::from_ms(row.get(1)?),
            actor: row.get(2)?,
            action: row.get(3)?,
            object: row.get(4)?,
            detail: row.get(5)?,
        })
    }
}
