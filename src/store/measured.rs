//! A store that tells the meters how long each call took and which failed. Stands around any adapter; changes nothing.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::Instant;

use super::ledger::{AuditEntry, AuditQuery, JobAnswer, JobQuery, Ledger, Refusal, RefusalQuery, StatsQuery};
use super::query::{
    DeliveryQuery, DeliveryView, Erase, Erased, EventLookup, EventMeta, EventQuery, EventRef, Mode, Overview,
    Page, Paged, Redrive, RedriveAction, Redriven,
};
use super::{
    ClaimWanted, Claimed, Control, Controlled, Ingested, Settle, Settled, Store, StoreError, Swept,
    TargetChange, TargetSpec, Ticked,
};
use crate::event::TargetName;
use crate::signature::Verified;
use crate::telemetry::meters::Meters;
use crate::telemetry::tally::Tally;

const UNAVAILABLE: &str = "unavailable";
const FULL: &str = "full";
const CORRUPT: &str = "corrupt";

/// The store inside, and where its calls are counted.
pub struct Measured {
    inner: Arc<dyn Store>,
    meters: Arc<Meters>,
}

impl Measured {
    /// Counts the calls of `inner` in `meters`.
    pub fn new(inner: Arc<dyn Store>, meters: Arc<Meters>) -> Self {
        for operation in ["ingest", "claim", "settle"] {
            for reason in [UNAVAILABLE, FULL, CORRUPT] {
                meters.expect_failures(operation, reason);
            }
        }
        Self { inner, meters }
    }

    async fn timed<T>(
        &self, operation: &'static str, call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let began = Instant::now();
        let answer = call.await;
        let failure = answer.as_ref().err().map(|error| match error {
            StoreError::Unavailable(_) => UNAVAILABLE,
            StoreError::Full => FULL,
            StoreError::Corrupt(_) => CORRUPT,
        });
        self.meters.store_call(operation, began.elapsed(), failure);
        answer
    }
}

#[async_trait]
impl Ledger for Measured {
    async fn refusals(&self, query: RefusalQuery) -> Result<Paged<Refusal>, StoreError> {
        self.timed("refusals", self.inner.refusals(query)).await
    }

    async fn audit(&self, query: AuditQuery) -> Result<Paged<AuditEntry>, StoreError> {
        self.timed("audit", self.inner.audit(query)).await
    }

    async fn jobs(&self, query: JobQuery) -> Result<JobAnswer, StoreError> {
        self.timed("jobs", self.inner.jobs(query)).await
    }

    async fn stats(&self, query: StatsQuery) -> Result<Vec<Tally>, StoreError> {
        self.timed("stats", self.inner.stats(query)).await
    }
}

#[async_trait]
impl Store for Measured {
    async fn declare(&self, targets: &[TargetSpec]) -> Result<Vec<TargetChange>, StoreError> {
        self.timed("declare", self.inner.declare(targets)).await
    }

    async fn ingest(&self, event: Verified) -> Result<Ingested, StoreError> {
        self.timed("ingest", self.inner.ingest(event)).await
    }

    async fn claim(&self, wanted: ClaimWanted) -> Result<Claimed, StoreError> {
        self.timed("claim", self.inner.claim(wanted)).await
    }

    async fn settle(&self, settle: Settle) -> Result<Settled, StoreError> {
        self.timed("settle", self.inner.settle(settle)).await
    }

    fn bell(&self) -> watch::Receiver<u64> {
        self.inner.bell()
    }

    async fn tick(&self) -> Result<Ticked, StoreError> {
        self.timed("tick", self.inner.tick()).await
    }

    async fn control(&self, target: &TargetName, control: Control) -> Result<Controlled, StoreError> {
        self.timed("control", self.inner.control(target, control)).await
    }

    async fn redrive(&self, redrive: Redrive) -> Result<Redriven, StoreError> {
        let (action, mode) = (redrive.action, redrive.mode);
        let redriven = self.timed("redrive", self.inner.redrive(redrive)).await?;
        if mode == Mode::Apply && redriven.moved > 0 {
            let action = match action {
                RedriveAction::Retry => "retry",
                RedriveAction::Replay => "replay",
                RedriveAction::Cancel => "cancel",
            };
            self.meters.redriven(action, redriven.moved);
        }
        Ok(redriven)
    }

    async fn events(&self, query: EventQuery, page: Page) -> Result<Paged<EventMeta>, StoreError> {
        self.timed("events", self.inner.events(query, page)).await
    }

    async fn event(&self, wanted: EventRef) -> Result<EventLookup, StoreError> {
        self.timed("event", self.inner.event(wanted)).await
    }

    async fn deliveries(&self, query: DeliveryQuery, page: Page) -> Result<Paged<DeliveryView>, StoreError> {
        self.timed("deliveries", self.inner.deliveries(query, page)).await
    }

    async fn overview(&self) -> Result<Overview, StoreError> {
        self.timed("overview", self.inner.overview()).await
    }

    async fn erase(&self, erase: Erase) -> Result<Erased, StoreError> {
        self.timed("erase", self.inner.erase(erase)).await
    }

    async fn sweep(&self, max: u32) -> Result<Swept, StoreError> {
        self.timed("sweep", self.inner.sweep(max)).await
    }
}
