//! What is told of a delivery whose lease ends: one log line, its counts and one piece of news. Never a body, a secret or
//! a signature.

use tracing::{debug, info, warn};

use super::Shared;
use crate::clock::Timestamp;
use crate::event::Subject;
use crate::lifecycle::attempt::{Attempt, ErrorClass, ReplyRead};
use crate::lifecycle::hint::Hint;
use crate::lifecycle::{State, Transition};
use crate::store::Lease;
use crate::telemetry::feed::News;
use crate::telemetry::meters::{Attempted, TargetMeters};

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

/// Tells of a delivery whose lease ends: `delivery.attempted` with the attempt, else why there was none. What the target
/// does not want, and what goes back untried, is only worth a debug line.
pub(super) fn ended(shared: &Shared, lease: &Lease, attempt: Option<&Attempt>, transition: Transition) {
    let now = shared.deps.clock.now();
    count(&shared.meters, lease, attempt, transition, now);
    let name = line(shared, lease, attempt, transition);
    if let Some(name) = name {
        shared.deps.telemetry.feed.tell(|| news(name, shared, lease, attempt, transition, now));
    }
}

fn count(
    meters: &TargetMeters, lease: &Lease, attempt: Option<&Attempt>, transition: Transition, now: Timestamp,
) {
    if let Some(attempt) = attempt {
        let how = attempt.error.map_or(Attempted::Well, |error| Attempted::Badly(error.as_str()));
        meters.attempted(how, attempt.took);
    }
    let event = lease.event().ok();
    let event_type = event.map(|event| &*event.event_type);
    match transition {
        Transition::Deliver => {
            meters.ended(State::Delivered.as_str(), event_type);
            // What an operator asked for again comes as late as they asked.
            if let Some(event) = event.filter(|_| lease.progress().retried_at.is_none()) {
                meters.delivered_after(now.since(event.received_at));
            }
        }
        Transition::Die(reason) => {
            meters.ended(State::Dead.as_str(), event_type);
            meters.died(reason.as_str());
        }
        Transition::Skip(_) => meters.ended(State::Skipped.as_str(), event_type),
        Transition::Postpone { .. } => meters.postponed(),
        Transition::Wait { .. } | Transition::Return => {}
    }
}

/// Writes the log line and returns its name, where it is more than a debug line.
fn line(
    shared: &Shared, lease: &Lease, attempt: Option<&Attempt>, transition: Transition,
) -> Option<&'static str> {
    let event = lease.event().ok();
    let (event_id, target) = (lease.event_id(), &shared.deps.target.name);
    let source = event.map(|event| event.source.as_str());
    let svix_id = event.map(|event| &*event.svix_id);
    let event_type = event.map(|event| &*event.event_type);
    let subject = event.and_then(|event| event.subject.as_ref()).map(Subject::as_str);
    let Next { state, reason, delay_ms } = transition.into();
    let state = state.as_str();
    macro_rules! line {
        ($level:ident, $name:literal $(, $($field:tt)*)?) => {{
            $level!(%event_id, %target, source, svix_id, "type" = event_type, subject, state, reason, delay_ms,
                $($($field)*,)? $name);
            Some($name)
        }};
    }
    let Some(attempt) = attempt else {
        return match transition {
            Transition::Postpone { .. } => line!(warn, "delivery.postponed"),
            Transition::Die(_) => line!(warn, "delivery.given_up"),
            Transition::Deliver | Transition::Wait { .. } | Transition::Skip(_) | Transition::Return => {
                line!(debug, "delivery.not_attempted").and(None)
            }
        };
    };
    let (number, status, took_ms) = (attempt.number, attempt.status, attempt.took.as_millis() as u64);
    let error = attempt.error.map(ErrorClass::as_str);
    let reply_truncated = attempt.reply_read == ReplyRead::Truncated;
    if attempt.error.is_none() {
        line!(info, "delivery.attempted", attempt = number, status, took_ms, reply_truncated)
    } else {
        let hint = attempt.hint.map(Hint::as_str);
        line!(warn, "delivery.attempted", attempt = number, status, error, hint, took_ms, reply_truncated)
    }
}

fn news(
    name: &str, shared: &Shared, lease: &Lease, attempt: Option<&Attempt>, transition: Transition,
    now: Timestamp,
) -> News {
    let Next { state, reason, delay_ms } = transition.into();
    let mut news = News {
        event_id: Some(lease.event_id().to_string()),
        target: Some(shared.deps.target.name.to_string()),
        state: Some(state.as_str().to_owned()),
        reason: reason.map(str::to_owned),
        delay_ms,
        ..News::new(name, now)
    };
    if let Ok(event) = lease.event() {
        news.svix_id = Some(event.svix_id.to_string());
        news.source = Some(event.source.to_string());
        news.event_type = Some(event.event_type.to_string());
        news.subject = event.subject.as_ref().map(|subject| subject.as_str().to_owned());
    }
    if let Some(attempt) = attempt {
        news.attempt = Some(attempt.number);
        news.status = attempt.status;
        news.error = attempt.error.map(|error| error.as_str().to_owned());
        news.took_ms = Some(attempt.took.as_millis() as u64);
    }
    news
}
