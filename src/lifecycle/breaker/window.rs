//! What opens a breaker: the last outcomes of one target as one relay saw them. What an outcome tells of a target stands
//! here, and nothing of what becomes of the delivery.

use std::collections::VecDeque;

use super::BreakerPolicy;
use crate::lifecycle::Outcome;
use crate::lifecycle::attempt::{Attempt, ErrorClass};

/// Too many requests: the status by which an app says that it is overloaded.
const TOO_MANY_REQUESTS: u16 = 429;

/// What an attempt tells of its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// It works: 2xx.
    Success,
    /// It is in trouble: no connection, no answer in time, a broken one, 5xx, 429.
    Failure,
    /// It answers, but does not want this event: any other status, or an answer that says so. A few of them are the
    /// events' fault; nothing but them, for many events, is the target's.
    Rejection,
}

/// What an attempt that came to `outcome` tells of its target. Nothing: a 410, which pauses the target; our own faults;
/// and the rejection of an event that failed before, because one bad event that is retried for days would otherwise come
/// to fill the window of a quiet target.
pub fn sign(outcome: Outcome, attempt: &Attempt) -> Option<Sign> {
    match outcome {
        Outcome::Delivered => Some(Sign::Success),
        Outcome::Aborted => rejection(attempt),
        Outcome::Failed { .. } => match attempt.error {
            Some(
                ErrorClass::Dns
                | ErrorClass::Connect
                | ErrorClass::Tls
                | ErrorClass::Timeout
                | ErrorClass::Reset,
            ) => Some(Sign::Failure),
            Some(ErrorClass::TooLarge) => rejection(attempt),
            Some(ErrorClass::Internal) => None,
            Some(ErrorClass::Status) | None => match attempt.status? {
                TOO_MANY_REQUESTS | 500.. => Some(Sign::Failure),
                _ => rejection(attempt),
            },
        },
        Outcome::Gone
        | Outcome::Unwanted(_)
        | Outcome::Expired
        | Outcome::TooOld
        | Outcome::Unreadable
        | Outcome::Interrupted
        | Outcome::TakenOver => None,
    }
}

fn rejection(attempt: &Attempt) -> Option<Sign> {
    (attempt.number == 1).then_some(Sign::Rejection)
}

/// Why a breaker opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trip {
    /// `failures` without a success between them.
    Row,
    /// `ratio` of a full window failed.
    Share,
    /// A full window of nothing but rejections.
    Rejections,
}

impl Trip {
    /// The word for it in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Row => "failures_in_a_row",
            Self::Share => "share_of_failures",
            Self::Rejections => "only_rejections",
        }
    }
}

/// The last outcomes of a target, at most `window` of its policy. Begins empty with every turn of the breaker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Window {
    /// Failures since the last success.
    row: u32,
    last: VecDeque<Sign>,
}

impl Window {
    /// Adds an outcome. Tells why the breaker must open, where it must; a success never opens it.
    pub fn note(&mut self, sign: Sign, policy: &BreakerPolicy) -> Option<Trip> {
        self.row = match sign {
            Sign::Success => 0,
            Sign::Failure => self.row.saturating_add(1),
            Sign::Rejection => self.row,
        };
        self.last.push_back(sign);
        while self.last.len() > policy.window {
            self.last.pop_front();
        }
        let is_full = self.last.len() == policy.window;
        let share = self.failures() as f64 / policy.window as f64;
        match sign {
            Sign::Success => None,
            Sign::Failure | Sign::Rejection if self.row >= policy.failures => Some(Trip::Row),
            Sign::Failure | Sign::Rejection if is_full && share >= policy.ratio => Some(Trip::Share),
            Sign::Failure | Sign::Rejection => {
                (is_full && self.last.iter().all(|sign| *sign == Sign::Rejection)).then_some(Trip::Rejections)
            }
        }
    }

    /// How many of the outcomes in it are failures.
    pub fn failures(&self) -> usize {
        self.last.iter().filter(|sign| **sign == Sign::Failure).count()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Timestamp;
    use crate::lifecycle::attempt::ReplyRead;

    fn attempt(status: Option<u16>, error: Option<ErrorClass>) -> Attempt {
        Attempt {
            number: 1,
            at: Timestamp::from_secs(0),
            took: Duration::ZERO,
            status,
            error,
            hint: None,
            reply: Bytes::new(),
            reply_read: ReplyRead::Whole,
        }
    }

    #[test]
    fn what_counts_is_what_the_design_says() {
        let failed = Outcome::Failed { retry_after: None };
        let of_class = |class| sign(failed, &attempt(None, Some(class)));
        let expected = [
            (ErrorClass::Dns, Some(Sign::Failure)),
            (ErrorClass::Connect, Some(Sign::Failure)),
            (ErrorClass::Tls, Some(Sign::Failure)),
            (ErrorClass::Timeout, Some(Sign::Failure)),
            (ErrorClass::Reset, Some(Sign::Failure)),
            (ErrorClass::Status, None), // never without a status
            (ErrorClass::TooLarge, Some(Sign::Rejection)),
            (ErrorClass::Internal, None),
        ];
        assert_eq!(ErrorClass::ALL.map(|class| (class, of_class(class))), expected);
        let of_status = |status| sign(failed, &attempt(Some(status), Some(ErrorClass::Status)));
        for status in [429, 500, 502, 503, 504, 599] {
            assert_eq!(of_status(status), Some(Sign::Failure), "{status}");
        }
        for status in [301, 304, 400, 401, 404, 408, 422] {
            assert_eq!(of_status(status), Some(Sign::Rejection), "{status}");
        }
        let answered = attempt(Some(410), Some(ErrorClass::Status));
        assert_eq!(sign(Outcome::Gone, &answered), None);
        assert_eq!(sign(Outcome::Interrupted, &answered), None);
        let aborted = attempt(Some(500), Some(ErrorClass::Status));
        assert_eq!(sign(Outcome::Aborted, &aborted), Some(Sign::Rejection), "it is about the event");
        assert_eq!(sign(Outcome::Delivered, &attempt(Some(204), None)), Some(Sign::Success));
        let again = |status| Attempt { number: 2, ..attempt(Some(status), Some(ErrorClass::Status)) };
        assert_eq!(sign(failed, &again(404)), None, "the same event as before");
        assert_eq!(sign(failed, &again(503)), Some(Sign::Failure));
    }

    /// Why the last of `signs` opens the breaker; none before it may.
    fn trip(signs: &[Sign]) -> Option<Trip> {
        let (mut window, policy) = (Window::default(), BreakerPolicy::default());
        let mut trips: Vec<_> = signs.iter().map(|sign| window.note(*sign, &policy)).collect();
        let last = trips.pop().flatten();
        assert!(trips.iter().all(Option::is_none), "it opened too early");
        last
    }

    #[test]
    fn five_failures_in_a_row_open_and_a_success_between_does_not() {
        use Sign::{Failure as F, Rejection as R, Success as S};
        assert_eq!(trip(&[F, F, F, F, F]), Some(Trip::Row));
        assert_eq!(trip(&[F, F, F, F, S, F, F, F, F]), None);
        assert_eq!(trip(&[F, F, R, F, F, R, F]), Some(Trip::Row), "a rejection is no success");
    }

    #[test]
    fn half_of_the_last_twenty_open_once_there_are_twenty() {
        use Sign::{Failure as F, Success as S};
        assert_eq!(trip(&[S, F].repeat(9)), None);
        assert_eq!(trip(&[S, F].repeat(10)), Some(Trip::Share));
        assert_eq!(trip(&[[S, S, F].repeat(20), vec![F]].concat()), None, "a third is not half");
    }

    #[test]
    fn rejections_open_only_when_there_is_nothing_else() {
        use Sign::{Rejection as R, Success as S};
        assert_eq!(trip(&[R; 19]), None);
        assert_eq!(trip(&[R; 20]), Some(Trip::Rejections));
        assert_eq!(trip(&[[S].as_slice(), &[R; 19]].concat()), None);
        assert_eq!(trip(&[[S].as_slice(), &[R; 20]].concat()), Some(Trip::Rejections));
    }

    fn signs() -> impl Strategy<Value = Vec<Sign>> {
        let one = proptest::sample::select(vec![Sign::Success, Sign::Failure, Sign::Rejection]);
        proptest::collection::vec(one, 1..80)
    }

    fn policies() -> impl Strategy<Value = BreakerPolicy> {
        (1u32..10, 1usize..30, 0.05f64..=1.0).prop_map(|(failures, window, ratio)| BreakerPolicy {
            failures,
            window,
            ratio,
            ..BreakerPolicy::default()
        })
    }

    proptest! {
        #[test]
        fn a_window_opens_exactly_when_one_of_its_three_rules_says_so(signs in signs(), policy in policies()) {
            let mut window = Window::default();
            for (index, sign) in signs.iter().enumerate() {
                let trip = window.note(*sign, &policy);
                let seen = &signs[..=index];
                let row = seen.iter().rev().take_while(|sign| **sign != Sign::Success)
                    .filter(|sign| **sign == Sign::Failure).count();
                let last = &seen[seen.len().saturating_sub(policy.window)..];
                let failures = last.iter().filter(|sign| **sign == Sign::Failure).count();
                let full = last.len() == policy.window;
                let by_share = full && failures as f64 >= policy.ratio * policy.window as f64 - 1e-9;
                let all_rejected = full && last.iter().all(|sign| *sign == Sign::Rejection);
                let opens = *sign != Sign::Success && (row >= policy.failures as usize || by_share || all_rejected);
                prop_assert_eq!(trip.is_some(), opens, "{:?} after {:?}", trip, seen);
                prop_assert_eq!(window.failures(), failures);
            }
        }

        #[test]
        fn what_always_works_never_opens(successes in 1usize..200, policy in policies()) {
            let mut window = Window::default();
            prop_assert!((0..successes).all(|_| window.note(Sign::Success, &policy).is_none()));
        }
    }
}
