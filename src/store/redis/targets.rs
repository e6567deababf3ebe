//! The targets in the store: declared by every relay, controlled by people, put right where the store has lost them.

use std::sync::{Arc, PoisonError};

use redis::Value;
use tracing::error;

use crate::event::TargetName;
use crate::lifecycle::{Ordering, Start};
use crate::store::{ClaimWanted, Control, Controlled, StoreError, TargetChange, TargetSpec, Turn};

use super::codes::{self, arg};
use super::core::Core;
use super::keys::Part;
use super::link::{Lane, LinkError};
use super::redrive;
use super::reply::{self, Odd};

/// Steps of 500 by which a forgotten target's deliveries are cancelled at once, in some seconds at most; sweeps do the
/// rest.
const FORGET_STEPS: u32 = 100;
/// How often a declaration is tried again because another relay made a target at the same moment.
const DECLARE_TRIES: u32 = 8;

/// The names of all targets that ever were.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn all(core: &Core) -> Result<Vec<TargetName>, StoreError> {
    let mut command = redis::cmd("SMEMBERS");
    command.arg(core.keys.targets());
    let found = reply::array(core.link.command(Lane::Admin, &command).await?, "targets")?;
    let mut names = Vec::with_capacity(found.len());
    for name in found {
        names.push(reply::text(name, "a target")?.parse().map_err(|_| Odd("a target's name"))?);
    }
    names.sort_unstable();
    Ok(names)
}

/// Those of `all` that were forgotten.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn forgotten<'n>(core: &Core, all: &'n [TargetName]) -> Result<Vec<&'n TargetName>, StoreError> {
    let mut pipeline = redis::pipe();
    for target in all {
        pipeline.cmd("HGET").arg(core.keys.of_target(target, Part::Own)).arg("standing");
    }
    let standings =
        if all.is_empty() { Vec::new() } else { core.link.pipeline(Lane::Admin, &pipeline).await? };
    let mut found = Vec::new();
    for (target, standing) in all.iter().zip(standings) {
        if reply::some_bytes(standing, "a standing")?.as_deref() == Some(b"forgotten") {
            found.push(target);
        }
    }
    Ok(found)
}

/// Declares `specs` as this relay's targets.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn declare(core: &Arc<Core>, specs: &[TargetSpec]) -> Result<Vec<TargetChange>, StoreError> {
    let lease = core.lease();
    let (number, changes) = send(core, specs, None).await?;
    {
        let mut declared = core.declared.lock().unwrap_or_else(PoisonError::into_inner);
        declared.specs = Some(specs.to_vec());
        declared.number = Some(number);
        declared.lease = lease;
        declared.disputed = disputed(&changes);
    }
    seed(core, specs, &changes).await?;
    core.ring();
    Ok(changes)
}

/// Whether others have declared something since we last looked, or we nothing under our present lease.
pub fn is_news(core: &Core, revision: u64) -> bool {
    let declared = core.declared.lock().unwrap_or_else(PoisonError::into_inner);
    declared.revision != revision || (declared.specs.is_some() && declared.lease != core.lease())
}

/// Declares again what this relay declared last, because others have changed, died, or the store has lost it; tells
/// what is new to us.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn declare_again(core: &Arc<Core>, revision: u64) -> Result<Vec<TargetChange>, StoreError> {
    let lease = core.lease();
    let (specs, number) = {
        let mut declared = core.declared.lock().unwrap_or_else(PoisonError::into_inner);
        if declared.specs.is_none() {
            declared.revision = revision;
        }
        (declared.specs.clone(), declared.number)
    };
    let Some(specs) = specs else { return Ok(Vec::new()) };
    // What the store does not know any more it has lost: nothing of it may be passed over.
    let specs: Vec<TargetSpec> =
        specs.into_iter().map(|spec| TargetSpec { start: Start::Beginning, ..spec }).collect();
    let (_, mut changes) = send(core, &specs, number).await?;
    seed(core, &specs, &changes).await?;
    let mut declared = core.declared.lock().unwrap_or_else(PoisonError::into_inner);
    (declared.revision, declared.lease) = (revision, lease);
    let known = std::mem::replace(&mut declared.disputed, disputed(&changes));
    changes.retain(|change| !matches!(change, TargetChange::Disputed(name) if known.contains(name)));
    Ok(changes)
}

/// Declares everything again where a target that this relay has declared is unknown to the store: it has lost its data.
/// Tells whether it was one of ours.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn declare_what_was_lost(core: &Arc<Core>, target: &TargetName) -> Result<bool, StoreError> {
    let revision = {
        let declared = core.declared.lock().unwrap_or_else(PoisonError::into_inner);
        let is_ours = declared.specs.iter().flatten().any(|spec| spec.name == *target);
        if !is_ours {
            return Ok(false);
        }
        declared.revision
    };
    error!(%target, "store.data_lost: Redis does not know this target any more; it begins again with the oldest event that is kept");
    declare_again(core, revision).await?;
    Ok(true)
}

fn disputed(changes: &[TargetChange]) -> Vec<TargetName> {
    let of = |change: &TargetChange| match change {
        TargetChange::Disputed(name) => Some(name.clone()),
        TargetChange::Added(_) | TargetChange::Returned(_) | TargetChange::Orphaned(_) => None,
    };
    changes.iter().filter_map(of).collect()
}

async fn send(
    core: &Core, specs: &[TargetSpec], number: Option<u64>,
) -> Result<(u64, Vec<TargetChange>), StoreError> {
    for _ in 0..DECLARE_TRIES {
        let others: Vec<TargetName> =
            all(core).await?.into_iter().filter(|name| specs.iter().all(|spec| spec.name != *name)).collect();
        let mut keys = vec![
            core.keys.log(),
            core.keys.meta(),
            core.keys.relays(),
            core.keys.declared(),
            core.keys.targets(),
            core.keys.bell(),
            core.keys.kept_ids(),
            core.keys.aside_ids(),
        ];
        let names = specs.iter().map(|spec| &spec.name).chain(&others);
        keys.extend(names.map(|name| core.keys.of_target(name, Part::Own)));
        let mut args =
            vec![arg(core.lease()), arg(number.map_or(String::new(), |n| n.to_string())), arg(specs.len())];
        for TargetSpec { name, start, url_digest } in specs {
            let start = match start {
                Start::Now => "now",
                Start::Beginning => "beginning",
            };
            args.extend([arg(name), arg(start), arg(url_digest)]);
        }
        args.extend(others.iter().map(arg));
        let reply = core.link.call(Lane::Admin, &core.scripts.declare, &keys, &args).await?;
        if let Some(done) = read(reply)? {
            return Ok(done);
        }
    }
    Err(StoreError::Unavailable(None))
}

fn read(reply: Value) -> Result<Option<(u64, Vec<TargetChange>)>, Odd> {
    const WHAT: &str = "the result of a declaration";
    let mut values = reply::array(reply, WHAT)?.into_iter();
    let Some(number) = values.next() else { return Ok(None) };
    let change = |value| {
        let Ok([how, name]) = <[Value; 2]>::try_from(reply::array(value, WHAT)?) else {
            return Err(Odd(WHAT));
        };
        let name = reply::text(name, WHAT)?.parse().map_err(|_| Odd(WHAT))?;
        Ok(match reply::text(how, WHAT)?.as_str() {
            "added" => TargetChange::Added(name),
            "returned" => TargetChange::Returned(name),
            "orphaned" => TargetChange::Orphaned(name),
            "disputed" => TargetChange::Disputed(name),
            _ => return Err(Odd(WHAT)),
        })
    };
    let changes = values.map(change).collect::<Result<_, _>>()?;
    Ok(Some((reply::number(number, WHAT)?, changes)))
}

/// A target that begins at the beginning also gets what was kept aside of the log.
async fn seed(core: &Core, specs: &[TargetSpec], changes: &[TargetChange]) -> Result<(), StoreError> {
    for spec in specs.iter().filter(|spec| spec.start == Start::Beginning) {
        if changes.contains(&TargetChange::Added(spec.name.clone())) {
            redrive::seed(core, &spec.name).await?;
        }
    }
    Ok(())
}

/// Pauses, resumes or forgets a target, or turns its breaker.
///
/// # Errors
/// Where Redis cannot be reached; a turn may then be half done, and what waits keeps its due time.
pub async fn control(
    core: &Arc<Core>, target: &TargetName, control: Control,
) -> Result<Controlled, StoreError> {
    let (what, detail, span_ms) = match control {
        Control::Pause(reason) => ("pause", reason.as_str().to_owned(), 0),
        Control::Resume => ("resume", String::new(), 0),
        Control::Forget => return forget(core, target).await,
        Control::Turn { from, to: Turn::Open { probe_after } } => {
            ("open", from.to_string(), codes::millis(probe_after))
        }
        Control::Turn { from, to: Turn::Close { spread } } => {
            ("close", from.to_string(), codes::millis(spread))
        }
    };
    let mut keys = vec![core.keys.meta(), core.keys.bell()];
    keys.extend(core.keys.target(target));
    let ask = async |what: &str| -> Result<String, StoreError> {
        let args = [arg(core.clock.offset_ms()), arg(core.lease()), arg(what), arg(&detail), arg(span_ms)];
        let reply = core.link.call(Lane::Admin, &core.scripts.control, &keys, &args).await?;
        Ok(reply::text(reply, "the result of a control")?)
    };
    let mut answer = ask(what).await?;
    while answer == "more" {
        answer = ask("spread").await?;
    }
    let controlled = match answer.as_str() {
        "changed" => Controlled::Changed,
        "unchanged" => Controlled::Unchanged,
        _ => Controlled::Refused,
    };
    if controlled == Controlled::Changed {
        core.ring();
    }
    Ok(controlled)
}

async fn forget(core: &Arc<Core>, target: &TargetName) -> Result<Controlled, StoreError> {
    let mut command = redis::cmd("HGET");
    command.arg(core.keys.of_target(target, Part::Own)).arg("standing");
    let standing = core.link.command(Lane::Admin, &command).await?;
    if reply::some_bytes(standing, "a standing")?.as_deref() != Some(b"orphan") {
        return Ok(Controlled::Refused);
    }
    for _ in 0..FORGET_STEPS {
        match forget_step(core, target, Forgetting::Begin).await?.as_str() {
            "more" => {}
            "refused" => return Ok(Controlled::Refused),
            _ => break,
        }
    }
    core.ring();
    Ok(Controlled::Changed)
}

/// Which step of forgetting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgetting {
    /// End an orphan.
    Begin,
    /// Cancel more of what one that was ended before still has unfinished.
    GoOn,
}

/// One step of ending an orphan, or of cancelling what a forgotten target still has unfinished.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn forget_step(core: &Core, target: &TargetName, what: Forgetting) -> Result<String, StoreError> {
    let mut keys = vec![core.keys.log(), core.keys.meta(), core.keys.bell()];
    keys.extend(core.keys.target(target));
    let what = match what {
        Forgetting::Begin => "forget",
        Forgetting::GoOn => "cancel",
    };
    let mut args = core.opening(target);
    args.push(arg(what));
    let reply = core.link.call(Lane::Admin, &core.scripts.forget, &keys, &args).await?;
    Ok(reply::text(reply, "the result of forgetting")?)
}

/// Makes a target's group again where it is gone although the target is there: at the last place that the store or we
/// know of, never at the end. What was in flight from the log has left no trace, and is queued first.
///
/// # Errors
/// Where Redis cannot be reached; the next claim tries again.
pub async fn remake_group(core: &Core, target: &TargetName, ours: Option<&str>) -> Result<(), StoreError> {
    let mut command = redis::cmd("HMGET");
    command.arg(core.keys.of_target(target, Part::Own)).arg("cursor").arg("began");
    let mut found = reply::array(core.link.command(Lane::Admin, &command).await?, "a place")?.into_iter();
    let mut place = || reply::some_bytes(found.next().unwrap_or(Value::Nil), "a place");
    let (theirs, began) = (place()?, place()?);
    let known = theirs.as_deref().or(ours.map(str::as_bytes)).and_then(codes::from_stream);
    let cursor = known.map_or_else(|| "0-0".to_owned(), codes::stream_id);
    error!(%target, cursor, "store.group_lost: the target's consumer group is gone from Redis; it is made again at the last place known");
    if let Some(began) = began.as_deref().and_then(codes::from_stream) {
        redrive::seed_untraced(core, target, began).await?;
    }
    let mut command = redis::cmd("XGROUP");
    command.arg("CREATE").arg(core.keys.log()).arg(target.as_str()).arg(&cursor).arg("MKSTREAM");
    match core.link.command(Lane::Admin, &command).await {
        Err(LinkError::Refused(refused)) if refused.code() == Some("BUSYGROUP") => Ok(()), // another relay was quicker
        other => Ok(other.map(drop)?),
    }
}

/// Makes a target's lanes anew, as `wanted` orders it.
///
/// # Errors
/// Where Redis cannot be reached; the next claim begins again.
pub async fn adopt(core: &Core, wanted: &ClaimWanted) -> Result<(), StoreError> {
    let mut keys = vec![core.keys.log(), core.keys.kept_frames(), core.keys.bell()];
    keys.extend(core.keys.target(&wanted.target));
    let number = core.declared.lock().unwrap_or_else(PoisonError::into_inner).number.unwrap_or(0);
    let mut place = String::new();
    loop {
        let mut args = core.opening(&wanted.target);
        args.extend([
            arg(u8::from(wanted.ordering == Ordering::Subject)),
            arg(wanted.unordered_types.join("\n")),
            arg(number),
            arg(&place),
        ]);
        let reply = core.link.call(Lane::Claim, &core.scripts.adopt, &keys, &args).await?;
        match reply::array(reply, "the result of an adoption")?.pop() {
            Some(next) => place = reply::text(next, "a place")?,
            None => return Ok(()),
        }
    }
}
