//! Claiming: one script leases; here its reply becomes leases. A claim runs to its end even when its caller goes away, and
//! one whose reply was lost is followed by an audit, so that nothing stays in flight that nobody has.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::Value;
use tokio::sync::OwnedMutexGuard;
use tracing::error;

use crate::clock::Timestamp;
use crate::event::frame::{self, BadFrame};
use crate::event::{EventId, TargetName};
use crate::lifecycle::Ordering;
use crate::lifecycle::breaker::{Breaker, Phase};
use crate::store::query::TargetStatus;
use crate::store::{ClaimScope, ClaimWanted, Claimed, Lease, More, PauseReason, StoreError};

use super::codes::{self, Token, arg};
use super::core::{Core, Gate};
use super::held::Handover;
use super::link::Lane;
use super::memo::Memo;
use super::record::Record;
use super::reply::{self, Odd};
use super::{audit, leases, targets};

/// Leases that one claim gives at most, whatever was asked for: the script stays short.
const LEASES_MAX: usize = 256;
/// Frames are taken to be this large until some were seen, in bytes.
const FRAME_BYTES_GUESS: usize = 64 * 1024;
/// How often one claim may find that something must be put right first: our lease, the group, the lanes.
const REPAIRS_MAX: u32 = 4;

/// Audits that follow a claim of unknown outcome: one before the next claim, the others with the next ticks.
const AUDITS: u8 = 4;

/// Leases deliveries.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn claim(core: &Arc<Core>, wanted: ClaimWanted) -> Result<Claimed, StoreError> {
    let core = Arc::clone(core);
    let claimed = tokio::spawn(claim_whole(core, wanted)).await;
    let handover = claimed.map_err(|error| StoreError::Unavailable(Some(Box::new(error))))??;
    handover.accept().ok_or(StoreError::Unavailable(None))
}

async fn claim_whole(core: Arc<Core>, wanted: ClaimWanted) -> Result<Handover<Claimed>, StoreError> {
    let (core, wanted) = (&core, &wanted);
    let mut gate = core.gate(&wanted.target).lock_owned().await;
    if gate.audits_left == AUDITS {
        audit::target(core, &wanted.target).await?;
        gate.audits_left -= 1;
    }
    for _ in 0..REPAIRS_MAX {
        match ask(core, wanted, &mut gate).await {
            Ok(Answer::Claimed(claimed, tokens)) => {
                return Ok(core.held.hand_over(*claimed, &wanted.target, tokens));
            }
            Ok(Answer::Expired) => leases::beat(core).await.map(drop)?,
            Ok(Answer::NoGroup) => {
                unsure(core, wanted, &mut gate);
                targets::remake_group(core, &wanted.target, gate.cursor.as_deref()).await?;
            }
            Ok(Answer::Adopt) => targets::adopt(core, wanted).await?,
            Ok(Answer::Unknown) => {
                if !targets::declare_what_was_lost(core, &wanted.target).await? {
                    let claimed = nothing(core.clock.now());
                    return Ok(core.held.hand_over(claimed, &wanted.target, Vec::new()));
                }
            }
            Err(error) => {
                unsure(core, wanted, &mut gate);
                return Err(error);
            }
        }
    }
    Err(StoreError::Unavailable(None))
}

/// Something may be in flight that nobody has.
fn unsure(core: &Core, wanted: &ClaimWanted, gate: &mut Gate) {
    gate.audits_left = AUDITS;
    core.note_unsure(&wanted.target);
}

/// What a target gets that the store does not know.
fn nothing(now: Timestamp) -> Claimed {
    Claimed {
        leases: Vec::new(),
        now,
        next_due: None,
        more: More::None,
        status: TargetStatus::Orphan,
        breaker: Breaker::default(),
        relays: 1,
    }
}

/// What the script answered.
enum Answer {
    /// Leases, and what they are held by.
    Claimed(Box<Claimed>, Vec<(EventId, Token)>),
    /// Our lease is not alive.
    Expired,
    /// The group is gone.
    NoGroup,
    /// The target's lanes must be made anew.
    Adopt,
    /// The store does not know the target.
    Unknown,
}

async fn ask(
    core: &Core, wanted: &ClaimWanted, gate: &mut OwnedMutexGuard<Gate>,
) -> Result<Answer, StoreError> {
    let token = core.next_token();
    let (scope, age) = match wanted.scope {
        ClaimScope::Ready => ("ready", Duration::ZERO),
        ClaimScope::OlderThan(age) => ("older", age),
    };
    let declaration = core.declared.lock().unwrap_or_else(std::sync::PoisonError::into_inner).number;
    let largest = if gate.largest_bytes == 0 { FRAME_BYTES_GUESS } else { gate.largest_bytes };
    let mut keys = vec![
        core.keys.log(),
        core.keys.meta(),
        core.keys.kept_frames(),
        core.keys.relays(),
        core.keys.aside_ids(),
    ];
    keys.extend(core.keys.target(&wanted.target));
    let args = [
        arg(core.clock.offset_ms()),
        arg(&wanted.target),
        arg(token.lease),
        arg(token.claim),
        arg(wanted.leases_max.min(LEASES_MAX)),
        arg(wanted.bytes_max),
        arg(scope),
        arg(codes::millis(age)),
        arg(u8::from(wanted.ordering == Ordering::Subject)),
        arg(wanted.unordered_types.join("\n")),
        arg(declaration.unwrap_or(0)),
        arg(gate.first.as_str()),
        arg(codes::millis(wanted.probe_hold)),
        arg(largest),
    ];
    if wanted.scope == ClaimScope::Ready {
        gate.first = gate.first.other();
    }
    let reply = core.link.call(Lane::Claim, &core.scripts.claim, &keys, &args).await?;
    Ok(read(reply, &wanted.target, token, core.relays(), gate)?)
}

fn read(
    reply: Value, target: &TargetName, token: Token, relays: u32, gate: &mut OwnedMutexGuard<Gate>,
) -> Result<Answer, Odd> {
    const WHAT: &str = "the result of a claim";
    let mut values = reply::array(reply, WHAT)?.into_iter();
    let mut next = || values.next().ok_or(Odd(WHAT));
    let status = match reply::text(next()?, WHAT)?.as_str() {
        "expired" => return Ok(Answer::Expired),
        "nogroup" => return Ok(Answer::NoGroup),
        "adopt" => return Ok(Answer::Adopt),
        "unknown" => return Ok(Answer::Unknown),
        "forgotten" | "orphan" => TargetStatus::Orphan,
        "active" => TargetStatus::Active,
        paused => TargetStatus::Paused(pause_reason(paused).ok_or(Odd(WHAT))?),
    };
    let now = Timestamp::from_ms(reply::number(next()?, WHAT)?);
    let more = if reply::number::<u8>(next()?, WHAT)? == 1 { More::Ready } else { More::None };
    let next_due = u64::try_from(reply::number::<i64>(next()?, WHAT)?).ok().map(Duration::from_millis);
    gate.cursor = Some(reply::text(next()?, WHAT)?);
    let breaker = [next()?, next()?, next()?, next()?, next()?];
    let breaker = read_breaker(breaker)?;
    let raw = reply::array(next()?, WHAT)?;
    let (mut leases, mut tokens) = (Vec::with_capacity(raw.len()), Vec::with_capacity(raw.len()));
    let mut largest = 0;
    for one in raw {
        let (lease, frame_bytes) = read_lease(one, target, token.lease)?;
        largest = largest.max(frame_bytes);
        tokens.push((lease.event_id, Token::unpack(lease.token)));
        leases.push(lease);
    }
    // Falls slowly, so that one small batch does not let the next one read too much.
    gate.largest_bytes = largest.max(gate.largest_bytes - gate.largest_bytes / 8);
    Ok(Answer::Claimed(Box::new(Claimed { leases, now, next_due, more, status, breaker, relays }), tokens))
}

/// The reason in `paused:reason`, or in what stands behind it.
pub fn pause_reason(text: &str) -> Option<PauseReason> {
    let name = text.strip_prefix("paused:").unwrap_or(text);
    [PauseReason::Operator, PauseReason::Gone].into_iter().find(|reason| reason.as_str() == name)
}

/// The breaker in revision, phase, since, failed probes and next probe.
pub fn read_breaker(fields: [Value; 5]) -> Result<Breaker, Odd> {
    const WHAT: &str = "a breaker";
    let [revision, phase, since, failed, probe_at] = fields.map(|field| {
        let text = reply::some_bytes(field, WHAT)?.unwrap_or_default();
        String::from_utf8(text.into()).map_err(|_| Odd(WHAT))
    });
    let since: Option<i64> = match since? {
        empty if empty.is_empty() => None,
        text => Some(text.parse().map_err(|_| Odd(WHAT))?),
    };
    let number =
        |text: String| if text.is_empty() { Ok(0) } else { text.parse::<i64>().map_err(|_| Odd(WHAT)) };
    let phase = match &*phase? {
        "open" => Phase::Open {
            since: Timestamp::from_ms(since.ok_or(Odd(WHAT))?),
            failed_probes: u32::try_from(number(failed?)?).map_err(|_| Odd(WHAT))?,
            probe_at: Timestamp::from_ms(number(probe_at?)?),
        },
        _ => Phase::Closed { since: since.map(Timestamp::from_ms) },
    };
    Ok(Breaker { revision: number(revision?)?.unsigned_abs(), phase })
}

fn read_lease(value: Value, target: &TargetName, lease: u32) -> Result<(Lease, usize), Odd> {
    const WHAT: &str = "a lease";
    let Ok(parts) = <[Value; 7]>::try_from(reply::array(value, WHAT)?) else { return Err(Odd(WHAT)) };
    let [id, claim, kind, subject, record, attempts, bytes] = parts.map(|part| reply::bytes(part, WHAT));
    let (record, bytes) = (record?, bytes?);
    let event_id = codes::from_stream(&id?).ok_or(Odd(WHAT))?;
    let claim = std::str::from_utf8(&claim?).ok().and_then(|text| text.parse().ok()).ok_or(Odd(WHAT))?;
    let known = std::str::from_utf8(&record).ok().and_then(Record::parse);
    if known.is_none() && !record.is_empty() {
        error!(%event_id, %target, "store.record_unreadable: its attempts so far are forgotten");
    }
    let frame_bytes = bytes.len();
    let lease = Lease {
        target: target.clone(),
        event_id,
        token: Token { lease, claim }.pack(),
        progress: known.map_or_else(Default::default, |record| record.progress),
        event: decode(&bytes),
        memo: Memo { kind: kind?, subject: subject?, record, attempts: attempts? }.encode(),
    };
    Ok((lease, frame_bytes))
}

fn decode(bytes: &Bytes) -> Result<crate::event::Event, BadFrame> {
    if bytes.is_empty() { Err(BadFrame::Short) } else { frame::decode(bytes) }
}
