//! Delivery: one loop per target claims what is ready; a task for each claimed delivery attempts and settles it.
//!
//! Targets share nothing here but the store, so one target's trouble is its own. The HTTP request of an attempt is
//! made once; its settle is repeated until the store takes it. What is interrupted goes back uncounted, also when the
//! target's breaker opens; a target that is back gets few attempts at once, then more. Knows nothing of ingress: it
//! learns of work by the store's bell.

mod breaker;
mod deliver;
mod tell;
mod ramp;
pub mod send;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::backoff::delay;
use crate::clock::Clock;
use crate::config::Target;
use crate::lifecycle::Transition;
use crate::shutdown::Shutdown;
use crate::store::query::TargetStatus;
use crate::store::settling::STORE_RETRY;
use crate::store::{ClaimScope, ClaimWanted, Claimed, Lease, More, Store, StoreError};
use crate::telemetry::meters::TargetMeters;
use crate::telemetry::{Telemetry, causes};

use send::Sender;

/// Leases held for each attempt that may be under way: while one is attempted, the others are being given and taken by
/// the store, so that a quick target never waits for it.
const LEASES_PER_ATTEMPT: usize = 4;
/// Body bytes of the leased events of one target. One event is always let in, however large.
const LEASED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Without a ring of the bell the store is asked again after this long: a safety net, not the way work is found.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// While there is no room for a claim, the store is asked this often whether the target is paused.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a target's loop works with.
pub struct Deps {
    /// The target.
    pub target: Arc<Target>,
    /// Where deliveries are claimed and settled.
    pub store: Arc<dyn Store>,
    /// What the signatures and records are dated by.
    pub clock: Clock,
    /// The HTTP client of this target.
    pub sender: Sender,
    /// Where it tells what happens.
    pub telemetry: Telemetry,
}

/// What a target's loop and its delivery tasks share.
struct Shared {
    deps: Deps,
    /// What is counted of the target.
    meters: Arc<TargetMeters>,
    shutdown: Shutdown,
    /// A permit is held by a delivery task from its claim to its settle: bounds the leases.
    leases: Arc<Semaphore>,
    /// A permit is one body byte of a leased event: bounds the memory.
    bytes: Arc<Semaphore>,
    /// A permit is held while a request is under way: the target's `concurrency`. The ramp withholds what may not be
    /// used yet.
    attempts: Arc<Semaphore>,
    /// Whether attempts are made at all, and on which footing.
    breaker: breaker::View,
    /// The target is paused or an orphan, as of the last claim, or has just answered 410: leases that wait for their
    /// turn go back.
    held: AtomicBool,
    /// Told by a delivery task whose delivery waits again, so that the loop learns the new due time.
    rearmed: Notify,
}

/// Delivers to one target until told to stop; returns when everything claimed is settled.
pub async fn run(deps: Deps, shutdown: Shutdown) {
    let concurrency = deps.target.concurrency;
    let attempts = Arc::new(Semaphore::new(concurrency));
    let withheld = u32::try_from(concurrency.saturating_sub(1)).unwrap_or(u32::MAX);
    let withheld =
        attempts.clone().try_acquire_many_owned(withheld).expect("the semaphore is new and has them");
    let shared = Arc::new(Shared {
        meters: deps.telemetry.meters.target(&deps.target.name),
        deps,
        shutdown,
        leases: Arc::new(Semaphore::new(LEASES_PER_ATTEMPT * concurrency)),
        bytes: Arc::new(Semaphore::new(LEASED_BYTES_MAX)),
        attempts,
        breaker: breaker::View::new(),
        held: AtomicBool::new(false),
        rearmed: Notify::new(),
    });
    // Every delivery task ends by settling; bounded by `leases`, hurried by `shutdown.abort`.
    let deliveries = TaskTracker::new();
    tokio::join!(claim(&shared, &deliveries), ramp::run(&shared, withheld));
    deliveries.close();
    deliveries.wait().await;
}

/// Claims whenever there may be something and there is room for it, until told to stop.
async fn claim(shared: &Arc<Shared>, deliveries: &TaskTracker) {
    let mut bell = shared.deps.store.bell();
    let mut failures = 0;
    while let Some(permits) = room(shared, shared.deps.target.concurrency).await {
        bell.borrow_and_update();
        match run_once(shared, permits, deliveries).await {
            Ok(Claimed { more: More::Ready, .. }) => failures = 0,
            Ok(Claimed { more: More::None, next_due, .. }) => {
                failures = 0;
                tokio::select! {
                    () = shared.shutdown.stop.cancelled() => {}
                    _ = bell.changed() => {}
                    () = shared.rearmed.notified() => {}
                    () = tokio::time::sleep(next_due.unwrap_or(IDLE_MAX).min(IDLE_MAX)) => {}
                }
            }
            Err(error) => {
                failures += 1;
                warn!(target = %shared.deps.target.name, error = causes(&error), "delivery.claim_failed");
                tokio::select! {
                    () = shared.shutdown.stop.cancelled() => {}
                    () = tokio::time::sleep(delay(&STORE_RETRY, failures)) => {}
                }
            }
        }
    }
}

/// Waits until there is room for a whole batch of leases, so that claims are few and large, and takes all that is free;
/// nothing after a while without room, for a look at the target. `None` once stopping.
async fn room(shared: &Shared, batch: usize) -> Option<Vec<OwnedSemaphorePermit>> {
    let batch = u32::try_from(batch).unwrap_or(u32::MAX);
    let wait = async {
        let mut first = shared.leases.clone().acquire_many_owned(batch).await.ok()?;
        drop(shared.bytes.acquire().await.ok()?);
        let mut permits: Vec<_> = std::iter::from_fn(|| first.split(1)).collect();
        while let Ok(permit) = shared.leases.clone().try_acquire_owned() {
            permits.push(permit);
        }
        Some(permits)
    };
    tokio::select! {
        biased;
        () = shared.shutdown.stop.cancelled() => None,
        permits = wait => permits,
        () = tokio::time::sleep(LOOK_EVERY) => Some(Vec::new()),
    }
}

/// Claims one lease for each permit at most, and starts a task for each delivery that was given.
async fn run_once(
    shared: &Arc<Shared>, permits: Vec<OwnedSemaphorePermit>, deliveries: &TaskTracker,
) -> Result<Claimed, StoreError> {
    let target = &shared.deps.target;
    let wanted = ClaimWanted {
        target: target.name.clone(),
        leases_max: permits.len(),
        bytes_max: shared.bytes.available_permits(),
        ordering: target.ordering,
        unordered_types: target.policy.expire.keys().cloned().collect::<Vec<_>>().into(),
        scope: ClaimScope::Ready,
        probe_hold: breaker::probe_hold(target.timeout),
    };
    let revision = shared.breaker.revision();
    // Never cancelled: a claim that is dropped half-way may have been applied.
    let mut claimed = shared.deps.store.claim(wanted).await?;
    shared.breaker.learn(revision, &claimed);
    breaker::close_where_off(shared, &claimed).await;
    let given = breaker::given(&claimed);
    shared.held.store(claimed.status != TargetStatus::Active, Ordering::Release);
    for (lease, permit) in claimed.leases.drain(..).zip(permits) {
        let (shared, bytes) = (shared.clone(), leased_bytes(shared, &lease));
        deliveries.spawn(async move {
            let transition = deliver::deliver(&shared, lease, given).await;
            drop((permit, bytes));
            if matches!(transition, Transition::Wait { .. } | Transition::Postpone { .. }) {
                shared.rearmed.notify_one();
            }
        });
    }
    Ok(claimed)
}

/// The lease's share of the memory: its body, or all that is left where that is less, so that nothing more is claimed.
fn leased_bytes(shared: &Shared, lease: &Lease) -> Option<OwnedSemaphorePermit> {
    let bytes = lease.event().ok()?.body.len().min(shared.bytes.available_permits());
    shared.bytes.clone().try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
}
