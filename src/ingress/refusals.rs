//! Keeps refusals without slowing ingress: requests leave them in a bounded channel, one loop hands them to the store at
//! most once a second and once more at the end. When the store is away the newest are held back, up to a cap; what does
//! not fit is counted and lost. A refusal is advice, not an event.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::backoff::{RetryPolicy, delay};
use crate::shutdown::Shutdown;
use crate::store::ledger::{Refusal, RefusalQuery};
use crate::store::{Store, StoreError};
use crate::telemetry::meters::Meters;

/// Refusals between two looks of the loop: a second of a flood that is already cut to what can be read.
const CHANNEL_MAX: usize = 1024;
/// Refusals held back while the store is away: as many as it would keep.
const HELD_MAX: usize = 1000;
/// The shortest time between two appends.
const EVERY: Duration = Duration::from_secs(1);
/// How long one append may take.
const STORE_WAIT: Duration = Duration::from_secs(5);

/// The near end, shared by all requests.
#[derive(Debug, Clone)]
pub(super) struct Sender(mpsc::Sender<Refusal>);

/// The far end, held by [`run`].
#[derive(Debug)]
pub(super) struct Inbox(mpsc::Receiver<Refusal>);

/// Both ends of the channel, which holds 1,024 refusals.
pub(super) fn channel() -> (Sender, Inbox) {
    let (near, far) = mpsc::channel(CHANNEL_MAX);
    (Sender(near), Inbox(far))
}

impl Sender {
    /// Leaves a refusal, or counts it where there is no room.
    pub(super) fn leave(&self, refusal: Refusal, meters: &Meters) {
        if self.0.try_send(refusal).is_err() {
            meters.refusals_lost(1);
        }
    }
}

/// Hands refusals to the store until every near end is gone, then hands over the rest, unless `abort` is said.
pub(super) async fn run(inbox: Inbox, store: Arc<dyn Store>, meters: Arc<Meters>, shutdown: Shutdown) {
    let Inbox(mut inbox) = inbox;
    let mut held = Vec::new();
    let mut next = Instant::now();
    let mut failures = 0;
    loop {
        tokio::select! {
            received = inbox.recv_many(&mut held, CHANNEL_MAX) => {
                if received == 0 {
                    break;
                }
                let surplus = held.len().saturating_sub(HELD_MAX);
                held.drain(..surplus);
                meters.refusals_lost(surplus as u64);
            }
            () = sleep_until(next), if !held.is_empty() => {
                let pause = match run_once(&*store, &mut held).await {
                    Ok(()) => { failures = 0; EVERY }
                    Err(error) => {
                        failures += 1;
                        tracing::debug!(error = %error, failures, "refusals.not_kept"); // ingress itself says it loudly
                        pause(failures)
                    }
                };
                next = Instant::now() + pause;
            }
        }
    }
    tokio::select! {
        biased;
        () = shutdown.abort.cancelled() => {}
        _best_effort = run_once(&*store, &mut held) => {}
    }
}

/// Appends what is held and lets go of it where that worked.
async fn run_once(store: &dyn Store, held: &mut Vec<Refusal>) -> Result<(), StoreError> {
    if held.is_empty() {
        return Ok(());
    }
    let append = store.refusals(RefusalQuery::Append(held.clone()));
    timeout(STORE_WAIT, append).await.map_err(|_elapsed| StoreError::Unavailable(None))??;
    held.clear();
    Ok(())
}

fn pause(failures: u32) -> Duration {
    let policy = RetryPolicy {
        initial: EVERY,
        multiplier: 2.0,
        max: Duration::from_secs(30), // the list may lag behind a store that is back by half a minute
        ..RetryPolicy::default()
    };
    delay(&policy, failures)
}
