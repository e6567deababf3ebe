//! The state of every target and of the store, counted from indexes and by subtraction; no payload is ever read.

use rusqlite::{Connection, OptionalExtension as _};

use crate::lifecycle::State;
use crate::store::query::{Durability, Overview, TargetOverview};

use super::codes;
use super::erase::kept;
use super::fault::Fault;
use super::notes::{self, Rules};
use super::targets::{self, Standing, Target};

/// Looks at everything at once.
///
/// # Errors
/// Where SQLite fails.
pub fn overview(conn: &Connection, rules: &Rules, durability: Durability) -> Result<Overview, Fault> {
    let last_number = notes::last_number(conn)?;
    let removed: i64 = conn
        .prepare_cached("SELECT value FROM meta WHERE key = 'removed'")?
        .query_row([], |row| row.get(0))?;
    let mut targets = Vec::new();
    for target in targets::all(conn)? {
        if target.standing != Standing::Forgotten {
            targets.push(one(conn, target, last_number)?);
        }
    }
    Ok(Overview {
        targets,
        events: count(last_number - removed),
        size_bytes: count(notes::used_bytes(conn)?),
        size_max_bytes: count(rules.size_max_bytes),
        durability,
    })
}

fn one(conn: &Connection, target: Target, last_number: i64) -> Result<TargetOverview, Fault> {
    let mut statement = conn.prepare_cached(
        "SELECT state, count(*), min(event) FROM delivery INDEXED BY delivery_open \
         WHERE target = ?1 AND state < 6 GROUP BY state",
    )?;
    let mut rows = statement.query([target.num])?;
    let mut view = TargetOverview {
        status: target.status(),
        name: target.name,
        breaker: target.breaker,
        queued: count(last_number - target.passed),
        in_flight: 0,
        waiting: 0,
        parked: 0,
        dead: 0,
        oldest_unfinished: None,
    };
    let mut oldest: Option<i64> = conn
        .prepare_cached(concat!("SELECT id FROM event WHERE id > ?1 AND ", kept!(), " ORDER BY id LIMIT 1"))?
        .query_row([target.cursor], |row| row.get(0))
        .optional()?;
    while let Some(row) = rows.next()? {
        let state = codes::state(row.get(0)?)?;
        let number = count(row.get(1)?);
        match state {
            State::Queued => view.queued += number,
            State::InFlight => view.in_flight = number,
            State::Waiting => view.waiting = number,
            State::Parked => view.parked = number,
            State::Dead => view.dead = number,
            State::Delivered | State::Skipped | State::Cancelled => {}
        }
        if !state.is_ended() {
            oldest = oldest.into_iter().chain(row.get::<_, Option<i64>>(2)?).min();
        }
    }
    view.oldest_unfinished = oldest.map(codes::accepted_at);
    Ok(view)
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
