//! The log line of what a delivery came to. Never a body, a secret or a signature.

use tracing::{debug, info, warn};

use crate::config::Target;
use crate::event::Subject;
use crate::lifecycle::attempt::{Attempt, ErrorClass, ReplyRead};
use crate::lifecycle::hint::Hint;
use crate::lifecycle::{State, Transition};
use crate::store::Lease;

/// Where a transition leads, in the words of the log.
struct Next {
    state: State,
    reason: Option<&'static str>,
    delay_ms: Option<u64>,
}

impl From<Transition> for Next {
    fn from(transition: Transition) -> Self {
        let next = |state| Self { state, reason: None, delay_ms: None };
        match transition {
            Transition::Deliver => next(State::Delivered),
            Transition::Wait { after } | Transition::Postpone { after } => {
                Self { delay_ms: Some(after.as_millis() as u64), ..next(State::Waiting) }
            }
            Transition::Die(reason) => Self { reason: Some(reason.as_str()), ..next(State::Dead) },
            Transition::Skip(reason) => Self { reason: Some(reason.as_str()), ..next(State::Skipped) },
            Transition::Return => next(State::Queued),
        }
    }
}

/// One line for a delivery whose lease ends: `delivery.attempted` with the attempt, else why there was none. What the
/// target does not want, and what goes back untried, is only worth a debug line.
pub(super) fn ended(target: &Target, lease: &Lease, attempt: Option<&Attempt>, transition: Transition) {
    let event = lease.event().ok();
    let (event_id, target) = (lease.event_id(), &target.name);
    let source = event.map(|event| event.source.as_str());
    let svix_id = event.map(|event| &*event.svix_id);
    let event_type = event.map(|event| &*event.event_type);
    let subject = event.and_then(|event| event.subject.as_ref()).map(Subject::as_str);
    let Next { state, reason, delay_ms } = transition.into();
    let state = state.as_str();
    macro_rules! line {
        ($level:ident, $name:literal $(, $($field:tt)*)?) => {
            $level!(%event_id, %target, source, svix_id, "type" = event_type, subject, state, reason, delay_ms,
                $($($field)*,)? $name)
        };
    }
    let Some(attempt) = attempt else {
        return match transition {
            Transition::Postpone { .. } => line!(warn, "delivery.postponed"),
            Transition::Die(_) => line!(warn, "delivery.given_up"),
            Transition::Deliver | Transition::Wait { .. } | Transition::Skip(_) | Transition::Return => {
                line!(debug, "delivery.not_attempted");
            }
        };
    };
    let (number, status, took_ms) = (attempt.number, attempt.status, attempt.took.as_millis() as u64);
    let error = attempt.error.map(ErrorClass::as_str);
    let reply_truncated = attempt.reply_read == ReplyRead::Truncated;
    if attempt.error.is_none() {
        line!(info, "delivery.attempted", attempt = number, status, took_ms, reply_truncated);
    } else {
        let hint = attempt.hint.map(Hint::as_str);
        line!(warn, "delivery.attempted", attempt = number, status, error, hint, took_ms, reply_truncated);
    }
}
