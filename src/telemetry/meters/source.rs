//! What is counted of one source.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use super::family::{ByType, ByWord};
use super::pending::Pending;
use super::{Families, GaugeF64};
use crate::clock::Timestamp;
use crate::event::SourceName;
use crate::telemetry::tally::{Counted, Counter as Tallied, Tally};

/// The counts of one source, shared by all requests to it.
#[derive(Debug)]
pub struct SourceMeters {
    name: SourceName,
    families: Arc<Families>,
    received: ByType,
    duplicates: Counter,
    dropped: Counter,
    unwanted: Counter,
    refused: ByWord<Counter>,
    ingest: Histogram,
    /// Made only when an event has come: a source that was never heard of has no such series, so that nobody takes it for
    /// one that fell silent in 1970.
    last_received: OnceLock<GaugeF64>,
    pending: Pending,
}

impl SourceMeters {
    pub(super) fn new(name: &SourceName, families: &Arc<Families>) -> Self {
        let of = [name.as_str()];
        Self {
            name: name.clone(),
            families: families.clone(),
            received: ByType::default(),
            duplicates: families.duplicates.with(&of),
            dropped: families.dropped.with(&of),
            unwanted: families.unwanted.with(&of),
            refused: ByWord::default(),
            ingest: families.ingest.with(&of),
            last_received: OnceLock::new(),
            pending: Pending::default(),
        }
    }

    /// An event of this type was stored at `at`; its request had taken so long by then.
    pub fn received(&self, event_type: &str, at: Timestamp, took: Duration) {
        let make = |label| self.families.received.with(&[self.name.as_str(), label]);
        self.received.of(event_type, make).inc();
        self.pending.add(Tallied::Received, 1);
        self.ingest.observe(took.as_secs_f64());
        self.heard(at);
    }

    /// A known event came again.
    pub fn duplicate(&self, at: Timestamp, took: Duration) {
        self.duplicates.inc();
        self.pending.add(Tallied::Duplicates, 1);
        self.ingest.observe(took.as_secs_f64());
        self.heard(at);
    }

    /// An event was answered 2xx and not stored, as the source's `drop` wants it.
    pub fn dropped(&self, at: Timestamp) {
        self.dropped.inc();
        self.heard(at);
    }

    /// No target wants an event that was stored.
    pub fn unwanted(&self) {
        self.unwanted.inc();
    }

    /// A request was not answered 2xx.
    pub fn refused(&self, code: &'static str) {
        self.refused.of(code, |code| self.families.refused.with(&[self.name.as_str(), code])).inc();
        self.pending.add(Tallied::Refused, 1);
    }

    /// An event came at `at`.
    pub fn heard(&self, at: Timestamp) {
        let gauge =
            self.last_received.get_or_init(|| self.families.last_received.with(&[self.name.as_str()]));
        gauge.set(at.as_ms() as f64 / 1000.0);
    }

    pub(super) fn add_to(&self, totals: &mut super::Totals) {
        totals.received += self.received.sum();
        totals.duplicates += self.duplicates.get();
        totals.dropped += self.dropped.get();
        totals.unwanted += self.unwanted.get();
        totals.refused += self.refused.iter().map(Counter::get).sum::<u64>();
    }

    pub(super) fn take(&self, minute: Timestamp, tallies: &mut Vec<Tally>) {
        self.pending.take(minute, &Counted::Source(self.name.clone()), tallies);
    }
}
