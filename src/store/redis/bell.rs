//! The bell over all relays: what another relay rings is heard by subscription; and because a message may be lost, the
//! store is looked at once a second, which is all that an idle relay costs beside its beats.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::backoff::delay;
use crate::store::settling::STORE_RETRY;
use crate::telemetry::causes;

use super::core::Core;
use super::link::{Lane, LinkError};
use super::reply;

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

/// Looks at the store once a second, and rings where something came or changed since; after the first look in any case,
/// because an event may have come before it whose own ring was lost: one that we kept without hearing of it.
pub async fn look(core: Arc<Core>, stop: CancellationToken) {
    let mut seen: Option<Vec<Option<Bytes>>> = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let mut command = redis::cmd("HMGET");
        command.arg(core.keys.meta()).arg("added").arg("revision");
        let Ok(found) = core.link.command(Lane::Admin, &command).await else { continue };
        let found = reply::array(found, "counts")
            .and_then(|found| found.into_iter().map(|value| reply::some_bytes(value, "a count")).collect());
        let Ok(found) = found else { continue };
        if seen.as_ref() != Some(&found) {
            core.ring();
        }
        seen = Some(found);
    }
}
