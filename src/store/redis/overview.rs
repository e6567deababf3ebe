//! The state of every target and of the store: counts of indexes and counters, no payload but one for each target that
//! lags.

use redis::Value;

use crate::event::{EventId, TargetName};
use crate::store::StoreError;
use crate::store::query::{Overview, TargetOverview, TargetStatus};

use super::claim::{pause_reason, read_breaker};
use super::codes;
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
    let memory = core.fullness.ask(core).await?;
    let mut command = redis::cmd("HMGET");
    command.arg(core.keys.meta()).arg("added").arg("removed");
    let counts = reply::array(core.link.command(Lane::Admin, &command).await?, WHAT)?;
    let mut counts = counts.into_iter().map(|value| reply::some_number::<u64>(value, WHAT));
    let mut count = || counts.next().transpose().map(|count| count.flatten().unwrap_or(0));
    let (added, removed) = (count()?, count()?);
    let mut found = Vec::new();
    for name in targets::all(core).await? {
        found.extend(one(core, name, added).await?);
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
async fn one(core: &Core, name: TargetName, added: u64) -> Result<Option<TargetOverview>, StoreError> {
    const STATES: [Part; 5] = [Part::Queued, Part::Flying, Part::Waiting, Part::Parked, Part::Dead];
    let mut pipeline = redis::pipe();
    pipeline.cmd("HMGET").arg(core.keys.of_target(&name, Part::Own));
    for field in
        ["standing", "paused", "passed", "cursor", "revision", "phase", "since", "failed", "probe_at"]
    {
        pipeline.arg(field);
    }
    for part in STATES {
        pipeline.cmd("ZCARD").arg(core.keys.of_target(&name, part));
    }
    let mut replies = core.link.pipeline(Lane::Admin, &pipeline).await?.into_iter();
    let mut next = || replies.next().ok_or(Odd(WHAT));
    let own = reply::array(next()?, WHAT)?;
    let Ok([standing, paused, passed, cursor, revision, phase, since, failed, probe_at]) =
        <[Value; 9]>::try_from(own)
    else {
        return Err(Odd(WHAT).into());
    };
    let paused = reply::some_bytes(paused, WHAT)?.unwrap_or_default();
    let status = match reply::some_bytes(standing, WHAT)?.as_deref() {
        None | Some(b"forgotten") => return Ok(None),
        Some(b"orphan") => TargetStatus::Orphan,
        Some(_) if paused.is_empty() => TargetStatus::Active,
        Some(_) => {
            let reason = std::str::from_utf8(&paused).ok().and_then(pause_reason);
            TargetStatus::Paused(reason.ok_or(Odd(WHAT))?)
        }
    };
    let mut counts = [0_u64; 5];
    for count in &mut counts {
        *count = reply::number(next()?, WHAT)?;
    }
    let mut oldest = None;
    for (part, _) in STATES[..4].iter().zip(counts).filter(|(_, count)| *count > 0) {
        oldest = earlier(oldest, first(core, &name, *part).await?);
    }
    let (pending, first_pending) = pending(core, &name).await?;
    let unread = added.saturating_sub(reply::some_number(passed, WHAT)?.unwrap_or(0));
    let oldest = earlier(oldest, first_pending);
    let oldest = if unread == 0 { oldest } else { earlier(oldest, first_unread(core, cursor).await?) };
    let [queued, flying, waiting, parked, dead] = counts;
    Ok(Some(TargetOverview {
        name,
        status,
        breaker: read_breaker([revision, phase, since, failed, probe_at])?,
        queued: queued + unread,
        in_flight: flying + pending,
        waiting,
        parked,
        dead,
        oldest_unfinished: oldest.map(codes::accepted_at),
    }))
}

/// The first event of a state's index.
async fn first(core: &Core, name: &TargetName, part: Part) -> Result<Option<EventId>, StoreError> {
    let mut command = redis::cmd("ZRANGE");
    command.arg(core.keys.of_target(name, part)).arg(0).arg(0);
    let ids = reply::array(core.link.command(Lane::Admin, &command).await?, WHAT)?;
    let id = ids.into_iter().next().map(|id| reply::bytes(id, WHAT)).transpose()?;
    Ok(id.and_then(|id| codes::from_hex(&id)))
}

fn earlier(one: Option<EventId>, other: Option<EventId>) -> Option<EventId> {
    one.into_iter().chain(other).min()
}

/// How many entries are pending in the target's group, and the first of them.
async fn pending(core: &Core, name: &TargetName) -> Result<(u64, Option<EventId>), StoreError> {
    let mut command = redis::cmd("XPENDING");
    command.arg(core.keys.log()).arg(name.as_str());
    let reply = match core.link.command(Lane::Admin, &command).await {
        Err(super::link::LinkError::Refused(error)) if error.code() == Some("NOGROUP") => {
            return Ok((0, None));
        }
        other => reply::array(other?, WHAT)?,
    };
    let mut values = reply.into_iter();
    let count = reply::number(values.next().ok_or(Odd(WHAT))?, WHAT)?;
    let first = reply::some_bytes(values.next().ok_or(Odd(WHAT))?, WHAT)?;
    Ok((count, first.and_then(|first| codes::from_stream(&first))))
}

/// The first entry of the log behind this cursor.
async fn first_unread(core: &Core, cursor: Value) -> Result<Option<EventId>, StoreError> {
    let cursor = reply::some_bytes(cursor, WHAT)?;
    let cursor = cursor.and_then(|text| codes::from_stream(&text));
    let from = cursor.map_or_else(|| "-".to_owned(), |cursor| format!("({}", codes::stream_id(cursor)));
    let mut command = redis::cmd("XRANGE");
    command.arg(core.keys.log()).arg(from).arg("+").arg("COUNT").arg(1);
    let found = reply::entries(core.link.command(Lane::Admin, &command).await?)?;
    Ok(found.first().map(|entry| entry.id))
}
