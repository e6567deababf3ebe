//! The tallies in Redis: a hash for each minute, which runs out by itself.

use std::time::Duration;

use redis::Value;

use crate::clock::Timestamp;
use crate::store::StoreError;
use crate::store::ledger::TALLY_MINUTES_KEPT;
use crate::telemetry::tally::{Tally, minute_of};

use super::codes;
use super::core::Core;
use super::link::Lane;
use super::reply::{self, Odd};

const WHAT: &str = "tallies";
const MINUTE: Duration = Duration::from_secs(60);
/// A minute's hash lives for this long after it was last added to: it is never gone before it is too old.
const LIFE: Duration = Duration::from_secs(60 * (TALLY_MINUTES_KEPT as u64 + 2));

/// Adds to what is there.
///
/// # Errors
/// Where Redis cannot be reached; what was added until then stays so.
pub async fn add(core: &Core, tallies: &[Tally]) -> Result<(), StoreError> {
    let mut pipeline = redis::pipe();
    let mut minutes: Vec<Timestamp> = tallies.iter().map(|tally| minute_of(tally.minute)).collect();
    for (tally, minute) in tallies.iter().zip(&minutes) {
        let field = format!("{}:{}", tally.of, tally.counter.as_str());
        let count = i64::try_from(tally.count).unwrap_or(i64::MAX);
        pipeline.cmd("HINCRBY").arg(core.keys.tally(*minute)).arg(field).arg(count);
    }
    minutes.sort_unstable();
    minutes.dedup();
    for minute in minutes {
        pipeline.cmd("PEXPIRE").arg(core.keys.tally(minute)).arg(codes::millis(LIFE));
    }
    if !tallies.is_empty() {
        core.link.pipeline(Lane::Admin, &pipeline).await?;
    }
    Ok(())
}

/// The sums of every minute that began at or after `since` and is still kept.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn since(core: &Core, since: Timestamp) -> Result<Vec<Tally>, StoreError> {
    let time = core.link.command(Lane::Admin, &redis::cmd("TIME")).await?;
    let now = minute_of(core.time(time)?);
    let first = now.minus(MINUTE * TALLY_MINUTES_KEPT).max(since);
    // One more than the present: the clock of the relay that counts may be ahead.
    let minutes = (0..=TALLY_MINUTES_KEPT + 1).map(|back| now.plus(MINUTE).minus(MINUTE * back));
    let minutes: Vec<Timestamp> = minutes.filter(|minute| *minute >= first).collect();
    if minutes.is_empty() {
        return Ok(Vec::new());
    }
    let mut pipeline = redis::pipe();
    for minute in &minutes {
        pipeline.cmd("HGETALL").arg(core.keys.tally(*minute));
    }
    let replies = core.link.pipeline(Lane::Admin, &pipeline).await?;
    let mut found = Vec::new();
    for (minute, reply) in minutes.into_iter().zip(replies) {
        found.extend(read(minute, reply)?);
    }
    Ok(found)
}

fn read(minute: Timestamp, counts: Value) -> Result<Vec<Tally>, Odd> {
    let mut found = Vec::new();
    for (field, count) in reply::pairs(counts, WHAT)? {
        let field = std::str::from_utf8(&field).map_err(|_| Odd(WHAT))?;
        let (of, counter) = field.rsplit_once(':').ok_or(Odd(WHAT))?;
        // Another release may have counted what this one does not know.
        if let (Ok(of), Ok(counter)) = (of.parse(), counter.parse()) {
            found.push(Tally { minute, of, counter, count: reply::number(count, WHAT)? });
        }
    }
    Ok(found)
}
