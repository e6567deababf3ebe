//! The breaker of a target: whether anything is attempted at all. One for all relays, kept by the store; the decision to
//! turn it is made here, purely: what opens it in the file beside this one, here how it is turned, probed and how
//! gently attempts begin again. Knows no clock and no store.

mod window;

use std::time::Duration;

use crate::clock::Timestamp;

pub use window::{Sign, Trip, Window, sign};

/// The longest time between two probes: what a target that came back waits at most, twelve requests an hour to one that
/// does not.
pub const PROBE_EVERY_MAX: Duration = Duration::from_secs(5 * 60);
/// Each failed probe makes the next one wait this many times longer.
const PROBE_GROWTH: u32 = 2;
/// After closing, the attempts under way may double each time this has passed: an app that has just started warms its
/// caches and its database connections within a few such steps.
pub const RAMP_STEP: Duration = Duration::from_secs(1);
/// Doublings after which the largest `concurrency` (1,024) is allowed.
const RAMP_STEPS_MAX: u32 = 10;
/// What waits when a breaker closes becomes due over this long: about as long as the ramp takes to get going, so that it
/// neither comes at once nor much later than it could.
pub const RECOVERY_SPREAD: Duration = Duration::from_secs(30);

/// A target's breaker as the store keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Breaker {
    /// Grows with every turn; a turn names the revision that it was decided upon, so that two relays cannot both turn it.
    pub revision: u64,
    /// Whether attempts are made.
    pub phase: Phase,
}

/// Whether attempts are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// They are.
    Closed {
        /// When it closed after it had been open; concurrency ramps up from then.
        since: Option<Timestamp>,
    },
    /// Nothing is attempted but one probe at a time over all relays.
    Open {
        /// When it opened.
        since: Timestamp,
        /// Probes that failed since then.
        failed_probes: u32,
        /// No probe before this.
        probe_at: Timestamp,
    },
}

impl Default for Phase {
    fn default() -> Self {
        Self::Closed { since: None }
    }
}

impl Breaker {
    /// This breaker opened at `now`, or kept open: the next probe comes after `probe_after`. Where it was open, a probe
    /// has failed, unless the next one may come at once: then the last one came to no attempt and told nothing.
    #[must_use]
    pub fn opened(self, probe_after: Duration, now: Timestamp) -> Self {
        let (since, failed_probes) = match self.phase {
            Phase::Closed { .. } => (now, 0),
            Phase::Open { since, failed_probes, .. } if probe_after.is_zero() => (since, failed_probes),
            Phase::Open { since, failed_probes, .. } => (since, failed_probes.saturating_add(1)),
        };
        let phase = Phase::Open { since, failed_probes, probe_at: now.plus(probe_after) };
        Self { revision: self.revision.saturating_add(1), phase }
    }

    /// This breaker closed at `now`, or `None` where it is closed already.
    #[must_use]
    pub fn closed(self, now: Timestamp) -> Option<Self> {
        match self.phase {
            Phase::Closed { .. } => None,
            Phase::Open { .. } => Some(Self {
                revision: self.revision.saturating_add(1),
                phase: Phase::Closed { since: Some(now) },
            }),
        }
    }
}

/// When a target's breaker opens, and how soon it is probed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerPolicy {
    /// It opens after this many failures without a success between them.
    pub failures: u32,
    /// It judges the last so many outcomes.
    pub window: usize,
    /// It opens when this share of a full window failed, above 0 to 1.
    pub ratio: f64,
    /// The time to the first probe.
    pub probe_every: Duration,
}

impl Default for BreakerPolicy {
    /// 5 in a row or half of 20: more than a restart of the app costs, far less than a backlog.
    fn default() -> Self {
        Self { failures: 5, window: 20, ratio: 0.5, probe_every: Duration::from_secs(30) }
    }
}

impl BreakerPolicy {
    /// How long to wait for the next probe after this many failed ones: 30 s, 1 min, 2 min … by default.
    pub fn probe_after(&self, failed_probes: u32) -> Duration {
        let grown = self.probe_every.saturating_mul(PROBE_GROWTH.saturating_pow(failed_probes));
        grown.min(PROBE_EVERY_MAX.max(self.probe_every))
    }
}

/// How many attempts may be under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ramp {
    /// At once, at least 1.
    pub attempts_max: usize,
    /// Until there may be more, where that will be.
    pub step_in: Option<Duration>,
}

/// How many attempts may be under way at `now` to a target whose breaker closed at `since`: 1, 2, 4 … up to
/// `concurrency`. A `since` that lies further ahead than a ramp takes means that the clock was set back: no ramp then.
pub fn ramp(since: Option<Timestamp>, now: Timestamp, concurrency: usize) -> Ramp {
    let full = Ramp { attempts_max: concurrency, step_in: None };
    let Some(since) = since else { return full };
    if since.since(now) > RAMP_STEP * RAMP_STEPS_MAX {
        return full;
    }
    let passed = now.since(since);
    let steps = u32::try_from(passed.as_millis() / RAMP_STEP.as_millis()).unwrap_or(u32::MAX);
    let attempts_max = 1_usize.checked_shl(steps).filter(|_| steps < RAMP_STEPS_MAX).unwrap_or(concurrency);
    if attempts_max >= concurrency {
        return full;
    }
    Ramp { attempts_max, step_in: Some(RAMP_STEP * (steps + 1) - passed) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_784_000_000);

    fn breakers() -> impl Strategy<Value = Breaker> {
        let phases = prop_oneof![
            proptest::option::of(0i64..1_000_000)
                .prop_map(|s| Phase::Closed { since: s.map(Timestamp::from_secs) }),
            (0i64..1_000_000, any::<u32>(), 0i64..1_000_000).prop_map(|(since, failed_probes, probe_at)| {
                let [since, probe_at] = [since, probe_at].map(Timestamp::from_secs);
                Phase::Open { since, failed_probes, probe_at }
            }),
        ];
        (0u64..1_000_000, phases).prop_map(|(revision, phase)| Breaker { revision, phase })
    }

    #[test]
    fn probes_come_after_30_s_then_ever_more_rarely_up_to_5_minutes() {
        let policy = BreakerPolicy::default();
        let secs: Vec<u64> = (0..7).map(|failed| policy.probe_after(failed).as_secs()).collect();
        assert_eq!(secs, [30, 60, 120, 240, 300, 300, 300]);
        assert_eq!(policy.probe_after(u32::MAX), PROBE_EVERY_MAX);
    }

    #[test]
    fn a_failed_probe_counts_and_one_that_came_to_no_attempt_does_not() {
        let open = Breaker::default().opened(Duration::from_secs(30), NOW);
        let expected =
            Phase::Open { since: NOW, failed_probes: 0, probe_at: NOW.plus(Duration::from_secs(30)) };
        assert_eq!(open, Breaker { revision: 1, phase: expected });
        let later = NOW.plus(Duration::from_secs(30));
        let failed = open.opened(Duration::from_secs(60), later);
        let expected =
            Phase::Open { since: NOW, failed_probes: 1, probe_at: later.plus(Duration::from_secs(60)) };
        assert_eq!(failed, Breaker { revision: 2, phase: expected });
        let untold = failed.opened(Duration::ZERO, later);
        let expected = Phase::Open { since: NOW, failed_probes: 1, probe_at: later };
        assert_eq!(untold, Breaker { revision: 3, phase: expected });
    }

    #[test]
    fn the_ramp_allows_1_2_4_up_to_the_limit() {
        let allowed = |ms| ramp(Some(NOW), NOW.plus(Duration::from_millis(ms)), 6);
        let step = |attempts_max, ms| Ramp { attempts_max, step_in: Some(Duration::from_millis(ms)) };
        assert_eq!(
            [0, 400, 1000, 2999].map(allowed),
            [step(1, 1000), step(1, 600), step(2, 1000), step(4, 1)]
        );
        assert_eq!(allowed(3000), Ramp { attempts_max: 6, step_in: None });
        assert_eq!(ramp(None, NOW, 6), Ramp { attempts_max: 6, step_in: None }, "it was never open");
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_hold_attempts_back_for_long() {
        let hour = Duration::from_secs(3600);
        assert_eq!(ramp(Some(NOW.plus(hour)), NOW, 16).attempts_max, 16);
        assert_eq!(ramp(Some(NOW.plus(RAMP_STEP)), NOW, 16).attempts_max, 1);
    }

    proptest! {
        #[test]
        fn every_turn_is_a_new_revision(breaker in breakers(), after_ms in 0u64..1_000_000) {
            let opened = breaker.opened(Duration::from_millis(after_ms), NOW);
            prop_assert_eq!(opened.revision, breaker.revision + 1);
            let closed = opened.closed(NOW).expect("it is open");
            prop_assert_eq!(closed, Breaker { revision: breaker.revision + 2, phase: Phase::Closed { since: Some(NOW) } });
            prop_assert_eq!(closed.closed(NOW), None);
        }

        #[test]
        fn a_probe_interval_never_shrinks_and_has_its_bounds(every_ms in 100u64..3_600_000, failed in 0u32..100) {
            let policy = BreakerPolicy { probe_every: Duration::from_millis(every_ms), ..BreakerPolicy::default() };
            let (one, next) = (policy.probe_after(failed), policy.probe_after(failed + 1));
            prop_assert!(policy.probe_every <= one && one <= next);
            prop_assert!(next <= PROBE_EVERY_MAX.max(policy.probe_every));
        }

        #[test]
        fn the_ramp_never_shrinks_and_ends(ms in 0u64..30_000, concurrency in 1usize..=1024) {
            let at = |ms| ramp(Some(NOW), NOW.plus(Duration::from_millis(ms)), concurrency);
            let (one, next) = (at(ms), at(ms + 1));
            prop_assert!(one.attempts_max >= 1 && one.attempts_max <= next.attempts_max);
            prop_assert!(next.attempts_max <= concurrency);
            match one.step_in {
                Some(wait) => prop_assert!(at(ms + wait.as_millis() as u64).attempts_max > one.attempts_max),
                None => prop_assert_eq!(one.attempts_max, concurrency),
            }
            prop_assert_eq!(at(10_000).step_in, None);
        }
    }
}
