//! The ledger in Redis: refusals, audit, jobs and tallies, each in a file of its own.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::store::StoreError;
use crate::store::ledger::{
    AUDIT_KEPT, AuditEntry, AuditQuery, JobAnswer, JobQuery, Ledger, Refusal, RefusalQuery, StatsQuery, cut,
};
use crate::store::query::Paged;
use crate::telemetry::tally::Tally;

use super::capped::{self, Capped};
use super::keys::Keys;
use super::{RedisStore, jobs, tallies};

/// An audit entry as it is kept.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeptEntry {
    at: i64,
    actor: String,
    action: String,
    object: String,
    detail: String,
}

impl Capped for AuditEntry {
    type Kept = KeptEntry;
    const COUNTER: &'static str = "audit";
    const KEPT: usize = AUDIT_KEPT;

    fn key(keys: &Keys) -> Vec<u8> {
        keys.audit()
    }

    fn keep(&self) -> KeptEntry {
        KeptEntry {
            at: self.at.as_ms(),
            actor: cut(&self.actor),
            action: cut(&self.action),
            object: cut(&self.object),
            detail: cut(&self.detail),
        }
    }

    fn read(kept: KeptEntry) -> Self {
        let KeptEntry { at, actor, action, object, detail } = kept;
        Self { at: Timestamp::from_ms(at), actor, action, object, detail }
    }
}

impl RedisStore {
    async fn append<C: Capped + Sync>(&self, entries: &[C]) -> Result<Paged<C>, StoreError> {
        capped::append(&self.core, entries).await?;
        Ok(Paged { rows: Vec::new(), next: None })
    }
}

#[async_trait]
impl Ledger for RedisStore {
    async fn refusals(&self, query: RefusalQuery) -> Result<Paged<Refusal>, StoreError> {
        match query {
            RefusalQuery::Append(refusals) => self.append(&refusals).await,
            RefusalQuery::List(page) => capped::list(&self.core, &page).await,
        }
    }

    async fn audit(&self, query: AuditQuery) -> Result<Paged<AuditEntry>, StoreError> {
        match query {
            AuditQuery::Append(entry) => self.append(&[entry]).await,
            AuditQuery::List(page) => capped::list(&self.core, &page).await,
        }
    }

    async fn jobs(&self, query: JobQuery) -> Result<JobAnswer, StoreError> {
        match query {
            JobQuery::Create(spec) => jobs::create(&self.core, spec).await,
            JobQuery::Put(job) => jobs::put(&self.core, job).await,
            JobQuery::List => jobs::list(&self.core).await,
        }
    }

    async fn stats(&self, query: StatsQuery) -> Result<Vec<Tally>, StoreError> {
        match query {
            StatsQuery::Add(tallies) => {
                tallies::add(&self.core, &tallies).await?;
                Ok(Vec::new())
            }
            StatsQuery::Since(since) => tallies::since(&self.core, since).await,
        }
    }
}
