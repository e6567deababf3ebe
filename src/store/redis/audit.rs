//! What is in flight under a lease, read back from Redis: what our own process does not hold is given back, and what a
//! dead relay held is taken over. Both end by the settle script, so that only one place takes a delivery out of flight.

use std::sync::Arc;

use bytes::Bytes;
use redis::Value;

use crate::event::{EventId, TargetName};
use crate::lifecycle::TakenOver;
use crate::store::{Settled, StoreError};

use super::codes::{self, Token};
use super::core::Core;
use super::entries::{self, Entry};
use super::keys::Part;
use super::link::{Lane, LinkError};
use super::record::Record;
use super::reply::{self, Odd};
use super::settle::{self, Outgoing};

/// Deliveries of one step: a short script.
const STEP: usize = 128;

/// Why deliveries are taken out of flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    /// Nobody in this process holds them: as if they had not been claimed.
    NotHeld,
    /// Their holder is dead.
    HolderDied,
}

/// Gives back what is in flight to `target` under our lease and not held by anybody here. The caller holds the target's
/// gate, so that no claim is on its way.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn target(core: &Arc<Core>, target: &TargetName) -> Result<u64, StoreError> {
    take_out(core, target, core.lease(), Why::NotHeld).await
}

/// Takes over what a dead relay has in flight to `target`.
///
/// # Errors
/// Where Redis cannot be reached; what was taken over until then stays so.
pub async fn take_over(core: &Arc<Core>, target: &TargetName, dead: u32) -> Result<u64, StoreError> {
    take_out(core, target, dead, Why::HolderDied).await
}

async fn take_out(core: &Arc<Core>, target: &TargetName, lease: u32, why: Why) -> Result<u64, StoreError> {
    let in_flight = in_flight(core, target, lease).await?;
    let lost: Vec<(EventId, Token)> = in_flight
        .into_iter()
        .filter(|(id, token)| why == Why::HolderDied || !core.held.is_held(target, *id, *token))
        .collect();
    let mut done = 0;
    for step in lost.chunks(STEP) {
        let batch = outgoing(core, target, step, why).await?;
        let settled = settle::send(core, target, &batch).await?;
        done += settled.iter().filter(|settled| **settled == Settled::Done).count() as u64;
    }
    Ok(done)
}

/// Everything in flight under `lease`: pending in the group, or with a record. Bounded by what one relay leases.
async fn in_flight(
    core: &Core, target: &TargetName, lease: u32,
) -> Result<Vec<(EventId, Token)>, StoreError> {
    let mut found = Vec::new();
    for (id, _) in pending(core, target, Some(lease)).await? {
        found.push((id, Token { lease, claim: 0 }));
    }
    let mut command = redis::cmd("HGETALL");
    command.arg(core.keys.of_target(target, Part::Act));
    const WHAT: &str = "deliveries in flight";
    for (id, token) in reply::pairs(core.link.command(Lane::Admin, &command).await?, WHAT)? {
        let id = codes::from_hex(&id).ok_or(Odd(WHAT))?;
        let token = Token::parse(&reply::bytes(token, WHAT)?).ok_or(Odd(WHAT))?;
        if token.lease == lease {
            found.push((id, token));
        }
    }
    Ok(found)
}

/// What is pending in a target's group, under one lease or any, each with how long it has been so, in ms. Nothing where
/// the group is gone.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn pending(
    core: &Core, target: &TargetName, lease: Option<u32>,
) -> Result<Vec<(EventId, u64)>, StoreError> {
    const PAGE: usize = 1_000;
    const WHAT: &str = "pending entries";
    let (mut found, mut from) = (Vec::new(), "-".to_owned());
    loop {
        let mut command = redis::cmd("XPENDING");
        command.arg(core.keys.log()).arg(target.as_str()).arg(&from).arg("+").arg(PAGE);
        if let Some(lease) = lease {
            command.arg(lease);
        }
        let page = match core.link.command(Lane::Admin, &command).await {
            Err(LinkError::Refused(error)) if error.code() == Some("NOGROUP") => return Ok(found),
            other => reply::array(other?, WHAT)?,
        };
        let count = page.len();
        for entry in page {
            let Ok([id, _, idle, _]) = <[Value; 4]>::try_from(reply::array(entry, WHAT)?) else {
                return Err(Odd(WHAT).into());
            };
            let id = codes::from_stream(&reply::bytes(id, WHAT)?).ok_or(Odd(WHAT))?;
            found.push((id, reply::number(idle, WHAT)?));
        }
        match found.last() {
            Some((last, _)) if count == PAGE => from = format!("({}", codes::stream_id(*last)),
            Some(_) | None => return Ok(found),
        }
    }
}

async fn outgoing(
    core: &Core, target: &TargetName, step: &[(EventId, Token)], why: Why,
) -> Result<Vec<Outgoing>, StoreError> {
    let ids: Vec<EventId> = step.iter().map(|(id, _)| *id).collect();
    let entries = entries::of(core, &ids).await?;
    let records = records(core, target, &ids).await?;
    let facts = step.iter().zip(entries).zip(records);
    Ok(facts.map(|(((id, token), entry), record)| one_out(core, (*id, *token), entry, record, why)).collect())
}

fn one_out(
    core: &Core, (id, token): (EventId, Token), entry: Option<Entry>, record: Option<Record>, why: Why,
) -> Outgoing {
    let mut record = record.unwrap_or_else(|| Record::in_flight(core.clock.now()));
    if why == Why::HolderDied {
        record.progress.takeovers = record.progress.takeovers.saturating_add(1);
        record.progress.taken_over = TakenOver::Yes;
    }
    let (kind, subject) = entry.map_or_else(Default::default, |entry| (entry.kind, entry.subject));
    Outgoing {
        id,
        token,
        state: settle::returned(&record),
        after_ms: 0,
        record,
        attempts: None,
        kind,
        subject,
        mark: None,
    }
}

/// The records of these deliveries of one target.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn records(
    core: &Core, target: &TargetName, ids: &[EventId],
) -> Result<Vec<Option<Record>>, StoreError> {
    Ok(records_of(core, std::slice::from_ref(target), ids).await?.pop().unwrap_or_default())
}

/// The records of these events for each of these targets, in their order.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn records_of(
    core: &Core, targets: &[TargetName], ids: &[EventId],
) -> Result<Vec<Vec<Option<Record>>>, StoreError> {
    if ids.is_empty() || targets.is_empty() {
        return Ok(vec![Vec::new(); targets.len()]);
    }
    let ids: Vec<String> = ids.iter().copied().map(codes::hex).collect();
    let mut pipeline = redis::pipe();
    for target in targets {
        pipeline.cmd("HMGET").arg(core.keys.of_target(target, Part::Records)).arg(&ids);
    }
    let parse = |value| -> Result<Option<Record>, Odd> {
        let text: Option<Bytes> = reply::some_bytes(value, "a record")?;
        Ok(text.and_then(|text| Record::parse(std::str::from_utf8(&text).ok()?)))
    };
    let mut all = Vec::with_capacity(targets.len());
    for found in core.link.pipeline(Lane::Admin, &pipeline).await? {
        let found = reply::array(found, "records")?;
        all.push(found.into_iter().map(parse).collect::<Result<_, _>>()?);
    }
    Ok(all)
}
