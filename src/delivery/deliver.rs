//! One delivery, from its lease to its settle: whether to attempt it, the attempt, the decision, and telling the store.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use tracing::{error, warn};

use super::breaker::{self, Stand};
use super::send::{self, Sent};
use super::{Deps, Shared, tell};
use crate::clock::Timestamp;
use crate::event::Event;
use crate::lifecycle::attempt::{Attempt, ErrorClass, ReplyRead};
use crate::lifecycle::{Outcome, Transition, before_attempt, decide};
use crate::store::settling::settle;
use crate::store::{Control, Controlled, Lease, PauseReason, Settle};
use crate::telemetry::causes;
use crate::telemetry::controls::{self, By};

/// What a delivery came to.
struct Made {
    outcome: Outcome,
    attempt: Option<Attempt>,
    /// On which footing it was attempted or, where it was not, given.
    stand: Stand,
}

/// Makes the delivery that was `given` by a claim, and settles it. A panic on the way is a failed attempt: the lease is
/// settled all the same.
pub(super) async fn deliver(shared: &Shared, lease: Lease, given: Stand) -> Transition {
    let Shared { deps, shutdown, .. } = shared;
    let began = deps.clock.now();
    let made = AssertUnwindSafe(make(shared, &lease, given)).catch_unwind().await;
    let Made { outcome, attempt, stand } = made.unwrap_or_else(|_| {
        let failed = panicked(lease.progress().attempts_total.saturating_add(1), began);
        Made { outcome: Outcome::Failed { retry_after: None }, attempt: Some(failed), stand: given }
    });
    // Both before the settle: a crash in between repeats the attempt, the other order would forget what it told of the
    // target.
    if outcome == Outcome::Gone {
        pause_gone(shared).await;
    }
    breaker::note(shared, stand, outcome, attempt.as_ref()).await;
    let transition = decide(lease.progress(), outcome, stand.footing, &deps.target.policy, deps.clock.now());
    tell::ended(shared, &lease, attempt.as_ref(), transition);
    settle(&*deps.store, Settle { lease, transition, attempt }, shutdown).await;
    transition
}

/// What the delivery comes to: without an attempt where one would be wrong, else by making it.
async fn make(shared: &Shared, lease: &Lease, given: Stand) -> Made {
    let Shared { deps, shutdown, .. } = shared;
    let unmade = |outcome| Made { outcome, attempt: None, stand: given };
    let event = match lease.event() {
        Ok(event) => event,
        Err(error) => {
            error!(event_id = %lease.event_id(), error = causes(error), "delivery.unreadable");
            return unmade(Outcome::Unreadable);
        }
    };
    if let Some(reason) = deps.target.skips(event) {
        return unmade(Outcome::Unwanted(reason));
    }
    // Leases beyond `concurrency`, or beyond the ramp, wait here; what has waited is judged by the time at which its turn comes.
    let turn = tokio::select! {
        biased;
        () = shutdown.stop.cancelled() => None,
        turn = shared.attempts.acquire() => turn.ok(),
        () = shared.breaker.opens(given) => None,
    };
    let stand = shared.breaker.stand(given).filter(|_| !shared.held.load(Ordering::Acquire));
    let (Some(_turn), Some(stand)) = (turn, stand) else { return unmade(Outcome::Interrupted) };
    if let Some(outcome) = before_attempt(lease.progress(), event, &deps.target.policy, deps.clock.now()) {
        return unmade(outcome);
    }
    let (outcome, attempt) = attempt(shared, deps, lease, event).await;
    Made { outcome, attempt, stand }
}

async fn attempt(shared: &Shared, deps: &Deps, lease: &Lease, event: &Event) -> (Outcome, Option<Attempt>) {
    let began = tokio::time::Instant::now();
    tokio::select! {
        Sent { outcome, attempt } = send::attempt(&deps.sender, &deps.target, lease, event, &deps.clock) => {
            (outcome, Some(attempt))
        }
        () = shared.shutdown.abort.cancelled() => {
            // The target may have taken it: this line tells where a second delivery may come from.
            let cut_after_ms = began.elapsed().as_millis() as u64;
            warn!(event_id = %lease.event_id(), svix_id = &*event.svix_id, target = %deps.target.name, cut_after_ms,
                "delivery.interrupted");
            (Outcome::Interrupted, None)
        }
    }
}

fn panicked(number: u32, at: Timestamp) -> Attempt {
    Attempt {
        number,
        at,
        took: Duration::ZERO,
        status: None,
        error: Some(ErrorClass::Internal),
        hint: None,
        reply: Bytes::new(),
        reply_read: ReplyRead::Whole,
    }
}

/// A target that answers 410 wants nothing more: everything for it is kept until someone resumes it.
async fn pause_gone(shared: &Shared) {
    let target = &shared.deps.target.name;
    match shared.deps.store.control(target, Control::Pause(PauseReason::Gone)).await {
        Ok(Controlled::Changed) => {
            let by = By::Relay(PauseReason::Gone.as_str());
            controls::paused(&shared.deps.telemetry, shared.deps.clock.now(), target, by);
        }
        Ok(Controlled::Unchanged | Controlled::Refused) => {}
        Err(error) => error!(%target, error = causes(&error), "target.pause_failed after 410"),
    }
    shared.held.store(true, Ordering::Release);
}
