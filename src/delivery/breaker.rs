//! A target's breaker as one relay sees it: what the last claim told of it, what came of the attempts since, and the
//! turn that follows. The store keeps the breaker for all relays; the rules stand in `lifecycle`.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::Shared;
use crate::clock::Timestamp;
use crate::lifecycle::attempt::{Attempt, ErrorClass};
use crate::lifecycle::breaker::{
    Breaker, BreakerPolicy, Phase, RECOVERY_SPREAD, Ramp, Sign, Trip, Window, ramp, sign,
};
use crate::lifecycle::{Footing, Outcome};
use crate::store::{Claimed, Control, Controlled, Turn};
use crate::telemetry::causes;
use crate::telemetry::controls::{self, By, Closed, Opened};

/// Beyond the time that a probe may take, this long is left for telling the store what came of it.
const PROBE_MARGIN: Duration = Duration::from_secs(5);

/// How long a probe keeps other relays from probing: attempts begun before the breaker opened may take one `timeout` to
/// make room for it, the probe itself another. Whoever has not told by then has died.
pub(super) fn probe_hold(timeout: Duration) -> Duration {
    timeout * 2 + PROBE_MARGIN
}

/// On which footing an attempt is made, and on which revision of the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stand {
    /// What its failure means.
    pub(super) footing: Footing,
    /// The breaker that it was made on: what comes of it says nothing about a later one.
    revision: u64,
}

/// On which footing a claim gave its leases.
pub(super) fn given(claimed: &Claimed) -> Stand {
    let footing = match claimed.breaker.phase {
        Phase::Closed { .. } => Footing::Regular,
        Phase::Open { .. } => Footing::Probe,
    };
    Stand { footing, revision: claimed.breaker.revision }
}

/// The breaker as of a moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    breaker: Breaker,
    /// The store's time then.
    at: Timestamp,
    /// The moment.
    as_of: Instant,
    /// Relays that share the target.
    relays: usize,
}

impl Known {
    /// The present by the store's clock, as far as we know.
    fn now(&self) -> Timestamp {
        self.at.plus(self.as_of.elapsed())
    }

    /// How many attempts may be under way here now: while it is open, the probe; else this relay's share of what all of
    /// them may have together, and at least one.
    pub(super) fn ramp(&self, concurrency: usize) -> Ramp {
        match self.breaker.phase {
            Phase::Open { .. } => Ramp { attempts_max: 1, step_in: None },
            Phase::Closed { since } => {
                let Ramp { attempts_max, step_in } = ramp(since, self.now(), concurrency);
                Ramp { attempts_max: (attempts_max / self.relays).max(1), step_in }
            }
        }
    }
}

/// What a target's loop and its delivery tasks know of its breaker.
pub(super) struct View {
    /// Written by the loop after each claim and by a delivery task after a turn; read by tasks whose turn comes, and
    /// waited for by the ramp. `None` before the first claim.
    known: watch::Sender<Option<Known>>,
    /// What came of the attempts on a revision of the breaker. Held for a moment, never over a wait.
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    revision: u64,
    window: Window,
}

impl View {
    pub(super) fn new() -> Self {
        Self { known: watch::Sender::new(None), noted: Mutex::default() }
    }

    /// For whoever waits for it to change.
    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Known>> {
        self.known.subscribe()
    }

    /// The revision that is known.
    pub(super) fn revision(&self) -> Option<u64> {
        self.known.borrow().map(|known| known.breaker.revision)
    }

    /// Learns what a claim told, which began when the revision was `before`. Where a delivery task has turned the breaker
    /// since, the claim may tell of the time before that.
    pub(super) fn learn(&self, before: Option<u64>, claimed: &Claimed) {
        let relays = usize::try_from(claimed.relays).unwrap_or(usize::MAX).max(1);
        let news = Known { breaker: claimed.breaker, at: claimed.now, as_of: Instant::now(), relays };
        self.known.send_if_modified(|known| {
            let current = known.map(|known| (known.breaker, known.relays));
            let revision = current.map(|(breaker, _)| breaker.revision);
            if revision != before && revision > Some(news.breaker.revision) {
                return false;
            }
            *known = Some(news);
            current != Some((news.breaker, news.relays))
        });
    }

    /// Resolves when a lease that was `given` must not be attempted any more, because the breaker opens.
    pub(super) async fn opens(&self, given: Stand) {
        let is_open = |known: &Option<Known>| match known.map(|known| known.breaker.phase) {
            Some(Phase::Open { .. }) => true,
            Some(Phase::Closed { .. }) | None => false,
        };
        match given.footing {
            Footing::Regular => drop(self.subscribe().wait_for(is_open).await), // never an error: the sender is ours
            Footing::Probe => std::future::pending().await,
        }
    }

    /// On which footing a lease that was `given` is attempted now that its turn has come; `None` where it must go back.
    pub(super) fn stand(&self, given: Stand) -> Option<Stand> {
        let Some(Known { breaker, .. }) = *self.known.borrow() else { return Some(given) };
        match (given.footing, breaker.phase) {
            (Footing::Regular, Phase::Open { .. }) => None,
            (Footing::Probe, Phase::Open { .. }) => Some(given),
            (Footing::Regular | Footing::Probe, Phase::Closed { .. }) => {
                Some(Stand { footing: Footing::Regular, revision: breaker.revision })
            }
        }
    }

    /// Notes what an attempt on `revision` told. Why the breaker must open, where it must, and the failures noted.
    fn note(&self, revision: u64, sign: Sign, policy: &BreakerPolicy) -> Option<(Trip, usize)> {
        if self.revision() != Some(revision) {
            return None; // it has been turned meanwhile
        }
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.revision != revision {
            *noted = Noted { revision, window: Window::default() };
        }
        let trip = noted.window.note(sign, policy)?;
        Some((trip, noted.window.failures()))
    }

    /// The store has made this turn, or will: tells the others here at once, so that they need not wait for the next
    /// claim. Once is enough; a second time changes nothing.
    fn turned(&self, from: u64, to: Turn) {
        self.known.send_modify(|known| {
            let Some(known) = known.as_mut().filter(|known| known.breaker.revision == from) else { return };
            known.breaker = match to {
                Turn::Open { probe_after } => known.breaker.opened(probe_after, known.now()),
                Turn::Close { .. } => known.breaker.closed(known.now()).unwrap_or(known.breaker),
            };
        });
    }
}

/// Notes what an attempt came to, and turns the breaker where that follows. A turn that fails is tried again with the
/// next outcome that calls for one.
pub(super) async fn note(shared: &Shared, stand: Stand, outcome: Outcome, attempt: Option<&Attempt>) {
    let Some(policy) = &shared.deps.target.breaker else { return };
    match (stand.footing, attempt) {
        (Footing::Regular, None) => {}
        (Footing::Regular, Some(attempt)) => regular(shared, policy, stand, outcome, attempt).await,
        // It told nothing of the target: the next one need not wait.
        (Footing::Probe, None) => untold(shared, stand).await,
        (Footing::Probe, Some(attempt)) => probed(shared, policy, stand, outcome, attempt).await,
    }
}

async fn regular(shared: &Shared, policy: &BreakerPolicy, stand: Stand, outcome: Outcome, attempt: &Attempt) {
    let Some(sign) = sign(outcome, attempt) else { return };
    let Some((trip, failures)) = shared.breaker.note(stand.revision, sign, policy) else { return };
    let probe_after = policy.probe_after(0);
    let to = Turn::Open { probe_after };
    // Already now, so that no further attempt begins while the store is told. Where it says no, the next claim does too.
    shared.breaker.turned(stand.revision, to);
    if turn(shared, stand.revision, to).await == Turned::Yes {
        let opened = Opened {
            reason: trip.as_str(),
            failures,
            status: attempt.status,
            error: attempt.error.map(ErrorClass::as_str),
            next_probe: probe_after,
        };
        let deps = &shared.deps;
        controls::breaker_opened(&deps.telemetry, deps.clock.now(), &deps.target.name, opened);
    }
}

async fn probed(shared: &Shared, policy: &BreakerPolicy, stand: Stand, outcome: Outcome, attempt: &Attempt) {
    let target = &shared.deps.target.name;
    let known = *shared.breaker.known.borrow();
    let Some(Known { breaker: Breaker { phase: Phase::Open { since, failed_probes, .. }, .. }, .. }) = known
    else {
        return; // closed by hand meanwhile
    };
    match outcome {
        Outcome::Delivered => {
            let to = Turn::Close { spread: RECOVERY_SPREAD };
            if turn(shared, stand.revision, to).await == Turned::Yes {
                let open_for = known.map(|known| known.now().since(since));
                closed(shared, "probed", Closed { open_for, failed_probes: Some(failed_probes) });
            }
        }
        Outcome::Gone => untold(shared, stand).await, // the target is paused; once resumed it is probed
        Outcome::Failed { .. }
        | Outcome::Aborted
        | Outcome::Unwanted(_)
        | Outcome::Expired
        | Outcome::TooOld
        | Outcome::Unreadable
        | Outcome::Interrupted
        | Outcome::TakenOver => {
            let failed_probes = failed_probes.saturating_add(1);
            let probe_after = policy.probe_after(failed_probes);
            if turn(shared, stand.revision, Turn::Open { probe_after }).await == Turned::Yes {
                let (status, error) = (attempt.status, attempt.error.map(ErrorClass::as_str));
                info!(%target, failed_probes, status, error, next_probe_ms = probe_after.as_millis() as u64,
                    "breaker.probed");
            }
        }
    }
}

async fn untold(shared: &Shared, stand: Stand) {
    turn(shared, stand.revision, Turn::Open { probe_after: Duration::ZERO }).await;
}

/// Closes a breaker that is open although the configuration has switched it off since.
pub(super) async fn close_where_off(shared: &Shared, claimed: &Claimed) {
    let target = &shared.deps.target;
    let is_open = match claimed.breaker.phase {
        Phase::Open { .. } => true,
        Phase::Closed { .. } => false,
    };
    if target.breaker.is_none() && is_open {
        let to = Turn::Close { spread: RECOVERY_SPREAD };
        if turn(shared, claimed.breaker.revision, to).await == Turned::Yes {
            closed(shared, "off", Closed::default());
        }
    }
}

fn closed(shared: &Shared, reason: &'static str, how: Closed) {
    let deps = &shared.deps;
    controls::breaker_closed(&deps.telemetry, deps.clock.now(), &deps.target.name, By::Relay(reason), how);
}

/// Whether we turned it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turned {
    Yes,
    /// Somebody else did before, or the store does not answer.
    No,
}

async fn turn(shared: &Shared, from: u64, to: Turn) -> Turned {
    let target = &shared.deps.target.name;
    match shared.deps.store.control(target, Control::Turn { from, to }).await {
        Ok(Controlled::Changed) => {
            shared.breaker.turned(from, to);
            Turned::Yes
        }
        Ok(Controlled::Unchanged | Controlled::Refused) => {
            debug!(%target, from, "breaker.turned_elsewhere");
            Turned::No
        }
        Err(error) => {
            warn!(%target, error = causes(&error), "breaker.turn_failed");
            Turned::No
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::More;
    use crate::store::query::TargetStatus;

    const NOW: Timestamp = Timestamp::from_secs(1_784_000_000);
    const OPEN: Turn = Turn::Open { probe_after: Duration::from_secs(30) };

    fn claimed(breaker: Breaker) -> Claimed {
        let (status, more) = (TargetStatus::Active, More::None);
        Claimed { leases: Vec::new(), now: NOW, next_due: None, more, status, breaker, relays: 1 }
    }

    fn closed(revision: u64) -> Breaker {
        Breaker { revision, phase: Phase::Closed { since: None } }
    }

    /// A view that has learned of a closed breaker with this revision.
    fn view(revision: u64) -> View {
        let view = View::new();
        view.learn(None, &claimed(closed(revision)));
        view
    }

    #[test]
    fn a_claim_that_began_before_a_turn_does_not_undo_it() {
        let view = view(4);
        let before = view.revision();
        view.turned(4, OPEN);
        view.learn(before, &claimed(closed(4)));
        assert_eq!(view.revision(), Some(5));
        view.learn(Some(5), &claimed(closed(6)));
        assert_eq!(view.revision(), Some(6), "somebody closed it since");
    }

    #[test]
    fn concurrency_is_a_total_over_all_relays() {
        let share = |relays, concurrency| {
            let view = View::new();
            view.learn(None, &Claimed { relays, ..claimed(closed(0)) });
            view.known.borrow().map(|known| known.ramp(concurrency).attempts_max)
        };
        assert_eq!(share(1, 16), Some(16));
        assert_eq!(share(3, 16), Some(5));
        assert_eq!(
            share(40, 16),
            Some(1),
            "a relay that could attempt nothing would hold its leases for ever"
        );
    }

    #[test]
    fn a_store_that_knows_less_than_we_do_is_believed() {
        let view = view(4);
        view.turned(4, OPEN); // the store has said no, or has lost it
        view.learn(Some(5), &claimed(closed(0)));
        assert_eq!(view.revision(), Some(0));
        assert!(view.stand(given(&claimed(closed(4)))).is_some());
    }

    #[test]
    fn what_was_given_while_it_was_closed_goes_back_once_it_is_open() {
        let view = view(4);
        let regular = given(&claimed(closed(4)));
        assert_eq!(view.stand(regular), Some(Stand { footing: Footing::Regular, revision: 4 }));
        view.turned(4, OPEN);
        assert_eq!(view.stand(regular), None);
        let probe = given(&claimed(closed(4).opened(Duration::ZERO, NOW)));
        assert_eq!(view.stand(probe), Some(Stand { footing: Footing::Probe, revision: 5 }));
        view.turned(5, Turn::Close { spread: Duration::ZERO });
        assert_eq!(view.stand(probe), Some(Stand { footing: Footing::Regular, revision: 6 }));
    }

    #[test]
    fn what_an_attempt_tells_counts_only_on_the_breaker_that_it_was_made_on() {
        let (view, policy) = (view(4), BreakerPolicy { failures: 2, ..BreakerPolicy::default() });
        assert_eq!(view.note(4, Sign::Failure, &policy), None);
        assert_eq!(view.note(4, Sign::Failure, &policy), Some((Trip::Row, 2)));
        view.turned(4, OPEN);
        assert_eq!(view.note(4, Sign::Failure, &policy), None, "begun before it opened");
        view.turned(5, Turn::Close { spread: Duration::ZERO });
        assert_eq!(view.note(4, Sign::Failure, &policy), None);
        assert_eq!(view.note(6, Sign::Failure, &policy), None, "the window begins empty");
        assert_eq!(view.note(6, Sign::Failure, &policy), Some((Trip::Row, 2)));
    }
}
