//! The decisions: whether a claimed delivery is attempted at all, and what becomes of it after it came to something. A
//! function of what is known of the delivery, its outcome, the target's policy and the time, and of nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Cause;
use crate::backoff::{RetryPolicy, delay};
use crate::clock::Timestamp;
use crate::event::Event;

/// Why a delivery was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeadReason {
    /// `attempts` or `give_up_after` is used up.
    Exhausted,
    /// The target answered 410 Gone.
    Gone,
    /// The target answered `webhook-delivery: abort-message`.
    Aborted,
    /// The type's `expire` passed before it could be delivered.
    Expired,
    /// `max_wait` passed before the target ever took it.
    TooOld,
    /// The stored frame cannot be read.
    Unreadable,
}

impl DeadReason {
    /// Every reason.
    pub const ALL: [Self; 6] =
        [Self::Exhausted, Self::Gone, Self::Aborted, Self::Expired, Self::TooOld, Self::Unreadable];

    /// The word for it in JSON, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::Gone => "gone",
            Self::Aborted => "aborted",
            Self::Expired => "expired",
            Self::TooOld => "too_old",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Why a target does not get an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SkipReason {
    /// `sources` does not name its source.
    Source,
    /// `events` does not match its type.
    EventType,
}

impl SkipReason {
    /// Every reason.
    pub const ALL: [Self; 2] = [Self::Source, Self::EventType];

    /// The word for it in JSON, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::EventType => "event_type",
        }
    }
}

/// What a claimed delivery came to: expected, decided upon, never an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// 2xx.
    Delivered,
    /// Anything that may pass: 3xx, 4xx, 5xx, no connection, no answer in time.
    Failed {
        /// The target's `Retry-After`, where it sent one.
        retry_after: Option<Duration>,
    },
    /// 410: the target wants nothing more.
    Gone,
    /// `webhook-delivery: abort-message` on an answer that is not 2xx.
    Aborted,
    /// Not attempted: the target does not want it.
    Unwanted(SkipReason),
    /// Not attempted: the type's `expire` has passed.
    Expired,
    /// Not attempted: older than `max_wait`.
    TooOld,
    /// Not attempted: the frame cannot be read.
    Unreadable,
    /// Not attempted, or cut short: we are stopping.
    Interrupted,
    /// Not attempted: the event was erased.
    Erased,
    /// Not attempted: its holders died so often that it waits before the next try.
    TakenOver,
}

/// On which footing an attempt is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Footing {
    /// While the target's breaker is closed.
    #[default]
    Regular,
    /// While it is open, to see whether the target is back: its failure says nothing about the delivery.
    Probe,
}

/// What becomes of a claimed delivery. Applied by the store as one step, under the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// In flight → delivered.
    Deliver,
    /// In flight → waiting, due after this long by the store's clock.
    Wait {
        /// The jittered delay.
        after: Duration,
    },
    /// In flight → dead.
    Die(DeadReason),
    /// In flight → skipped.
    Skip(SkipReason),
    /// In flight → queued or waiting, due at once: as if it had not been claimed.
    Return,
    /// In flight → waiting, due after this long, without counting an attempt.
    Postpone {
        /// The jittered delay.
        after: Duration,
    },
    /// In flight → cancelled: its event was erased.
    Erase,
}

/// Why a delivery is cancelled whose event was erased. One that was in flight meanwhile has it already then, and ends by
/// it unless its attempt succeeds ([`Transition::of_erased`]).
pub const ERASED: &str = "erased";

impl Transition {
    /// Whether it uses up one attempt of the budget.
    pub const fn counts(self) -> bool {
        match self {
            Self::Deliver
            | Self::Wait { .. }
            | Self::Die(DeadReason::Exhausted | DeadReason::Gone | DeadReason::Aborted) => true,
            Self::Die(DeadReason::Expired | DeadReason::TooOld | DeadReason::Unreadable)
            | Self::Skip(_)
            | Self::Return
            | Self::Postpone { .. }
            | Self::Erase => false,
        }
    }

    /// What becomes of it where the event was erased while the delivery was in flight: what would be attempted again, or
    /// kept as a dead letter, ends.
    pub const fn of_erased(self) -> Self {
        match self {
            Self::Deliver | Self::Skip(_) => self,
            Self::Wait { .. } | Self::Die(_) | Self::Return | Self::Postpone { .. } | Self::Erase => {
                Self::Erase
            }
        }
    }

    /// The arrow it is, for a delivery with this many counted attempts before.
    pub const fn cause(self, attempts_before: u32) -> Cause {
        match self {
            Self::Deliver => Cause::Succeeded,
            Self::Wait { .. } => Cause::Failed,
            Self::Die(DeadReason::Expired | DeadReason::TooOld) => Cause::Expired,
            Self::Die(
                DeadReason::Exhausted | DeadReason::Gone | DeadReason::Aborted | DeadReason::Unreadable,
            ) => Cause::GivenUp,
            Self::Skip(_) => Cause::Filtered,
            Self::Return if attempts_before == 0 => Cause::ReturnedUntried,
            Self::Return | Self::Postpone { .. } => Cause::Returned,
            Self::Erase => Cause::Erased,
        }
    }
}

/// What a store remembers of a delivery's attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Counted attempts since it was stored or last retried: what the budget is judged by.
    pub attempts: u32,
    /// Counted attempts in all.
    pub attempts_total: u32,
    /// When the first of `attempts` was made.
    pub first_attempt_at: Option<Timestamp>,
    /// When an operator last retried or replayed it.
    pub retried_at: Option<Timestamp>,
    /// How often its holder died.
    pub takeovers: u32,
    /// Whether the last lease ended because its holder died.
    pub taken_over: TakenOver,
}

/// How the last lease of a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TakenOver {
    /// By a settle, or there was none.
    #[default]
    No,
    /// Its holder died.
    Yes,
}

/// A target's rules for giving up.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Delays and budget.
    pub retry: RetryPolicy,
    /// Types that are worthless after a while, from their birth.
    pub expire: BTreeMap<String, Duration>,
    /// What was never taken for so long ends dead, from receipt or from the last retry.
    pub max_wait: Duration,
}

/// Whether a target gets the events of one subject one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ordering {
    /// As they come.
    #[default]
    None,
    /// At most one unfinished delivery per subject, in the order of arrival.
    Subject,
}

/// Where a new target begins in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// With the next event.
    #[default]
    Now,
    /// With the oldest event that is still kept.
    Beginning,
}

/// `max_wait` where nothing else is said: two weeks, longer than any outage that someone means to recover from.
pub const MAX_WAIT_DEFAULT: Duration = Duration::from_secs(14 * 24 * 3600);

/// The longest `Retry-After` that is obeyed: a target must not park its own events for days.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// From this take-over on a delivery waits before it is tried again: it may be what kills its holders.
pub const TAKEOVERS_FREE: u32 = 2;

/// What must become of a claimed delivery without attempting it, if anything. What an operator retried is exempt from
/// `expire`: someone asked for it, late as it is.
pub fn before_attempt(
    progress: &Progress, event: &Event, policy: &Policy, now: Timestamp,
) -> Option<Outcome> {
    if progress.taken_over == TakenOver::Yes && progress.takeovers > TAKEOVERS_FREE {
        return Some(Outcome::TakenOver);
    }
    let expire = policy.expire.get(&*event.event_type);
    if progress.retried_at.is_none() && expire.is_some_and(|after| now.since(event.born_at()) >= *after) {
        return Some(Outcome::Expired);
    }
    let waiting_since = progress.retried_at.unwrap_or(event.received_at);
    (now.since(waiting_since) >= policy.max_wait).then_some(Outcome::TooOld)
}

/// What becomes of a claimed delivery that came to `outcome` at `now`. A failed probe never uses up the budget's rest.
pub fn decide(
    progress: &Progress, outcome: Outcome, footing: Footing, policy: &Policy, now: Timestamp,
) -> Transition {
    match outcome {
        Outcome::Delivered => Transition::Deliver,
        Outcome::Failed { .. }
            if footing == Footing::Regular && is_exhausted(progress, &policy.retry, now) =>
        {
            Transition::Die(DeadReason::Exhausted)
        }
        Outcome::Failed { retry_after } => {
            let hint = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
            let failures = progress.attempts.saturating_add(1);
            Transition::Wait { after: delay(&policy.retry, failures).max(hint) }
        }
        Outcome::Gone => Transition::Die(DeadReason::Gone),
        Outcome::Aborted => Transition::Die(DeadReason::Aborted),
        Outcome::Unwanted(reason) => Transition::Skip(reason),
        Outcome::Expired => Transition::Die(DeadReason::Expired),
        Outcome::TooOld => Transition::Die(DeadReason::TooOld),
        Outcome::Unreadable => Transition::Die(DeadReason::Unreadable),
        Outcome::Erased => Transition::Erase,
        Outcome::Interrupted => Transition::Return,
        Outcome::TakenOver => Transition::Postpone {
            after: delay(&policy.retry, progress.takeovers.saturating_sub(TAKEOVERS_FREE)),
        },
    }
}

/// Whether one more failure uses up the budget.
fn is_exhausted(progress: &Progress, retry: &RetryPolicy, now: Timestamp) -> bool {
    let failures = progress.attempts.saturating_add(1);
    let first = progress.first_attempt_at.unwrap_or(now);
    retry.attempts.is_some_and(|limit| failures >= limit) || now.since(first) >= retry.give_up_after
}
