//! What is counted while the relay runs: metrics for a scraper, and small counts for the store. Counters grow from 0 and
//! never fall. Each relay has its own; there are no globals. Label values are the names of the configuration, Clerk's
//! known types and words of the program, so that nobody from outside can make series without end. Never an id, a body
//! or a secret.
//!
//! What is true of the store at a moment (backlogs, breakers, sizes) is not counted here but read from it.

pub mod family;
mod pending;
mod source;
mod target;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::clock::Timestamp;
use crate::event::{SourceName, TargetName};
use crate::telemetry::tally::{Tally, minute_of};

use family::{About, Book, ByWord, Metered};
use pending::KeptBack;

pub use source::SourceMeters;
pub use target::{Attempted, TargetMeters};

/// A gauge of seconds or the like.
pub type GaugeF64 = Gauge<f64, AtomicU64>;

/// The metrics that are counted, by name; a reading of the store has names of its own.
#[derive(Debug)]
struct Families {
    received: Metered<Counter>,
    duplicates: Metered<Counter>,
    dropped: Metered<Counter>,
    unwanted: Metered<Counter>,
    refused: Metered<Counter>,
    last_received: Metered<GaugeF64>,
    ingest: Metered<Histogram>,
    attempts: Metered<Counter>,
    attempt: Metered<Histogram>,
    end_to_end: Metered<Histogram>,
    ended: Metered<Counter>,
    dead: Metered<Counter>,
    postponed: Metered<Counter>,
    turns: Metered<Counter>,
    redriven: Metered<Counter>,
    store_call: Metered<Histogram>,
    store_failures: Metered<Counter>,
}

/// Buckets in seconds. Ingest: a commit takes a millisecond or a few, the sender waits 15 s.
fn ingest_buckets() -> Histogram {
    Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
}

/// An attempt: from an app next door to the usual `timeout` of 15 s and somewhat beyond.
fn attempt_buckets() -> Histogram {
    Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0])
}

/// From receipt to delivery: at once, after a retry, after an outage, after `give_up_after`.
fn end_to_end_buckets() -> Histogram {
    Histogram::new([
        0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0,
        259_200.0,
    ])
}

/// A call of the store: from memory, from disk, over a network, or stuck.
fn store_buckets() -> Histogram {
    Histogram::new([
        0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    ])
}

/// An [`About`] that lives as long as the program.
macro_rules! about {
    ($kind:ident $name:literal $labels:expr, $help:literal) => {{
        use $crate::telemetry::meters::family::{About, Kind};
        const ABOUT: About = About { name: $name, kind: Kind::$kind, labels: &$labels, help: $help };
        &ABOUT
    }};
}
pub(crate) use about;

impl Families {
    #[rustfmt::skip] // a table
    fn of_ingress_and_delivery(book: &mut Book) -> Self {
        Self {
            received: book.family(about!(Counter "clerk_relay_events_received" ["source", "type"],
                "Events stored; types that Clerk's catalogs do not name are one, `other`"), Counter::default),
            duplicates: book.family(about!(Counter "clerk_relay_events_duplicate" ["source"],
                "Known events that came again"), Counter::default),
            dropped: book.family(about!(Counter "clerk_relay_events_dropped" ["source"],
                "Events answered 2xx and not stored, by the source's `drop`"), Counter::default),
            unwanted: book.family(about!(Counter "clerk_relay_events_unwanted" ["source"],
                "Of the events stored: those that no target wants"), Counter::default),
            refused: book.family(about!(Counter "clerk_relay_requests_refused" ["source", "reason"],
                "Requests on a source's path that were not answered 2xx, by the code of the answer"), Counter::default),
            last_received: book.family(about!(Gauge "clerk_relay_last_event_received_timestamp_seconds" ["source"],
                "When an event last came, new or known; absent while the relay knows of none"), GaugeF64::default),
            ingest: book.family(about!(Histogram "clerk_relay_ingest_duration_seconds" ["source"],
                "From a request's first byte until its event was stored or known"), ingest_buckets),
            attempts: book.family(about!(Counter "clerk_relay_attempts" ["target", "outcome"],
                "Attempts by outcome: `delivered`, or the error class"), Counter::default),
            attempt: book.family(about!(Histogram "clerk_relay_attempt_duration_seconds" ["target"],
                "From an attempt's beginning to the end of what was read of the reply"), attempt_buckets),
            end_to_end: book.family(about!(Histogram "clerk_relay_delivery_duration_seconds" ["target"],
                "From an event's receipt to its delivery, without what an operator asked for again"), end_to_end_buckets),
            ended: book.family(about!(Counter "clerk_relay_deliveries_ended" ["target", "state", "type"],
                "Deliveries that ended: `delivered`, `dead` or `skipped`"), Counter::default),
            dead: book.family(about!(Counter "clerk_relay_dead_letters" ["target", "reason"],
                "Of the deliveries that ended: those given up, by reason"), Counter::default),
            postponed: book.family(about!(Counter "clerk_relay_deliveries_postponed" ["target"],
                "Deliveries that wait because their holders died again and again"), Counter::default),
            turns: book.family(about!(Counter "clerk_relay_breaker_turns" ["target", "turned"],
                "How often this relay `opened` or `closed` the target's breaker"), Counter::default),
            redriven: book.family(about!(Counter "clerk_relay_deliveries_redriven" ["action"],
                "Deliveries that `retry` or `replay` made due again, or that `cancel` ended"), Counter::default),
            store_call: book.family(about!(Histogram "clerk_relay_store_call_duration_seconds" ["operation"],
                "Calls of the store, failed ones included"), store_buckets),
            store_failures: book.family(about!(Counter "clerk_relay_store_call_failures" ["operation", "reason"],
                "Calls of the store that failed: `unavailable`, `full` or `corrupt`"), Counter::default),
        }
    }
}

/// What is counted of one operation of the store.
#[derive(Debug)]
struct StoreCalls {
    duration: Histogram,
    failures: ByWord<Counter>,
}

/// The counts of one relay.
#[derive(Debug)]
pub struct Meters {
    book: Book,
    families: Arc<Families>,
    /// Made when a source is first asked for; locked for a moment, at a start and by whoever adds up.
    sources: RwLock<BTreeMap<SourceName, Arc<SourceMeters>>>,
    /// The same for targets.
    targets: RwLock<BTreeMap<TargetName, Arc<TargetMeters>>>,
    refusals_lost: Counter,
    taken_over: Counter,
    relays: Gauge,
    redriven: ByWord<Counter>,
    store_calls: ByWord<StoreCalls>,
    /// Held for a moment, never over a wait.
    kept_back: Mutex<KeptBack>,
}

impl Default for Meters {
    fn default() -> Self {
        let mut book = Book::default();
        let families = Arc::new(Families::of_ingress_and_delivery(&mut book));
        let lost = about!(Counter "clerk_relay_refusals_lost" [],
            "Refused requests that could not be kept in the list of refusals");
        let taken_over = about!(Counter "clerk_relay_leases_taken_over" [],
            "Deliveries that this relay took over from relays that died");
        let relays = about!(Gauge "clerk_relay_relays" [],
            "Relays that share the store, this one included, as of the last tick");
        Self {
            refusals_lost: book.one(lost),
            taken_over: book.one(taken_over),
            relays: book.one(relays),
            book,
            families,
            sources: RwLock::default(),
            targets: RwLock::default(),
            redriven: ByWord::default(),
            store_calls: ByWord::default(),
            kept_back: Mutex::default(),
        }
    }
}

impl Meters {
    /// The counts of a source.
    pub fn source(&self, name: &SourceName) -> Arc<SourceMeters> {
        let mut sources = self.sources.write().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(SourceMeters::new(name, &self.families));
        sources.entry(name.clone()).or_insert_with(new).clone()
    }

    /// The counts of a target.
    pub fn target(&self, name: &TargetName) -> Arc<TargetMeters> {
        let mut targets = self.targets.write().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(TargetMeters::new(name, &self.families));
        targets.entry(name.clone()).or_insert_with(new).clone()
    }

    /// This many refused requests could not be kept in the list.
    pub fn refusals_lost(&self, count: u64) {
        self.refusals_lost.inc_by(count);
    }

    /// This many deliveries were taken over from dead relays.
    pub fn taken_over(&self, count: u64) {
        self.taken_over.inc_by(count);
    }

    /// So many relays share the store.
    pub fn share(&self, relays: u32) {
        self.relays.set(i64::from(relays));
    }

    /// Relays that share the store; 0 before the first tick.
    pub fn relays(&self) -> u32 {
        u32::try_from(self.relays.get()).unwrap_or(0)
    }

    /// So many deliveries were moved by `retry`, `replay` or `cancel`.
    pub fn redriven(&self, action: &'static str, count: u64) {
        self.redriven.of(action, |action| self.families.redriven.with(&[action])).inc_by(count);
    }

    /// A call of the store took so long and, where it failed, for this reason.
    pub fn store_call(&self, operation: &'static str, took: Duration, failure: Option<&'static str>) {
        self.calls(operation).duration.observe(took.as_secs_f64());
        if let Some(reason) = failure {
            self.failures(operation, reason).inc();
        }
    }

    /// Shows 0 failures of this operation for this reason, so that the first one is already seen as a rise.
    pub fn expect_failures(&self, operation: &'static str, reason: &'static str) {
        self.failures(operation, reason);
    }

    fn calls(&self, operation: &'static str) -> &StoreCalls {
        let make = |operation| StoreCalls {
            duration: self.families.store_call.with(&[operation]),
            failures: ByWord::default(),
        };
        self.store_calls.of(operation, make)
    }

    fn failures(&self, operation: &'static str, reason: &'static str) -> &Counter {
        let make = |reason| self.families.store_failures.with(&[operation, reason]);
        self.calls(operation).failures.of(reason, make)
    }

    /// What ingress counted, over all sources.
    pub fn ingress(&self) -> Totals {
        let mut totals = Totals { refusals_lost: self.refusals_lost.get(), ..Totals::default() };
        for source in self.sources.read().unwrap_or_else(PoisonError::into_inner).values() {
            source.add_to(&mut totals);
        }
        totals
    }

    /// What was counted since it was last taken, and what was given back, for the store. What is new is counted to the
    /// minute of `now`, so it is taken every few seconds.
    pub fn take_tallies(&self, now: Timestamp) -> Vec<Tally> {
        let minute = minute_of(now);
        let mut fresh = Vec::new();
        for source in self.sources.read().unwrap_or_else(PoisonError::into_inner).values() {
            source.take(minute, &mut fresh);
        }
        for target in self.targets.read().unwrap_or_else(PoisonError::into_inner).values() {
            target.take(minute, &mut fresh);
        }
        let mut kept = self.kept_back.lock().unwrap_or_else(PoisonError::into_inner);
        kept.add(fresh);
        kept.take()
    }

    /// Keeps back what the store did not take, up to a bound.
    pub fn give_back(&self, tallies: Vec<Tally>) {
        self.kept_back.lock().unwrap_or_else(PoisonError::into_inner).add(tallies);
    }

    /// Everything that is counted, and after it what `reading` says, in the text form of OpenMetrics 1.0.
    pub fn encode(&self, reading: &Book) -> String {
        let mut text = String::new();
        encode_registry(&mut text, self.book.registry())
            .and_then(|()| encode_registry(&mut text, reading.registry()))
            .and_then(|()| encode_eof(&mut text))
            .expect("writing to a string never fails");
        text
    }

    /// What is counted, for people.
    pub fn about(&self) -> &[&'static About] {
        self.book.entries()
    }
}

/// What ingress counted, over all sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Events stored.
    pub received: u64,
    /// Known events that came again.
    pub duplicates: u64,
    /// Events answered 2xx and not stored, by a source's `drop`.
    pub dropped: u64,
    /// Of those stored: events that no target wants.
    pub unwanted: u64,
    /// Requests on a source's path that were not answered 2xx.
    pub refused: u64,
    /// Of those: requests that could not be kept in the list of refusals.
    pub refusals_lost: u64,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { received, duplicates, dropped, unwanted, refused, refusals_lost } = self;
        write!(
            f,
            "received {received} duplicates {duplicates} dropped {dropped} unwanted {unwanted} refused {refused} \
             refusals_lost {refusals_lost}"
        )
    }
}
