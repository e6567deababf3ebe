//! The store port: what the flows may ask of a store, and what they may rely on. The adapters stand in the folder
//! beside this file; only `app` knows which one runs.
//!
//! The model is a log with exceptions. Events are appended once; each target has a cursor into the log; only a
//! delivery that was claimed, failed, was parked or was retried by hand has a record of its own. So ingest costs the
//! same for any number of targets, and a target that takes nothing costs nothing.
//!
//! What every adapter promises:
//! - [`Store::ingest`] answers `New` or `Duplicate` only when event and mark are durable, in one atomic step.
//! - A [`Lease`] is the right to make the next attempt. [`Store::settle`] applies a transition only under the lease that
//!   the claim gave; a stale one comes back as [`Settled::Lost`] and changes nothing.
//! - Every method may be called again after an error: nothing is done by halves, nothing twice.
//! - Durations go in, instants come out: the store's clock alone judges what is due.
//! - Every list is bounded by its page and ordered by a key, so that paging stays right while data changes.

pub mod figures;
pub mod job;
pub mod ledger;
pub mod measured;
pub mod query;
pub mod readiness;
pub mod redis;
pub mod settling;
pub mod sqlite;

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use crate::clock::Timestamp;
use crate::event::frame::BadFrame;
use crate::event::{Event, EventId, TargetName};
use crate::lifecycle::attempt::Attempt;
use crate::lifecycle::breaker::Breaker;
use crate::lifecycle::{Ordering, Progress, Start, Transition};
use crate::signature::Verified;

use ledger::Ledger;
use query::{
    DeliveryQuery, DeliveryView, Erase, Erased, EventLookup, EventMeta, EventQuery, EventRef, Overview, Page,
    Paged, Redrive, Redriven, TargetStatus,
};

/// What went wrong with the store itself. A full or absent store is temporary: callers back off and try again.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached or does not answer in time; nothing is known to have been done.
    #[error("the store is not available")]
    Unavailable(#[source] Option<Box<dyn std::error::Error + Send + Sync>>),
    /// It has no space left, on disk or below `limits.store_size`.
    #[error("the store is full")]
    Full,
    /// Its contents cannot be read.
    #[error("the store is corrupt")]
    Corrupt(#[source] Option<Box<dyn std::error::Error + Send + Sync>>),
}

/// What became of a verified event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ingested {
    /// Stored under this new id.
    New(EventId),
    /// The same `svix-id` of the same source was stored before.
    Duplicate(Duplicate),
}

/// How a duplicate relates to the event that was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duplicate {
    /// The event that was kept.
    pub id: EventId,
    /// Since it was stored.
    pub age: Duration,
    /// Which secret signed it, compared with now.
    pub secret: Likeness,
    /// The body that was kept, compared with the one that came now.
    pub body: Likeness,
}

/// Whether two things are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Likeness {
    /// Equal.
    Same,
    /// Not equal.
    Different,
}

/// A target as the configuration declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetSpec {
    /// Its name and identity.
    pub name: TargetName,
    /// Where a target that the store does not know yet begins.
    pub start: Start,
    /// The first 16 hex digits of the SHA-256 of its URL: tells whether two relays mean the same app by one name.
    pub url_digest: String,
}

/// What declaring the targets changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetChange {
    /// New: it begins where its `start` says.
    Added(TargetName),
    /// It was gone from the configuration and is back; its cursor was kept.
    Returned(TargetName),
    /// It is in the store but not in the configuration: kept, but nothing is delivered to it.
    Orphaned(TargetName),
    /// Another live relay has another URL for it.
    Disputed(TargetName),
}

/// What a claim asks for.
#[derive(Debug, Clone)]
pub struct ClaimWanted {
    /// For this target.
    pub target: TargetName,
    /// At most this many leases.
    pub leases_max: usize,
    /// Stop adding leases once their frames exceed this many bytes (one lease is always given).
    pub bytes_max: usize,
    /// Whether the target is ordered.
    pub ordering: Ordering,
    /// Types that ordering never holds back, because they are worthless later (those with an `expire`).
    pub unordered_types: std::sync::Arc<[String]>,
    /// Which deliveries.
    pub scope: ClaimScope,
    /// Where the breaker is open: how long a probe that this claim gives keeps other relays from probing.
    pub probe_hold: Duration,
}

/// Which deliveries a claim may give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimScope {
    /// Whatever is ready now: new ones and due ones in turn. Nothing while the target is paused or an orphan. While its
    /// breaker is open, at most one as a probe, and none before `probe_at`: one that was never attempted, else the least
    /// attempted of the earliest due ones, its due time ignored; giving it moves `probe_at` by the claim's `probe_hold`.
    Ready,
    /// Unfinished ones (not those in flight) of events that were accepted longer ago than this, and not retried since,
    /// whether the target is paused, an orphan or ordered, so that upkeep can end them.
    OlderThan(Duration),
}

/// What a claim gave.
#[derive(Debug)]
pub struct Claimed {
    /// Ordered by event within new ones and by due time within due ones.
    pub leases: Vec<Lease>,
    /// The present by the store's clock.
    pub now: Timestamp,
    /// Until the next waiting delivery of the target is due, where there is one and nothing more is ready. While the
    /// breaker is open: until the next probe, where there is anything to probe with.
    pub next_due: Option<Duration>,
    /// Whether the claim stopped at its bounds although more is ready; never while the breaker is open.
    pub more: More,
    /// Whether the target takes events at all; a target that the store does not know is an orphan.
    pub status: TargetStatus,
    /// The target's breaker after this claim. Where it is open, the lease that was given is a probe.
    pub breaker: Breaker,
    /// Relays that share the store, this one included, as of the last tick: what is a total is divided by them.
    pub relays: u32,
}

/// Whether there is more of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum More {
    /// There is.
    Ready,
    /// There is not.
    None,
}

/// The right to make the next attempt of one delivery. Only a store makes one.
#[derive(Debug)]
pub struct Lease {
    target: TargetName,
    event_id: EventId,
    token: u64,
    progress: Progress,
    event: Result<Event, BadFrame>,
    /// What the adapter wants to know again when the lease is settled; nobody else looks at it.
    memo: bytes::Bytes,
}

impl Lease {
    /// The delivery's target.
    pub fn target(&self) -> &TargetName {
        &self.target
    }

    /// The delivery's event.
    pub fn event_id(&self) -> EventId {
        self.event_id
    }

    /// What was attempted before.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The event, where its frame can be read.
    pub fn event(&self) -> Result<&Event, &BadFrame> {
        self.event.as_ref()
    }
}

/// What a store is told of a claimed delivery.
#[derive(Debug)]
pub struct Settle {
    /// Under which right.
    pub lease: Lease,
    /// What becomes of it.
    pub transition: Transition,
    /// The attempt that was made, where one was.
    pub attempt: Option<Attempt>,
}

impl Settle {
    /// A copy to send again where the first sending failed. The lease's token makes a repetition harmless.
    pub fn again(&self) -> Self {
        let event = match &self.lease.event {
            Ok(event) => Ok(event.clone()),
            Err(_) => Err(BadFrame::Short), // settling does not look at the frame
        };
        let Lease { target, event_id, token, progress, memo, .. } = &self.lease;
        Self {
            lease: Lease {
                target: target.clone(),
                event_id: *event_id,
                token: *token,
                progress: *progress,
                event,
                memo: memo.clone(),
            },
            transition: self.transition,
            attempt: self.attempt.clone(),
        }
    }
}

/// What became of a settle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Applied.
    Done,
    /// The lease is no longer held: someone else has the delivery, or it has ended. Nothing was changed.
    Lost,
}

/// What an operator, or an outcome such as 410, does to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Take nothing more; keep everything.
    Pause(PauseReason),
    /// Go on.
    Resume,
    /// Forget an orphan: its unfinished deliveries end cancelled.
    Forget,
    /// Turn the breaker, unless somebody else has turned it since.
    Turn {
        /// The revision of the breaker that the turn was decided upon.
        from: u64,
        /// Which way.
        to: Turn,
    },
}

/// Which way a breaker is turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Open, or stay open after a probe that failed; the next probe not before this long from now.
    Open {
        /// Until the next probe. Zero where the last one came to no attempt: then it is not counted as failed.
        probe_after: Duration,
    },
    /// Closed. What waits becomes due again, spread over this long, in the order of due times; what is due sooner stays
    /// so, and of very many the latest may stay so too.
    Close {
        /// The span of the new due times.
        spread: Duration,
    },
}

/// Why a target is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PauseReason {
    /// An operator paused it.
    Operator,
    /// It answered 410 Gone.
    Gone,
}

impl PauseReason {
    /// The word for it in JSON, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Gone => "gone",
        }
    }
}

/// What a control did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controlled {
    /// It changed the target.
    Changed,
    /// The target was so already.
    Unchanged,
    /// The store knows no such target, or `Forget` was asked of one that is still configured, or the breaker was turned
    /// by somebody else meanwhile.
    Refused,
}

/// What a tick found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ticked {
    /// Deliveries taken over from relays that died.
    pub taken_over: u64,
    /// Relays that share the store, this one included.
    pub relays: u32,
    /// What other relays changed about the targets of this one.
    pub changes: Vec<TargetChange>,
}

/// What one sweep removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// Events whose retention was over.
    pub events: u64,
    /// Dead letters and other ended deliveries whose retention was over.
    pub deliveries: u64,
    /// Dedupe marks whose window was over; where the store lets them run out by themselves, none.
    pub marks: u64,
}

/// A store, which keeps a [`Ledger`] too. Shared by all flows of a relay; every method may be called from many tasks at
/// once.
#[async_trait]
pub trait Store: Ledger {
    /// Makes the store's targets those of the configuration. Never deletes one: what is missing becomes an orphan.
    async fn declare(&self, targets: &[TargetSpec]) -> Result<Vec<TargetChange>, StoreError>;

    /// Keeps an event, unless its (source, `svix-id`) is marked. Durable when it answers.
    async fn ingest(&self, event: Verified) -> Result<Ingested, StoreError>;

    /// Leases deliveries. What it gives is in flight until it is settled or its holder dies.
    async fn claim(&self, wanted: ClaimWanted) -> Result<Claimed, StoreError>;

    /// Applies a transition under its lease.
    async fn settle(&self, settle: Settle) -> Result<Settled, StoreError>;

    /// Rung whenever there may be new work or a control changed. Level-triggered: the value counts the rings.
    fn bell(&self) -> watch::Receiver<u64>;

    /// Keeps this relay's leases alive and takes over those of dead relays. Called every few seconds.
    async fn tick(&self) -> Result<Ticked, StoreError>;

    /// Pauses, resumes or forgets a target, or turns its breaker.
    async fn control(&self, target: &TargetName, control: Control) -> Result<Controlled, StoreError>;

    /// Retries, replays or cancels a bounded part of a selection; what is in flight is left alone.
    async fn redrive(&self, redrive: Redrive) -> Result<Redriven, StoreError>;

    /// Events, newest first.
    async fn events(&self, query: EventQuery, page: Page) -> Result<Paged<EventMeta>, StoreError>;

    /// One event with its deliveries and their attempts.
    async fn event(&self, wanted: EventRef) -> Result<EventLookup, StoreError>;

    /// Deliveries, newest event first.
    async fn deliveries(&self, query: DeliveryQuery, page: Page) -> Result<Paged<DeliveryView>, StoreError>;

    /// The state of every target and of the store.
    async fn overview(&self) -> Result<Overview, StoreError>;

    /// Erases a bounded part of what is kept of a subject.
    async fn erase(&self, erase: Erase) -> Result<Erased, StoreError>;

    /// Removes at most `max` rows of each kind whose retention is over; nothing unfinished is ever removed.
    async fn sweep(&self, max: u32) -> Result<Swept, StoreError>;
}
