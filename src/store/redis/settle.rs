//! Settling: decided transitions of one target in one script. The only way by which a delivery leaves flight: settles of
//! the flows, what a dead relay left, and what an audit finds all go through here.

use std::sync::Arc;

use bytes::Bytes;

use crate::event::{EventId, TargetName};
use crate::lifecycle::{State, Transition};
use crate::store::{Settle, Settled, StoreError};

use super::batch::Bounds;
use super::codes::{self, Token, arg};
use super::core::Core;
use super::link::Lane;
use super::memo::Memo;
use super::record::Record;
use super::reply::{self, Odd};

/// One batch of a target on its way; what is settled meanwhile makes up the next one.
pub const BOUNDS: Bounds = Bounds { batches_max: 1, members_max: 256, bytes_max: 512 * 1024 };
/// What a settle writes beside attempts, in bytes, roughly.
const SMALL_BYTES: usize = 256;

/// A transition on its way.
#[derive(Debug)]
pub struct Outgoing {
    /// Of which event.
    pub id: EventId,
    /// Under which right.
    pub token: Token,
    /// Where to.
    pub state: State,
    /// Until it is due, where it waits.
    pub after_ms: i64,
    /// The record as it will be; its state and times are the script's.
    pub record: Record,
    /// The attempts to keep beside it; `None`: as they were.
    pub attempts: Option<Vec<u8>>,
    /// The event's type and lane text.
    pub kind: Bytes,
    /// See above.
    pub subject: Bytes,
    /// The mark to keep longer, where it dies.
    pub mark: Option<Vec<u8>>,
}

impl Outgoing {
    /// What the port's settle comes to.
    pub fn new(core: &Core, settle: &Settle) -> Self {
        let Settle { lease, transition, attempt } = settle;
        let now = core.clock.now();
        let memo = Memo::decode(lease.memo.clone());
        let known = std::str::from_utf8(&memo.record).ok().and_then(Record::parse);
        let mut record = known.unwrap_or_else(|| Record::in_flight(now));
        record.progress = lease.progress;
        let attempts = record.settle(&memo.attempts, *transition, attempt.as_ref(), now);
        let (state, after_ms) = goes_to(*transition, &record);
        let mark = match (transition, &lease.event) {
            (Transition::Die(_), Ok(event)) => Some(core.keys.mark(&event.source, &event.svix_id)),
            (_, Ok(_) | Err(_)) => None,
        };
        Self {
            id: lease.event_id,
            token: Token::unpack(lease.token),
            state,
            after_ms,
            record,
            attempts,
            kind: memo.kind,
            subject: memo.subject,
            mark,
        }
    }

    /// Its size on the way.
    pub fn bytes(&self) -> usize {
        SMALL_BYTES + self.attempts.as_ref().map_or(0, Vec::len)
    }
}

fn goes_to(transition: Transition, record: &Record) -> (State, i64) {
    match transition {
        Transition::Deliver => (State::Delivered, 0),
        Transition::Wait { after } | Transition::Postpone { after } => (State::Waiting, codes::millis(after)),
        Transition::Die(_) => (State::Dead, 0),
        Transition::Skip(_) => (State::Skipped, 0),
        Transition::Return => (returned(record), 0),
        Transition::Erase => (State::Cancelled, 0),
    }
}

/// Whether it was ever attempted tells queued from waiting.
pub fn returned(record: &Record) -> State {
    if record.progress.attempts_total == 0 { State::Queued } else { State::Waiting }
}

/// Applies a batch of one target; a result for each, in order.
pub async fn apply(
    core: Arc<Core>, target: TargetName, batch: Vec<Outgoing>,
) -> Vec<Result<Settled, StoreError>> {
    match send(&core, &target, &batch).await {
        Ok(results) => {
            for one in &batch {
                core.held.release(&target, one.id, one.token);
            }
            results.into_iter().map(Ok).collect()
        }
        Err(error) => core.for_each(error, batch.len()),
    }
}

/// Applies transitions of one target, at most some hundreds.
///
/// # Errors
/// Where Redis cannot be reached; whether they were applied is unknown, and sending them again is harmless.
pub async fn send(core: &Core, target: &TargetName, batch: &[Outgoing]) -> Result<Vec<Settled>, StoreError> {
    let mut keys = vec![core.keys.log(), core.keys.bell()];
    keys.extend(core.keys.target(target));
    let mut args = core.opening(target);
    args.push(arg(core.rules.dead_letter_retention_ms));
    let mut marks = 0;
    for one in batch {
        let index = one.mark.as_ref().map_or(0, |mark| {
            keys.push(mark.clone());
            marks += 1;
            marks
        });
        args.extend([
            arg(codes::hex(one.id)),
            arg(codes::stream_id(one.id)),
            arg(one.token.lease),
            arg(one.token.claim),
            arg(codes::letter(one.state)),
            arg(one.after_ms),
            arg(one.record.fields()),
            one.attempts.clone().unwrap_or_default(),
            one.kind.to_vec(),
            one.subject.to_vec(),
            arg(index),
        ]);
    }
    let results = core.link.call(Lane::Settle, &core.scripts.settle, &keys, &args).await?;
    const WHAT: &str = "the result of a settle";
    let mut results = reply::array(results, WHAT)?.into_iter();
    if reply::number::<u8>(results.next().ok_or(Odd(WHAT))?, WHAT)? == 1 {
        core.ring();
    }
    let read = |value| match &*reply::bytes(value, WHAT)? {
        b"done" => Ok(Settled::Done),
        b"lost" => Ok(Settled::Lost),
        _ => Err(Odd(WHAT)),
    };
    let results: Vec<Settled> = results.map(read).collect::<Result<_, Odd>>()?;
    if results.len() == batch.len() { Ok(results) } else { Err(Odd(WHAT).into()) }
}
