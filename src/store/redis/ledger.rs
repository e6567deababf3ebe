//! The ledger in Redis: refusals, audit, jobs and tallies.

use async_trait::async_trait;

use crate::store::StoreError;
use crate::store::ledger::{
    AuditEntry, AuditQuery, JobAnswer, JobQuery, Ledger, Refusal, RefusalQuery, StatsQuery,
};
use crate::store::query::Paged;
use crate::telemetry::tally::Tally;

use super::{RedisStore, refusals};

#[async_trait]
impl Ledger for RedisStore {
    async fn refusals(&self, query: RefusalQuery) -> Result<Paged<Refusal>, StoreError> {
        match query {
            RefusalQuery::Append(refusals) => {
                refusals::append(&self.core, &refusals).await?;
                Ok(Paged { rows: Vec::new(), next: None })
            }
            RefusalQuery::List(page) => refusals::list(&self.core, &page).await,
        }
    }

    async fn audit(&self, _: AuditQuery) -> Result<Paged<AuditEntry>, StoreError> {
        Err(StoreError::Unavailable(None))
    }

    async fn jobs(&self, _: JobQuery) -> Result<JobAnswer, StoreError> {
        Err(StoreError::Unavailable(None))
    }

    async fn stats(&self, _: StatsQuery) -> Result<Vec<Tally>, StoreError> {
        Err(StoreError::Unavailable(None))
    }
}
