//! Tallies on their way to the store: counted by atomics, taken every few seconds, kept back while the store is away.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Timestamp;
use crate::telemetry::tally::{Counted, Counter, Tally};

/// Tallies that are kept back at most: some minutes of every counter of a hundred targets. Of more, the oldest are lost:
/// they are for a glance, not for the books.
const KEPT_BACK_MAX: usize = 10_000;

/// What was counted of one source or target since it was last taken.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// In the order of [`Counter::ALL`].
    counts: [AtomicU64; Counter::ALL.len()],
}

impl Pending {
    pub(super) fn add(&self, counter: Counter, count: u64) {
        self.counts[counter as usize].fetch_add(count, Ordering::Relaxed);
    }

    /// Moves what was counted to `tallies`, as of `minute`.
    pub(super) fn take(&self, minute: Timestamp, of: &Counted, tallies: &mut Vec<Tally>) {
        for counter in Counter::ALL {
            let count = self.counts[counter as usize].swap(0, Ordering::Relaxed);
            if count > 0 {
                tallies.push(Tally { minute, of: of.clone(), counter, count });
            }
        }
    }
}

/// What the store did not take, by minute, owner and counter.
#[derive(Debug, Default)]
pub(super) struct KeptBack(BTreeMap<(Timestamp, Counted, Counter), u64>);

impl KeptBack {
    /// Adds these, up to the bound.
    pub(super) fn add(&mut self, tallies: Vec<Tally>) {
        for Tally { minute, of, counter, count } in tallies {
            *self.0.entry((minute, of, counter)).or_default() += count;
        }
        while self.0.len() > KEPT_BACK_MAX {
            self.0.pop_first();
        }
    }

    /// All of them.
    pub(super) fn take(&mut self) -> Vec<Tally> {
        let kept = std::mem::take(&mut self.0);
        kept.into_iter().map(|((minute, of, counter), count)| Tally { minute, of, counter, count }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_its_own_place() {
        for (place, counter) in Counter::ALL.into_iter().enumerate() {
            assert_eq!(counter as usize, place);
        }
    }

    #[test]
    fn what_is_kept_back_adds_up_and_stays_bounded() {
        let of = Counted::Target("app".parse().unwrap());
        let tally = |minute: i64| Tally {
            minute: Timestamp::from_secs(60 * minute),
            of: of.clone(),
            counter: Counter::Dead,
            count: 2,
        };
        let mut kept = KeptBack::default();
        kept.add(vec![tally(1), tally(1)]);
        assert_eq!(kept.take(), [Tally { count: 4, ..tally(1) }]);
        let many = i64::try_from(KEPT_BACK_MAX).unwrap() + 5;
        kept.add((0..many).map(tally).collect());
        let left = kept.take();
        assert_eq!(left.len(), KEPT_BACK_MAX);
        assert_eq!(left[0], tally(5), "the oldest are lost");
    }
}
