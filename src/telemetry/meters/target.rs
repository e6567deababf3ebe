//! What is counted of one target.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use super::Families;
use super::family::{ByType, ByWord};
use super::pending::Pending;
use crate::clock::Timestamp;
use crate::event::TargetName;
use crate::event::catalog::UNKNOWN_TYPE;
use crate::telemetry::tally::{Counted, Counter as Tallied, Tally};

/// The outcome of an attempt that delivered; the others are the words of their error class.
pub const DELIVERED: &str = "delivered";

/// The counts of one target, shared by its deliveries.
#[derive(Debug)]
pub struct TargetMeters {
    name: TargetName,
    families: Arc<Families>,
    attempts: ByWord<Counter>,
    attempt: Histogram,
    end_to_end: Histogram,
    ended: ByWord<ByType>,
    dead: ByWord<Counter>,
    postponed: Counter,
    turns: ByWord<Counter>,
    pending: Pending,
}

/// How an attempt went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempted {
    /// It delivered.
    Well,
    /// It failed, with this error class.
    Badly(&'static str),
}

impl TargetMeters {
    pub(super) fn new(name: &TargetName, families: &Arc<Families>) -> Self {
        let of = [name.as_str()];
        Self {
            name: name.clone(),
            families: families.clone(),
            attempts: ByWord::default(),
            attempt: families.attempt.with(&of),
            end_to_end: families.end_to_end.with(&of),
            ended: ByWord::default(),
            dead: ByWord::default(),
            postponed: families.postponed.with(&of),
            turns: ByWord::default(),
            pending: Pending::default(),
        }
    }

    /// Shows 0 for what may come, so that the first of each is already seen as a rise: attempts with these error classes,
    /// dead letters for these reasons, turns of the breaker.
    pub fn expect(&self, errors: &[&'static str], reasons: &[&'static str]) {
        for outcome in [DELIVERED].iter().chain(errors) {
            self.outcome(outcome);
        }
        for reason in reasons {
            self.reason(reason);
        }
        for turned in ["opened", "closed"] {
            self.turn(turned);
        }
    }

    /// An attempt was made.
    pub fn attempted(&self, how: Attempted, took: Duration) {
        let (outcome, tallied) = match how {
            Attempted::Well => (DELIVERED, Tallied::Delivered),
            Attempted::Badly(error) => (error, Tallied::Failed),
        };
        self.outcome(outcome).inc();
        self.attempt.observe(took.as_secs_f64());
        self.pending.add(tallied, 1);
        self.pending.add(Tallied::TookMs, u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        self.pending.add(Tallied::took(took), 1);
    }

    /// An event was delivered this long after it was received. Not for what an operator asked to be sent again.
    pub fn delivered_after(&self, age: Duration) {
        self.end_to_end.observe(age.as_secs_f64());
    }

    /// A delivery of an event of this type, where it can be told, ended in `state`.
    pub fn ended(&self, state: &'static str, event_type: Option<&str>) {
        let by_type = self.ended.of(state, |_| ByType::default());
        let make = |label| self.families.ended.with(&[self.name.as_str(), state, label]);
        by_type.of(event_type.unwrap_or(UNKNOWN_TYPE), make).inc();
    }

    /// Of those that ended: one was given up.
    pub fn died(&self, reason: &'static str) {
        self.reason(reason).inc();
        self.pending.add(Tallied::Dead, 1);
    }

    /// A delivery waits uncounted, because its holders died again and again.
    pub fn postponed(&self) {
        self.postponed.inc();
    }

    /// The breaker was `opened` or `closed` by this relay.
    pub fn breaker(&self, turned: &'static str) {
        self.turn(turned).inc();
    }

    fn outcome(&self, outcome: &'static str) -> &Counter {
        self.attempts.of(outcome, |outcome| self.families.attempts.with(&[self.name.as_str(), outcome]))
    }

    fn reason(&self, reason: &'static str) -> &Counter {
        self.dead.of(reason, |reason| self.families.dead.with(&[self.name.as_str(), reason]))
    }

    fn turn(&self, turned: &'static str) -> &Counter {
        self.turns.of(turned, |turned| self.families.turns.with(&[self.name.as_str(), turned]))
    }

    pub(super) fn take(&self, minute: Timestamp, tallies: &mut Vec<Tally>) {
        self.pending.take(minute, &Counted::Target(self.name.clone()), tallies);
    }
}
