//! How long to wait after a failed attempt. The only place that touches the `backoff` crate, and only as a calculator:
//! the state of a delivery lives in the store, so the n-th delay must not depend on a live object.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;

/// When a target's deliveries are retried, and when they are given up.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// The delay after the first failure.
    pub initial: Duration,
    /// Each delay is this many times the one before.
    pub multiplier: f64,
    /// No delay is longer.
    pub max: Duration,
    /// Each delay is spread by up to this fraction either way, from 0 to 1.
    pub jitter: f64,
    /// Give up after this many attempts, where set.
    pub attempts: Option<u32>,
    /// Give up when the first attempt is longer ago than this.
    pub give_up_after: Duration,
}

impl Default for RetryPolicy {
    /// 5 s, 15 s, 45 s … up to 6 h, ±20 %, for 3 days: longer than a weekend's outage, gentle on a target that is back.
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(5),
            multiplier: 3.0,
            max: Duration::from_secs(6 * 3600),
            jitter: 0.2,
            attempts: None,
            give_up_after: Duration::from_secs(3 * 24 * 3600),
        }
    }
}

/// The jittered delay after the `failures`-th failed attempt (1 is the first).
pub fn delay(policy: &RetryPolicy, failures: u32) -> Duration {
    let cap_s = policy.max.as_secs_f64();
    // 4,096 doublings overflow to infinity, which `min` caps; the clamp only keeps the cast honest.
    let exponent = failures.saturating_sub(1).min(4096) as i32;
    let grown_s = policy.initial.as_secs_f64() * policy.multiplier.powi(exponent);
    let interval = Duration::from_secs_f64(if grown_s.is_finite() { grown_s.min(cap_s) } else { cap_s });
    let mut calculator = ExponentialBackoff {
        current_interval: interval,
        initial_interval: interval,
        randomization_factor: policy.jitter.clamp(0.0, 1.0),
        multiplier: 1.0,
        max_interval: policy.max,
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    };
    calculator.next_backoff().unwrap_or(interval).min(policy.max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn without_jitter_the_schedule_is_5_15_45_seconds_and_ends_at_6_hours() {
        let policy = RetryPolicy { jitter: 0.0, ..RetryPolicy::default() };
        let secs: Vec<u64> = (1..=10).map(|n| delay(&policy, n).as_secs()).collect();
        assert_eq!(secs, [5, 15, 45, 135, 405, 1215, 3645, 10_935, 21_600, 21_600]);
    }

    #[test]
    fn jitter_is_really_there() {
        let policy = RetryPolicy::default();
        let delays: std::collections::HashSet<Duration> = (0..50).map(|_| delay(&policy, 3)).collect();
        assert!(delays.len() > 10, "50 delays took only {} values", delays.len());
    }

    proptest! {
        #[test]
        fn a_delay_stays_within_its_bounds(
            failures in any::<u32>(), initial_ms in 1u64..1_000_000, multiplier in 1.0f64..1e6,
            max_ms in 1u64..10_000_000_000, jitter in 0.0f64..=1.0,
        ) {
            let policy = RetryPolicy {
                initial: Duration::from_millis(initial_ms), multiplier, max: Duration::from_millis(max_ms), jitter,
                ..RetryPolicy::default()
            };
            let delay = delay(&policy, failures);
            prop_assert!(delay <= policy.max);
            let least = policy.initial.min(policy.max).as_secs_f64() * (1.0 - jitter);
            prop_assert!(delay.as_secs_f64() >= least * 0.999 - 0.001, "{delay:?} below {least}");
        }
    }
}
