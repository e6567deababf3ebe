//! The ledger in SQLite: refusals, audit, jobs and tallies, each in a table and a file of its own.

use async_trait::async_trait;

use crate::store::StoreError;
use crate::store::ledger::{
    AuditEntry, AuditQuery, JobAnswer, JobQuery, Ledger, Refusal, RefusalQuery, StatsQuery,
};
use crate::store::query::Paged;
use crate::telemetry::tally::Tally;

use super::{SMALL_BYTES, SqliteStore, capped, jobs, tallies};

impl SqliteStore {
    async fn append<C: capped::Capped + Send + 'static>(&self, rows: Vec<C>) -> Result<Paged<C>, StoreError> {
        self.writer.call(SMALL_BYTES, move |tx| capped::append(tx, &rows)).await?;
        Ok(Paged { rows: Vec::new(), next: None })
    }
}

#[async_trait]
impl Ledger for SqliteStore {
    async fn refusals(&self, query: RefusalQuery) -> Result<Paged<Refusal>, StoreError> {
        match query {
            RefusalQuery::Append(refusals) => self.append(refusals).await,
            RefusalQuery::List(page) => self.readers.read(move |conn| capped::list(conn, &page)).await,
        }
    }

    async fn audit(&self, query: AuditQuery) -> Result<Paged<AuditEntry>, StoreError> {
        match query {
            AuditQuery::Append(entry) => self.append(vec![entry]).await,
            AuditQuery::List(page) => self.readers.read(move |conn| capped::list(conn, &page)).await,
        }
    }

    async fn jobs(&self, query: JobQuery) -> Result<JobAnswer, StoreError> {
        match query {
            JobQuery::Create(spec) => self.writer.call(SMALL_BYTES, move |tx| jobs::create(tx, &spec)).await,
            JobQuery::Put(job) => self.writer.call(SMALL_BYTES, move |tx| jobs::put(tx, &job)).await,
            JobQuery::List => {
                let now = self.clock.now();
                self.readers.read(move |conn| jobs::list(conn, now)).await
            }
        }
    }

    async fn stats(&self, query: StatsQuery) -> Result<Vec<Tally>, StoreError> {
        match query {
            StatsQuery::Add(tallies) => {
                self.writer.call(SMALL_BYTES, move |tx| tallies::add(tx, &tallies)).await?;
                Ok(Vec::new())
            }
            StatsQuery::Since(since) => {
                let now = self.clock.now();
                self.readers.read(move |conn| tallies::since(conn, since, now)).await
            }
        }
    }
}
