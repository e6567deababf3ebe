//! What ingress tells about each decision: one log line, its counts, one piece of news, and for a refusal an entry in
//! the kept list.

use std::sync::{Arc, Mutex, PoisonError};

use hyper::header::USER_AGENT;
use tokio::time::{Duration, Instant};

use super::answer::{Accepted, Kept, Refused, Repeated};
use super::{Call, cause, refusals};
use crate::clock::Clock;
use crate::config::Target;
use crate::event::{Event, EventId, Subject};
use crate::store::ledger::Refusal;
use crate::telemetry::Telemetry;
use crate::telemetry::feed::News;

/// Lines about refusals per second: a flood of forged requests must not fill the log's disk.
const REFUSED_LINES_MAX: u32 = 50;
/// The longest foreign text kept with a refusal, in characters.
const KEPT_CHARS_MAX: usize = 128;

/// Whether any target wants an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Demand {
    Wanted,
    Unwanted,
}

pub(super) struct Report {
    targets: Vec<Arc<Target>>,
    telemetry: Telemetry,
    clock: Clock,
    refusals: refusals::Sender,
    lines: Mutex<Lines>,
}

impl Report {
    pub(super) fn new(
        targets: Vec<Arc<Target>>, telemetry: Telemetry, clock: Clock, refusals: refusals::Sender,
    ) -> Self {
        Self { targets, telemetry, clock, refusals, lines: Mutex::new(Lines::new(Instant::now())) }
    }

    /// An event that was answered 2xx.
    pub(super) fn accepted(&self, call: &Call<'_>, accepted: &Accepted) {
        let event = &accepted.event;
        match accepted.kept {
            Kept::New(id) => self.received(call, event, id),
            Kept::Before(repeated) => self.repeated(call, event, repeated),
            Kept::Dropped => dropped(call, event),
        }
    }

    fn received(&self, call: &Call<'_>, event: &Event, id: EventId) {
        let (demand, took) = (self.demand(event), took(call));
        call.meters.received(&event.event_type, event.received_at, took);
        if demand == Demand::Unwanted {
            call.meters.unwanted();
        }
        tracing::info!(
            event_id = %id,
            source = event.source.as_str(),
            svix_id = &*event.svix_id,
            "type" = &*event.event_type,
            subject = event.subject.as_ref().map(Subject::as_str),
            bytes = event.body.len(),
            late_ms = late_ms(event),
            secret = %event.secret_id,
            unwanted = demand == Demand::Unwanted,
            took_ms = ms(took),
            "event.received"
        );
        self.telemetry.feed.tell(|| news("event.received", event, id, took));
    }

    fn repeated(&self, call: &Call<'_>, event: &Event, Repeated { id, rearmed }: Repeated) {
        let took = took(call);
        call.meters.duplicate(event.received_at, took);
        tracing::info!(
            event_id = %id,
            source = event.source.as_str(),
            svix_id = &*event.svix_id,
            "type" = &*event.event_type,
            subject = event.subject.as_ref().map(Subject::as_str),
            bytes = event.body.len(),
            late_ms = late_ms(event),
            secret = %event.secret_id,
            rearmed,
            took_ms = ms(took),
            "event.duplicate"
        );
        self.telemetry.feed.tell(|| news("event.duplicate", event, id, took));
    }

    /// A request that was not answered 2xx.
    pub(super) fn refused(&self, call: &Call<'_>, refused: &Refused) {
        call.meters.refused(refused.code());
        let refusal = Refusal {
            at: self.clock.now(),
            source: Some(call.source.name.clone()),
            status: refused.status().as_u16(),
            code: refused.code().to_owned(),
            cause: cause::of(call, refused),
            remote: Some(call.sender.to_string()),
            svix_id: header(call, "svix-id").or_else(|| header(call, "webhook-id")),
            user_agent: header(call, USER_AGENT.as_str()),
            body_bytes: call.body_bytes,
        };
        self.log_refused(call, &refusal);
        self.telemetry.feed.tell(|| News {
            source: Some(call.source.name.to_string()),
            svix_id: refusal.svix_id.clone(),
            reason: Some(refusal.code.clone()),
            status: Some(refusal.status),
            took_ms: Some(ms(took(call))),
            ..News::new("event.refused", refusal.at)
        });
        self.refusals.leave(refusal, &self.telemetry.meters);
    }

    fn demand(&self, event: &Event) -> Demand {
        let wanted = self.targets.iter().any(|target| target.skips(event).is_none());
        if wanted { Demand::Wanted } else { Demand::Unwanted }
    }

    fn log_refused(&self, call: &Call<'_>, refusal: &Refusal) {
        let Some(suppressed) = self.lines.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now())
        else {
            return;
        };
        if suppressed > 0 {
            tracing::warn!(count = suppressed, "event.refused_lines_left_out");
        }
        tracing::warn!(
            code = refusal.code,
            cause = refusal.cause,
            status = refusal.status,
            source = call.source.name.as_str(),
            remote = refusal.remote,
            svix_id = refusal.svix_id,
            bytes = refusal.body_bytes,
            took_ms = ms(took(call)),
            "event.refused"
        );
    }
}

fn dropped(call: &Call<'_>, event: &Event) {
    call.meters.dropped(event.received_at);
    tracing::info!(
        source = call.source.name.as_str(),
        svix_id = &*event.svix_id,
        "type" = &*event.event_type,
        bytes = event.body.len(),
        took_ms = ms(took(call)),
        "event.dropped"
    );
}

fn news(name: &str, event: &Event, id: EventId, took: Duration) -> News {
    News {
        event_id: Some(id.to_string()),
        svix_id: Some(event.svix_id.to_string()),
        source: Some(event.source.to_string()),
        event_type: Some(event.event_type.to_string()),
        subject: event.subject.as_ref().map(|subject| subject.as_str().to_owned()),
        took_ms: Some(ms(took)),
        ..News::new(name, event.received_at)
    }
}

fn late_ms(event: &Event) -> u64 {
    ms(event.received_at.since(event.born_at()))
}

/// Since the request's first byte.
fn took(call: &Call<'_>) -> Duration {
    call.arrival.started.elapsed()
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn header(call: &Call<'_>, name: &str) -> Option<String> {
    let text = call.head.headers.get(name)?.to_str().ok()?;
    Some(text.chars().take(KEPT_CHARS_MAX).collect())
}

/// How many lines about refusals the present second still has room for.
#[derive(Debug)]
struct Lines {
    second_began: Instant,
    written: u32,
    suppressed: u64,
}

impl Lines {
    fn new(now: Instant) -> Self {
        Self { second_began: now, written: 0, suppressed: 0 }
    }

    /// Leave to write one line and how many were left out before it, or nothing.
    fn take(&mut self, now: Instant) -> Option<u64> {
        if now.duration_since(self.second_began) >= Duration::from_secs(1) {
            self.second_began = now;
            self.written = 0;
        }
        if self.written == REFUSED_LINES_MAX {
            self.suppressed += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_to_its_share_and_the_rest_is_told() {
        let start = Instant::now();
        let mut lines = Lines::new(start);
        let written = (0..200).filter(|_| lines.take(start).is_some()).count();
        assert_eq!(written, REFUSED_LINES_MAX as usize);
        assert_eq!(lines.take(start + Duration::from_secs(1)), Some(150));
        assert_eq!(lines.take(start + Duration::from_secs(1)), Some(0));
    }
}
