//! The bell over all relays: what another relay rings is heard by subscription; and because a message may be lost, the
//! store is looked at once a second, which is all that an idle relay costs beside its beats.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::Value;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::backoff::delay;
use crate::store::StoreError;
use crate::store::settling::STORE_RETRY;
use crate::telemetry::causes;

use super::core::Core;
use super::link::{Lane, LinkError};
use super::reply::{self, Odd};

/// How long a message that was lost can delay anything.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Rings the local bell whenever another relay rings, until told to stop.
pub async fn listen(core: Arc<Core>, stop: CancellationToken) {
    let mut failures = 0;
    loop {
        let heard = tokio::select! {
            () = stop.cancelled() => return,
            heard = hear(&core, &mut failures) => heard,
        };
        failures += 1;
        debug!(
            error = causes(&heard),
            "store.bell_silent: until it is heard again, the store is looked at once a second"
        );
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(delay(&STORE_RETRY, failures)) => {}
        }
    }
}

/// Until the subscription ends, by the error that is returned.
async fn hear(core: &Core, failures: &mut u32) -> LinkError {
    match hear_on(core, failures).await {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

async fn hear_on(core: &Core, failures: &mut u32) -> Result<Infallible, LinkError> {
    let mut subscription = core.link.subscribe(&core.keys.bell()).await?;
    *failures = 0;
    core.ring(); // what was rung before is found by looking
    loop {
        if subscription.next().await? != core.lease().to_string().as_bytes() {
            core.ring();
        }
    }
}

/// What a look sees.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    /// Events ever added, and the revision of targets and controls.
    work: [Option<Bytes>; 2],
    /// How often other relays said that somebody listens there.
    listened: u64,
}

/// Looks at the store once a second, and rings where something came or changed since; after the first look in any case,
/// because an event may have come before it whose own ring was lost: one that we kept without hearing of it. On the way it
/// hears of those who listen elsewhere.
pub async fn look(core: Arc<Core>, stop: CancellationToken) {
    let mut last: Option<Seen> = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let Ok(seen) = look_once(&core).await else { continue };
        if last.as_ref().is_none_or(|last| last.work != seen.work) {
            core.ring();
        }
        if last.is_some_and(|last| last.listened < seen.listened) {
            core.audience.heard();
        }
        last = Some(seen);
    }
}

async fn look_once(core: &Core) -> Result<Seen, StoreError> {
    const WHAT: &str = "counts";
    let mut command = redis::cmd("HMGET");
    command.arg(core.keys.meta()).arg("added").arg("revision").arg("listened");
    let found = reply::array(core.link.command(Lane::Admin, &command).await?, WHAT)?;
    let Ok([added, revision, listened]) = <[Value; 3]>::try_from(found) else { return Err(Odd(WHAT).into()) };
    let listened = if listened == Value::Nil { 0 } else { reply::number(listened, WHAT)? };
    let work = [reply::some_bytes(added, WHAT)?, reply::some_bytes(revision, WHAT)?];
    Ok(Seen { work, listened: core.audience.others(listened) })
}
