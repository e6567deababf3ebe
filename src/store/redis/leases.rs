//! This relay's lease, and what dead relays leave. A lease is renewed by beats and judged by the server's clock; one that
//! has run out is first marked, then emptied, then forgotten, so that whoever dies in the middle leaves a step to repeat.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::Value;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::store::{StoreError, Ticked};
use crate::telemetry::causes;

use super::codes::arg;
use super::core::Core;
use super::keys::Part;
use super::link::Lane;
use super::reply::{self, Odd};
use super::{audit, targets};

/// The farewell of a relay that stops may take this long; a lease that is not given back runs out by itself.
const FAREWELL_MAX: Duration = Duration::from_secs(2);

/// What a beat found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// Relays that are alive, this one included.
    pub relays: u32,
    /// Leases that have run out.
    pub expired: Vec<u32>,
    /// The revision of what all relays declare.
    pub declared: u64,
}

/// Renews our lease, or takes a new one where we have none or ours was taken over.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn beat(core: &Core) -> Result<Beat, StoreError> {
    let _one_at_a_time = core.beating.lock().await;
    if core.lease() != 0 {
        if let Some(beat) = ask(core, &core.lease().to_string()).await? {
            return Ok(beat);
        }
        warn!(
            lease = core.lease(),
            "store.lease_lost: this relay was not heard of for too long; it goes on under a new lease"
        );
    }
    let beat = ask(core, "").await?;
    Ok(beat.ok_or(Odd("a lease"))?)
}

async fn ask(core: &Core, lease: &str) -> Result<Option<Beat>, StoreError> {
    const WHAT: &str = "the result of a beat";
    let keys = [core.keys.relays(), core.keys.meta()];
    let args = [arg(lease), arg(core.rules.lease_ms)];
    let reply = core.link.call(Lane::Admin, &core.scripts.beat, &keys, &args).await?;
    let mut values = reply::array(reply, WHAT)?.into_iter();
    let Some(lease) = values.next() else { return Ok(None) };
    core.set_lease(reply::number(lease, WHAT)?);
    let mut next = || values.next().ok_or(Odd(WHAT));
    let (relays, declared) = (reply::number(next()?, WHAT)?, reply::number(next()?, WHAT)?);
    core.set_relays(relays);
    let expired = values.map(|value| reply::number(value, WHAT)).collect::<Result<_, _>>()?;
    Ok(Some(Beat { relays, expired, declared }))
}

/// What ticks have found since the flows last asked, and when the last one was.
#[derive(Debug, Default)]
pub struct Ticks {
    found: Ticked,
    last: Option<Instant>,
}

/// Keeps the lease by itself, so that no long round of upkeep can let it run out; until told to stop.
pub async fn keep(core: Arc<Core>, ticks: Arc<Mutex<Ticks>>, stop: CancellationToken) {
    let every = Duration::from_millis(u64::try_from(core.rules.lease_ms / 3).unwrap_or(1).max(1));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
        let mut ticks = ticks.lock().await;
        if ticks.last.is_none_or(|last| last.elapsed() >= every)
            && let Err(error) = tick_once(&core, &mut ticks).await
        {
            warn!(error = causes(&error), "store.beat_failed");
        }
    }
}

/// Ticks now, and tells what was found since the last time that this was asked.
///
/// # Errors
/// Where Redis cannot be reached; the next tick goes on.
pub async fn tick(core: &Arc<Core>, ticks: &Mutex<Ticks>) -> Result<Ticked, StoreError> {
    let mut ticks = ticks.lock().await;
    tick_once(core, &mut ticks).await?;
    let relays = ticks.found.relays;
    Ok(std::mem::replace(&mut ticks.found, Ticked { relays, ..Ticked::default() }))
}

/// Beats, takes over what dead relays had in flight, gives back what nobody here holds, and notices what other relays
/// have declared.
async fn tick_once(core: &Arc<Core>, ticks: &mut Ticks) -> Result<(), StoreError> {
    ticks.last = Some(Instant::now());
    let Beat { relays, expired, declared } = beat(core).await?;
    core.assurance.beat(core).await;
    ticks.found.relays = relays;
    for dead in &expired {
        ticks.found.taken_over += take_over(core, *dead).await?;
    }
    for target in core.held.take_dropped() {
        core.note_unsure(&target);
    }
    for target in core.unsure() {
        let gate = core.gate(&target);
        let mut gate = gate.lock().await;
        let found = audit::target(core, &target).await?;
        gate.audits_left = gate.audits_left.saturating_sub(1);
        if gate.audits_left == 0 {
            core.is_sure(&target);
        }
        if found > 0 {
            warn!(%target, deliveries = found, "store.leases_returned: claimed by this relay, but nobody had them");
        }
    }
    if targets::is_news(core, declared) || !expired.is_empty() {
        ticks.found.changes.extend(targets::declare_again(core, declared).await?);
    }
    Ok(())
}

/// Takes over all that a dead relay had in flight, and forgets the relay.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn take_over(core: &Arc<Core>, dead: u32) -> Result<u64, StoreError> {
    let all = targets::all(core).await?;
    let mut taken_over = 0;
    for target in &all {
        taken_over += audit::take_over(core, target, dead).await?;
    }
    let mut keys = vec![core.keys.log(), core.keys.relays(), core.keys.declared()];
    let mut args = vec![arg(dead)];
    for target in &all {
        keys.push(core.keys.of_target(target, Part::Act));
        args.push(arg(target));
    }
    // Not buried: something came in between; the next tick tries again.
    core.link.call(Lane::Admin, &core.scripts.bury, &keys, &args).await?;
    Ok(taken_over)
}

/// Gives our lease back, so that nobody waits for it to run out.
pub async fn farewell(core: &Core) {
    let mut command = redis::cmd("ZADD");
    command.arg(core.keys.relays()).arg("XX").arg(0).arg(core.lease());
    match tokio::time::timeout(FAREWELL_MAX, core.link.command(Lane::Admin, &command)).await {
        Ok(Ok(_)) => {}
        Ok(Err(_)) | Err(_) => {
            warn!(
                "store.farewell_failed: what is in flight is taken over when this relay's lease has run out"
            );
        }
    }
}

/// Checks that the store's form is one that this release knows, and notes it in a new store.
///
/// # Errors
/// Where Redis cannot be reached, or holds a store of a newer release: then its form.
pub async fn check_form(core: &Core) -> Result<Result<(), u32>, StoreError> {
    /// 2 from the first erasure on.
    const FORM: u32 = 2;
    let mut pipeline = redis::pipe();
    pipeline.cmd("HSETNX").arg(core.keys.meta()).arg("schema").arg(1).ignore();
    pipeline.cmd("HSETNX").arg(core.keys.meta()).arg("partitions").arg(1).ignore();
    pipeline.cmd("HGET").arg(core.keys.meta()).arg("schema");
    let found = core.link.pipeline(Lane::Admin, &pipeline).await?.pop().unwrap_or(Value::Nil);
    let found: u32 = reply::number(found, "the form of the store")?;
    Ok(if found <= FORM { Ok(()) } else { Err(found) })
}
