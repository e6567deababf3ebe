//! Erasing what is kept of a subject, one bounded step at a time: its events are listed here, and erased by a script over
//! all targets, some at once. The event stays, as a fact among those that were kept aside of the log.

use redis::Value;
use tracing::warn;

use crate::event::{EventId, TargetName, frame};
use crate::lifecycle::State;
use crate::store::StoreError;
use crate::store::query::{Cursor, Erase, Erased, Mode};

use super::codes::{self, arg};
use super::core::Core;
use super::entries::{self, Entry};
use super::link::Lane;
use super::look::Look;
use super::reply::{self, Odd};
use super::{refusals, select, targets};

/// Events of one step at most.
const EVENTS_MAX: u32 = 100;
/// Events of one script: each may put some hundred neighbours aside, so that it takes some 10 ms.
const EVENTS_AT_ONCE: usize = 4;
/// Ids of a subject that are read at once.
const IDS_PAGE: usize = 1_000;
/// How often a script is tried again because a target came at the same moment.
const TRIES: u32 = 4;

/// Applies one step, or counts what it would do.
///
/// # Errors
/// Where Redis cannot be reached; what was erased until then stays so, and a repetition skips it.
pub async fn erase(core: &Core, erase: &Erase) -> Result<Erased, StoreError> {
    let max = erase.max.clamp(1, EVENTS_MAX) as usize;
    let mut ids = listed(core, erase, max + 1).await?;
    let is_cut = ids.len() > max;
    ids.truncate(max);
    let next = ids.last().filter(|_| is_cut).map(|last| Cursor::Event(*last));
    let found = entries::of(core, &ids).await?;
    match erase.mode {
        Mode::Count => count(core, found, next).await,
        Mode::Apply => apply(core, &ids, found, next).await,
    }
}

/// The ids of the subject's events that the step means, newest first, at most `max`. Those that have gone are among them.
async fn listed(core: &Core, erase: &Erase, max: usize) -> Result<Vec<EventId>, StoreError> {
    let (below, _) = select::place_of(erase.after.as_ref());
    let key = core.keys.subject(erase.subject.as_str());
    let (mut ids, mut passed) = (Vec::new(), 0);
    while ids.len() < max {
        let mut command = redis::cmd("LRANGE");
        command.arg(&key).arg(-((passed + IDS_PAGE) as i64)).arg(-(passed as i64) - 1);
        let page = reply::array(core.link.command(Lane::Admin, &command).await?, "a subject's events")?;
        let is_last = page.len() < IDS_PAGE;
        for id in page.into_iter().rev() {
            let id = codes::from_hex(&reply::bytes(id, "an id")?).ok_or(Odd("an id"))?;
            let is_new = ids.last().is_none_or(|last| id < *last); // the list may have grown meanwhile
            if is_new && id < below && codes::accepted_at(id) <= erase.as_of && ids.len() < max {
                ids.push(id);
            }
        }
        if is_last {
            break;
        }
        passed += IDS_PAGE;
    }
    Ok(ids)
}

async fn count(core: &Core, found: Vec<Option<Entry>>, next: Option<Cursor>) -> Result<Erased, StoreError> {
    let found: Vec<Entry> = found.into_iter().flatten().collect();
    let ids: Vec<EventId> = found.iter().map(|entry| entry.id).collect();
    let events = found.iter().filter(|entry| !frame::is_erased(&entry.frame)).count() as u64;
    let look = Look::new(core, targets::all(core).await?).await?;
    let mut in_flight = 0;
    for records in look.records(core, &ids).await? {
        let flying = records.iter().flatten().filter(|record| record.state == State::InFlight);
        in_flight += flying.count() as u64;
    }
    Ok(Erased { events, in_flight, next })
}

async fn apply(
    core: &Core, ids: &[EventId], found: Vec<Option<Entry>>, next: Option<Cursor>,
) -> Result<Erased, StoreError> {
    let svix_ids: Vec<String> = found
        .iter()
        .flatten()
        .filter_map(|entry| Some(frame::facts(&entry.frame).ok()?.svix_id.to_string()))
        .collect();
    let events: Vec<(EventId, Vec<u8>)> = ids
        .iter()
        .zip(&found)
        .map(|(id, entry)| (*id, entry.as_ref().map_or_else(Vec::new, |entry| frame::erase(&entry.frame))))
        .collect();
    let mut erased = Erased { events: 0, in_flight: 0, next };
    for some in events.chunks(EVENTS_AT_ONCE) {
        let Done { events, in_flight, left } = send(core, some).await?;
        erased.events += events;
        erased.in_flight += in_flight;
        if left > 0 {
            warn!(
                "store.log_not_emptied: erased entries stay in the memory of the log, out of reach, until it is trimmed"
            );
        }
    }
    refusals::forget(core, &svix_ids).await?;
    if erased.events > 0 {
        core.fullness.forget();
        core.ring();
    }
    Ok(erased)
}

/// What a script did.
struct Done {
    events: u64,
    in_flight: u64,
    left: u64,
}

async fn send(core: &Core, events: &[(EventId, Vec<u8>)]) -> Result<Done, StoreError> {
    for _ in 0..TRIES {
        let all: Vec<TargetName> = targets::all(core).await?;
        let mut keys = vec![
            core.keys.log(),
            core.keys.meta(),
            core.keys.kept_frames(),
            core.keys.kept_ids(),
            core.keys.aside_ids(),
            core.keys.targets(),
            core.keys.bell(),
        ];
        keys.extend(all.iter().flat_map(|target| core.keys.target(target)));
        let mut args = vec![arg(core.clock.offset_ms()), arg(core.lease()), arg(all.len())];
        args.extend(all.iter().map(arg));
        for (id, frame) in events {
            args.extend([arg(codes::hex(*id)), frame.clone()]);
        }
        let reply = core.link.call(Lane::Admin, &core.scripts.erase, &keys, &args).await?;
        if let Some(done) = read(reply)? {
            return Ok(done);
        }
    }
    Err(StoreError::Unavailable(None))
}

fn read(reply: Value) -> Result<Option<Done>, Odd> {
    const WHAT: &str = "the result of an erasure";
    let mut values = reply::array(reply, WHAT)?.into_iter();
    let Some(events) = values.next() else { return Ok(None) };
    let mut next = || reply::number(values.next().ok_or(Odd(WHAT))?, WHAT);
    Ok(Some(Done { events: reply::number(events, WHAT)?, in_flight: next()?, left: next()? }))
}
