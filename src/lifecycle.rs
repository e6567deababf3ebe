//! The life of a delivery: every state and every arrow; in the folder beside this file, the decision about each outcome
//! and what is written down of an attempt. Pure: no clock, no store, no I/O. A store applies what is decided here,
//! guarded by the lease; nothing else changes a delivery's state.

pub mod attempt;
pub mod breaker;
pub mod decision;
pub mod hint;

pub use decision::{
    DeadReason, Footing, MAX_WAIT_DEFAULT, Ordering, Outcome, Policy, Progress, RETRY_AFTER_MAX, SkipReason,
    Start, TAKEOVERS_FREE, TakenOver, Transition, before_attempt, decide,
};

use serde::{Deserialize, Serialize};

/// Where a delivery is. `gone` is not a state: nothing of the delivery is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Stored, never attempted, ready.
    Queued,
    /// Leased: an attempt may be under way.
    InFlight,
    /// Will be attempted when due.
    Waiting,
    /// Held behind an unfinished delivery of its subject.
    Parked,
    /// The target answered 2xx.
    Delivered,
    /// Given up: a dead letter.
    Dead,
    /// The target does not want it.
    Skipped,
    /// An operator discarded it.
    Cancelled,
}

impl State {
    /// Every state, in the order of a delivery's life.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::InFlight,
        Self::Waiting,
        Self::Parked,
        Self::Delivered,
        Self::Dead,
        Self::Skipped,
        Self::Cancelled,
    ];

    /// The word for it in JSON, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::InFlight => "in_flight",
            Self::Waiting => "waiting",
            Self::Parked => "parked",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether it will be attempted when it is due.
    pub const fn is_due_some_day(self) -> bool {
        match self {
            Self::Queued | Self::Waiting => true,
            Self::InFlight
            | Self::Parked
            | Self::Delivered
            | Self::Dead
            | Self::Skipped
            | Self::Cancelled => false,
        }
    }

    /// Whether nothing more will happen by itself.
    pub const fn is_ended(self) -> bool {
        match self {
            Self::Queued | Self::InFlight | Self::Waiting | Self::Parked => false,
            Self::Delivered | Self::Dead | Self::Skipped | Self::Cancelled => true,
        }
    }
}

impl std::str::FromStr for State {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(UnknownState)
    }
}

/// Text that names no state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a state is one of queued, in_flight, waiting, parked, delivered, dead, skipped, cancelled")]
pub struct UnknownState;

/// What moves a delivery from one state to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// A verified event was stored.
    Stored,
    /// Claimed under a lease.
    Claimed,
    /// The target answered 2xx.
    Succeeded,
    /// A retryable outcome with budget left.
    Failed,
    /// A permanent outcome, or the budget is used up.
    GivenUp,
    /// Too late to be of use, or older than `max_wait`.
    Expired,
    /// We are stopping, or the lease's holder died, before any attempt was ever counted.
    ReturnedUntried,
    /// The same, after counted attempts; or a delivery taken over so often that it must wait.
    Returned,
    /// The target's filter says no.
    Filtered,
    /// The target is ordered and an earlier event of the subject is unfinished.
    HeldBySubject,
    /// The subject's head ended.
    HeadEnded,
    /// An operator retried or replayed it; the budget starts again.
    Retried,
    /// A retry or replay by hand succeeded meanwhile.
    SucceededElsewhere,
    /// An operator discarded it, erased it, or forgot the target.
    Discarded,
    /// Older than its retention.
    Purged,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 15] = [
        Self::Stored,
        Self::Claimed,
        Self::Succeeded,
        Self::Failed,
        Self::GivenUp,
        Self::Expired,
        Self::ReturnedUntried,
        Self::Returned,
        Self::Filtered,
        Self::HeldBySubject,
        Self::HeadEnded,
        Self::Retried,
        Self::SucceededElsewhere,
        Self::Discarded,
        Self::Purged,
    ];
}

/// Where an arrow leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// To this state.
    To(State),
    /// Nothing is left.
    Gone,
}

/// The arrow that leaves `from` (`None`: no delivery yet) by `cause`, or `None` where there is none: the whole life of
/// a delivery in one table.
pub const fn arrow(from: Option<State>, cause: Cause) -> Option<Next> {
    use State::{Cancelled, Dead, Delivered, InFlight, Parked, Queued, Skipped, Waiting};
    let to = match (cause, from) {
        (Cause::Stored, None) => Queued,
        (Cause::Claimed, Some(Queued | Waiting)) => InFlight,
        (Cause::Succeeded, Some(InFlight)) => Delivered,
        (Cause::Failed, Some(InFlight)) => Waiting,
        (Cause::GivenUp, Some(InFlight)) => Dead,
        (Cause::Expired, Some(InFlight | Queued | Waiting | Parked)) => Dead,
        (Cause::ReturnedUntried, Some(InFlight)) => Queued,
        (Cause::Returned, Some(InFlight)) => Waiting,
        (Cause::Filtered, Some(InFlight)) => Skipped,
        (Cause::HeldBySubject, Some(Queued)) => Parked,
        (Cause::HeadEnded, Some(Parked)) => Waiting,
        (Cause::Retried, Some(Dead | Waiting | Delivered | Skipped | Cancelled)) => Waiting,
        (Cause::SucceededElsewhere, Some(Waiting)) => Delivered,
        (Cause::Discarded, Some(Queued | Waiting | Parked | Dead)) => Cancelled,
        (Cause::Purged, Some(Delivered | Dead | Skipped | Cancelled)) => return Some(Next::Gone),
        (
            Cause::Stored
            | Cause::Claimed
            | Cause::Succeeded
            | Cause::Failed
            | Cause::GivenUp
            | Cause::Expired
            | Cause::ReturnedUntried
            | Cause::Returned
            | Cause::Filtered
            | Cause::HeldBySubject
            | Cause::HeadEnded
            | Cause::Retried
            | Cause::SucceededElsewhere
            | Cause::Discarded
            | Cause::Purged,
            None | Some(Queued | InFlight | Waiting | Parked | Delivered | Dead | Skipped | Cancelled),
        ) => return None,
    };
    Some(Next::To(to))
}
