//! Settling until the store has heard: the acknowledgement is repeated, the work never is. Stands beside the port because
//! every flow that claims must settle this way.

use tracing::{error, warn};

use super::{Settle, Settled, Store, StoreError};
use crate::backoff::{RetryPolicy, delay};
use crate::shutdown::Shutdown;
use crate::telemetry::causes;

/// How a caller waits for a store that fails: from 100 ms to 5 s, spread.
pub const STORE_RETRY: RetryPolicy = RetryPolicy {
    initial: std::time::Duration::from_millis(100),
    multiplier: 2.0,
    max: std::time::Duration::from_secs(5),
    jitter: 0.5,
    attempts: None,
    give_up_after: std::time::Duration::MAX,
};
/// After an abort a settle is tried this often; what is not settled then is taken over at the next start.
const SETTLES_AFTER_ABORT: u32 = 5;

/// Repeats the settle until the store takes it or says that it is lost; after an abort only a few times more. A record
/// that the store cannot read is given up with an error line: no repetition cures it.
pub async fn settle(store: &dyn Store, settle: Settle, shutdown: &Shutdown) {
    let (event_id, target) = (settle.lease.event_id(), settle.lease.target());
    let mut failures = 0;
    let mut failures_after_abort = 0;
    loop {
        match store.settle(settle.again()).await {
            Ok(Settled::Done) => return,
            Ok(Settled::Lost) => {
                warn!(%event_id, %target, "delivery.lease_lost");
                return;
            }
            Err(error @ StoreError::Corrupt(_)) => {
                error!(%event_id, %target, error = causes(&error), "delivery.settle_given_up");
                return;
            }
            Err(error @ (StoreError::Unavailable(_) | StoreError::Full)) => {
                failures += 1;
                warn!(%event_id, %target, failures, error = causes(&error), "delivery.settle_failed");
            }
        }
        if shutdown.abort.is_cancelled() {
            failures_after_abort += 1;
            if failures_after_abort >= SETTLES_AFTER_ABORT {
                return;
            }
            tokio::time::sleep(delay(&STORE_RETRY, failures_after_abort)).await;
        } else {
            tokio::select! {
                () = tokio::time::sleep(delay(&STORE_RETRY, failures)) => {}
                () = shutdown.abort.cancelled() => {}
            }
        }
    }
}
