//! What ingress tells about each decision: one log line, its counts, and for a refusal an entry in the kept list.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::header::USER_AGENT;
use tokio::time::{Duration, Instant};

use super::answer::{Accepted, Kept, Refused, Repeated};
use super::{Call, cause, refusals};
use crate::clock::Clock;
use crate::config::Target;
use crate::event::{Event, EventId, Subject};
use crate::store::ledger::Refusal;

/// Lines about refusals per second: a flood of forged requests must not fill the log's disk.
const REFUSED_LINES_MAX: u32 = 50;
/// The longest foreign text kept with a refusal, in characters.
const KEPT_CHARS_MAX: usize = 128;

/// What ingress counts. Each grows from 0 and never falls.
#[derive(Debug, Default)]
pub struct Counts {
    /// Events stored.
    pub received: AtomicU64,
    /// Known events that came again.
    pub duplicates: AtomicU64,
    /// Events answered 2xx and not stored, by a source's `drop`.
    pub dropped: AtomicU64,
    /// Of those stored: events that no target wants.
    pub unwanted: AtomicU64,
    /// Requests on a source's path that were not answered 2xx.
    pub refused: AtomicU64,
    /// Of those: requests that could not be kept in the list of refusals.
    pub refusals_lost: AtomicU64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        write!(
            f,
            "received {} duplicates {} dropped {} unwanted {} refused {} refusals_lost {}",
            of(&self.received),
            of(&self.duplicates),
            of(&self.dropped),
            of(&self.unwanted),
            of(&self.refused),
            of(&self.refusals_lost)
        )
    }
}

/// Whether any target wants an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Demand {
    Wanted,
    Unwanted,
}

pub(super) struct Report {
    targets: Vec<Arc<Target>>,
    counts: Arc<Counts>,
    clock: Clock,
    refusals: refusals::Sender,
    lines: Mutex<Lines>,
}

impl Report {
    pub(super) fn new(
        targets: Vec<Arc<Target>>, counts: Arc<Counts>, clock: Clock, refusals: refusals::Sender,
    ) -> Self {
        Self { targets, counts, clock, refusals, lines: Mutex::new(Lines::new(Instant::now())) }
    }

    /// An event that was answered 2xx.
    pub(super) fn accepted(&self, call: &Call<'_>, accepted: &Accepted) {
        let event = &accepted.event;
        match accepted.kept {
            Kept::New(id) => {
                add(&self.counts.received);
                let demand = self.demand(event);
                if demand == Demand::Unwanted {
                    add(&self.counts.unwanted);
                }
                log_received(call, event, id, demand, None);
            }
            Kept::Before(repeated) => {
                add(&self.counts.duplicates);
                log_received(call, event, repeated.id, self.demand(event), Some(repeated));
            }
            Kept::Dropped => {
                add(&self.counts.dropped);
                tracing::info!(
                    source = call.source.name.as_str(),
                    svix_id = &*event.svix_id,
                    "type" = &*event.event_type,
                    bytes = event.body.len(),
                    took_ms = took_ms(call),
                    "event.dropped"
                );
            }
        }
    }

    /// A request that was not answered 2xx.
    pub(super) fn refused(&self, call: &Call<'_>, refused: &Refused) {
        add(&self.counts.refused);
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
        self.refusals.leave(refusal, &self.counts);
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
            took_ms = took_ms(call),
            "event.refused"
        );
    }
}

fn log_received(call: &Call<'_>, event: &Event, id: EventId, demand: Demand, repeated: Option<Repeated>) {
    tracing::info!(
        event_id = %id,
        source = event.source.as_str(),
        svix_id = &*event.svix_id,
        "type" = &*event.event_type,
        subject = event.subject.as_ref().map(Subject::as_str),
        bytes = event.body.len(),
        late_ms = event.received_at.since(event.born_at()).as_millis() as u64,
        secret = %event.secret_id,
        duplicate = repeated.is_some(),
        rearmed = repeated.and_then(|repeated| repeated.rearmed),
        unwanted = demand == Demand::Unwanted,
        took_ms = took_ms(call),
        "event.received"
    );
}

fn took_ms(call: &Call<'_>) -> u64 {
    call.arrival.started.elapsed().as_millis() as u64
}

fn header(call: &Call<'_>, name: &str) -> Option<String> {
    let text = call.head.headers.get(name)?.to_str().ok()?;
    Some(text.chars().take(KEPT_CHARS_MAX).collect())
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
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
