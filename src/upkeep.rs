//! Upkeep: what must happen although nobody asks for it. Keeps this relay's leases alive, ends deliveries that waited
//! too long, and removes what its retention no longer covers. Knows only the store and the targets' policies.

mod filling;
mod tallies;

use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, error, info, warn};

use crate::clock::{Clock, Timestamp};
use crate::config::Target;
use crate::event::TargetName;
use crate::lifecycle::{
    DeadReason, Footing, MAX_WAIT_DEFAULT, Ordering, Outcome, State, Transition, before_attempt, decide,
};
use crate::shutdown::Shutdown;
use crate::store::query::{Overview, TargetStatus};
use crate::store::settling::settle;
use crate::store::{ClaimScope, ClaimWanted, Lease, More, Settle, Store, StoreError, TargetChange, Ticked};
use crate::telemetry::feed::News;
use crate::telemetry::meters::TargetMeters;
use crate::telemetry::{Telemetry, causes};

use filling::Filling;

pub use tallies::hand_over;

/// Between two ticks: a third of the 15 s that a lease lasts. Tallies go to the store at every one.
const TICK_EVERY: Duration = Duration::from_secs(5);
/// Ticks between two rounds where nothing was left to do: once a minute.
const TICKS_A_ROUND: u32 = 12;
/// Rows of one step of the sweep, so that no step holds the store up for long.
const SWEEP_ROWS: u32 = 500;
/// Leases and frame bytes of one step of ending.
const END_LEASES: usize = 64;
const END_BYTES: usize = 4 * 1024 * 1024;
/// Steps of one round, so that ticks go on; a round that is cut goes on at the next tick.
const STEPS_A_ROUND: u32 = 200;

/// What upkeep works with.
pub struct Deps {
    /// The targets of the configuration.
    pub targets: Vec<Arc<Target>>,
    /// What is kept up.
    pub store: Arc<dyn Store>,
    /// What ages are judged by.
    pub clock: Clock,
    /// Where it tells what happens.
    pub telemetry: Telemetry,
}

/// Ticks and sweeps until told to stop. A failing store is tried again at the next tick.
pub async fn run(deps: Deps, shutdown: Shutdown) {
    let (mut ticks_left, mut filling) = (1, Filling::default());
    loop {
        tokio::select! {
            () = shutdown.stop.cancelled() => return,
            () = tokio::time::sleep(TICK_EVERY) => {}
        }
        match deps.store.tick().await {
            Ok(ticked) => ticked_over(&deps, &ticked),
            Err(error) => warn!(error = causes(&error), "upkeep.tick_failed"),
        }
        hand_over(&*deps.store, &deps.telemetry.meters, deps.clock.now()).await;
        ticks_left -= 1;
        if ticks_left > 0 {
            continue;
        }
        let round = async {
            let overview = deps.store.overview().await?;
            filling.look(&overview);
            round(&deps, &overview, &shutdown).await
        };
        ticks_left = match round.await {
            Ok(More::Ready) => 1,
            Ok(More::None) => TICKS_A_ROUND,
            Err(error) => {
                warn!(error = causes(&error), "upkeep.failed");
                TICKS_A_ROUND
            }
        };
    }
}

fn ticked_over(deps: &Deps, ticked: &Ticked) {
    deps.telemetry.meters.share(ticked.relays);
    if ticked.taken_over > 0 {
        deps.telemetry.meters.taken_over(ticked.taken_over);
        warn!(deliveries = ticked.taken_over, "upkeep.taken_over");
    }
    ticked.changes.iter().for_each(tell);
}

/// Logs what has changed about a target in the store.
pub fn tell(change: &TargetChange) {
    match change {
        TargetChange::Added(target) => info!(%target, "target.added"),
        TargetChange::Returned(target) => info!(%target, "target.returned"),
        TargetChange::Orphaned(target) => {
            warn!(%target, "target.orphaned: not in the configuration of any relay; what it was not sent is kept");
        }
        TargetChange::Disputed(target) => {
            error!(%target, "target.disputed: another relay on this store has another URL for it");
        }
    }
}

/// One round: ends what waited too long, then removes what is no longer kept. Tells whether something was left.
///
/// # Errors
/// The store's, at the step that failed; what was done before stays done.
pub async fn run_once(deps: &Deps, shutdown: &Shutdown) -> Result<More, StoreError> {
    round(deps, &deps.store.overview().await?, shutdown).await
}

async fn round(deps: &Deps, overview: &Overview, shutdown: &Shutdown) -> Result<More, StoreError> {
    let mut more = More::None;
    for target in &deps.targets {
        let overdue = |lease: &Lease| overdue(target, lease, deps.clock.now());
        if end(deps, &target.name, target.policy.max_wait, overdue, shutdown).await? == More::Ready {
            more = More::Ready;
        }
    }
    for target in &overview.targets {
        // What nobody configures has no policy; it ends by the default, so that it cannot fill the store for ever.
        let too_old = |_: &Lease| Transition::Die(DeadReason::TooOld);
        if target.status == TargetStatus::Orphan
            && end(deps, &target.name, MAX_WAIT_DEFAULT, too_old, shutdown).await? == More::Ready
        {
            more = More::Ready;
        }
    }
    let mut removed = 0;
    for step in 1..=STEPS_A_ROUND {
        let swept = deps.store.sweep(SWEEP_ROWS).await?;
        let rows = swept.events + swept.deliveries + swept.marks;
        removed += rows;
        if rows == 0 || shutdown.stop.is_cancelled() {
            break;
        }
        if step == STEPS_A_ROUND {
            more = More::Ready;
        }
    }
    debug!(removed, "upkeep.swept");
    Ok(more)
}

/// Ends what a target never took within `max_wait`, paused or not. Every lease is settled, whatever happens.
async fn end(
    deps: &Deps, target: &TargetName, max_wait: Duration, becomes: impl Fn(&Lease) -> Transition,
    shutdown: &Shutdown,
) -> Result<More, StoreError> {
    let mut ended: u64 = 0;
    let mut more = More::Ready;
    let meters = deps.telemetry.meters.target(target);
    for _ in 0..STEPS_A_ROUND {
        if shutdown.stop.is_cancelled() {
            break; // before the claim: what is claimed is settled
        }
        let wanted = ClaimWanted {
            target: target.clone(),
            leases_max: END_LEASES,
            bytes_max: END_BYTES,
            ordering: Ordering::None,
            unordered_types: Arc::from([]),
            scope: ClaimScope::OlderThan(max_wait),
            probe_hold: Duration::ZERO,
        };
        let claimed = deps.store.claim(wanted).await?;
        if claimed.leases.is_empty() {
            more = More::None;
            break;
        }
        for lease in claimed.leases {
            let transition = becomes(&lease);
            ended += u64::from(told(deps, &meters, &lease, transition));
            settle(&*deps.store, Settle { lease, transition, attempt: None }, shutdown).await;
        }
    }
    if ended > 0 {
        warn!(%target, ended, reason = DeadReason::TooOld.as_str(), "upkeep.given_up");
    }
    Ok(more)
}

/// Counts and tells what becomes of a delivery that upkeep ends; whether it was given up. The log has one line for all of
/// them together.
fn told(deps: &Deps, meters: &TargetMeters, lease: &Lease, transition: Transition) -> bool {
    let event = lease.event().ok();
    let event_type = event.map(|event| &*event.event_type);
    match transition {
        Transition::Die(reason) => {
            meters.ended(State::Dead.as_str(), event_type);
            meters.died(reason.as_str());
            deps.telemetry.feed.tell(|| News {
                event_id: Some(lease.event_id().to_string()),
                svix_id: event.map(|event| event.svix_id.to_string()),
                source: event.map(|event| event.source.to_string()),
                target: Some(lease.target().to_string()),
                event_type: event_type.map(str::to_owned),
                subject: event.and_then(|event| event.subject.clone()).map(String::from),
                state: Some(State::Dead.as_str().to_owned()),
                reason: Some(reason.as_str().to_owned()),
                ..News::new("delivery.given_up", deps.clock.now())
            });
            true
        }
        Transition::Skip(_) => {
            meters.ended(State::Skipped.as_str(), event_type);
            false
        }
        Transition::Deliver | Transition::Wait { .. } | Transition::Return | Transition::Postpone { .. } => {
            false
        }
    }
}

fn overdue(target: &Target, lease: &Lease, now: Timestamp) -> Transition {
    let outcome = match lease.event() {
        Err(_) => Outcome::Unreadable,
        Ok(event) => target
            .skips(event)
            .map(Outcome::Unwanted)
            .or_else(|| before_attempt(lease.progress(), event, &target.policy, now))
            .unwrap_or(Outcome::TooOld),
    };
    decide(lease.progress(), outcome, Footing::Regular, &target.policy, now)
}
