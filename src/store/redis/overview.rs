//! The state of every target and of the store, counted in one script, so that all of it is of one moment.

use redis::Value;

use crate::event::TargetName;
use crate::store::StoreError;
use crate::store::query::{Overview, TargetOverview, TargetStatus};

use super::claim::{pause_reason, read_breaker};
use super::codes::{self, arg};
use super::core::Core;
use super::keys::Part;
use super::link::Lane;
use super::reply::{self, Odd};
use super::targets;

const WHAT: &str = "an overview";

/// Looks at everything.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn overview(core: &Core) -> Result<Overview, StoreError> {
    const PARTS: [Part; 6] = [Part::Own, Part::Queued, Part::Flying, Part::Waiting, Part::Parked, Part::Dead];
    let memory = core.fullness.ask(core).await?;
    let names = targets::all(core).await?;
    let mut keys = vec![core.keys.log(), core.keys.meta(), core.keys.aside_ids()];
    keys.extend(names.iter().flat_map(|name| PARTS.map(|part| core.keys.of_target(name, part))));
    let args: Vec<Vec<u8>> = names.iter().map(arg).collect();
    let reply = core.link.call(Lane::Admin, &core.scripts.overview, &keys, &args).await?;
    let mut values = reply::array(reply, WHAT)?.into_iter();
    let mut count = || reply::number::<u64>(values.next().ok_or(Odd(WHAT))?, WHAT);
    let (added, removed) = (count()?, count()?);
    let mut found = Vec::with_capacity(names.len());
    for (name, row) in names.into_iter().zip(values) {
        found.extend(read(name, row, added)?);
    }
    Ok(Overview {
        targets: found,
        events: added.saturating_sub(removed),
        size_bytes: memory.used_bytes,
        size_max_bytes: memory.max_bytes,
        durability: core.assurance.durability(),
    })
}

/// One target, unless it is forgotten.
fn read(name: TargetName, row: Value, added: u64) -> Result<Option<TargetOverview>, Odd> {
    let Ok(row) = <[Value; 15]>::try_from(reply::array(row, WHAT)?) else { return Err(Odd(WHAT)) };
    let [standing, paused, passed, revision, phase, since, failed, probe_at, counts @ .., oldest] = row;
    let paused = reply::text(paused, WHAT)?;
    let status = match reply::text(standing, WHAT)?.as_str() {
        "" | "forgotten" => return Ok(None),
        "orphan" => TargetStatus::Orphan,
        _ if paused.is_empty() => TargetStatus::Active,
        _ => TargetStatus::Paused(pause_reason(&paused).ok_or(Odd(WHAT))?),
    };
    let mut numbers = [0; 6];
    for (number, count) in numbers.iter_mut().zip(counts) {
        *number = reply::number(count, WHAT)?;
    }
    let [queued, flying, waiting, parked, dead, pending] = numbers;
    let unread = added.saturating_sub(reply::number(passed, WHAT)?);
    Ok(Some(TargetOverview {
        name,
        status,
        breaker: read_breaker([revision, phase, since, failed, probe_at])?,
        queued: queued + unread,
        in_flight: flying + pending,
        waiting,
        parked,
        dead,
        oldest_unfinished: codes::from_hex(&reply::bytes(oldest, WHAT)?).map(codes::accepted_at),
    }))
}
