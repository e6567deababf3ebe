//! The ledger: what a relay writes down for people beside the deliveries themselves. Refused requests, what operators
//! did, the jobs they started, and how much went through in the last minutes. Every list is capped; all relays of a
//! store share one ledger.

use async_trait::async_trait;

use super::StoreError;
use super::job::{Job, JobSpec};
use super::query::{Page, Paged};
use crate::clock::Timestamp;
use crate::event::SourceName;
use crate::telemetry::tally::Tally;

/// Refusals kept, the newest.
pub const REFUSALS_KEPT: usize = 1_000;
/// Audit entries kept, the newest.
pub const AUDIT_KEPT: usize = 10_000;
/// Jobs that may be unfinished at one time.
pub const JOBS_UNFINISHED_MAX: usize = 16;
/// Jobs kept, unfinished ones included; of more, those that ended longest ago are dropped.
pub const JOBS_KEPT: usize = 200;
/// Minutes for which tallies are kept.
pub const TALLY_MINUTES_KEPT: u32 = 120;
/// Characters kept of each text of a refusal or an audit entry: some of it comes from whoever can reach us.
pub const TEXT_MAX: usize = 500;

/// The part of `text` that is kept.
pub fn cut(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

/// A request that ingress did not accept. Holds no body and no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// When.
    pub at: Timestamp,
    /// The source, where the path named one.
    pub source: Option<SourceName>,
    /// The answer's status.
    pub status: u16,
    /// The answer's code, such as `invalid_signature`.
    pub code: String,
    /// The likely cause, in words for a person.
    pub cause: String,
    /// The sender's address.
    pub remote: Option<String>,
    /// The id it carried, not believed.
    pub svix_id: Option<String>,
    /// The start of its `User-Agent`.
    pub user_agent: Option<String>,
    /// How much of a body came.
    pub body_bytes: u64,
}

/// The two uses of the refusal list.
#[derive(Debug, Clone)]
pub enum RefusalQuery {
    /// Keep these, oldest first; lists nothing.
    Append(Vec<Refusal>),
    /// List, newest first.
    List(Page),
}

/// What somebody did through the admin API: writes, reveals and erasures. Holds no payload and no secret; of each text
/// [`TEXT_MAX`] characters are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// The token's name, or `local` where there are no tokens.
    pub actor: String,
    /// What, such as `delivery.retried`, `payload.revealed`, `target.paused`.
    pub action: String,
    /// Upon what: an event's id, a target's name, a job's number, a subject.
    pub object: String,
    /// What it changed, in words for a person; may be empty.
    pub detail: String,
}

/// The two uses of the audit.
#[derive(Debug, Clone)]
pub enum AuditQuery {
    /// Keep this entry; lists nothing.
    Append(AuditEntry),
    /// List, newest first; cursors are [`super::query::Cursor::Number`].
    List(Page),
}

/// What is asked of the list of jobs.
#[derive(Debug, Clone)]
pub enum JobQuery {
    /// Start one, unless an unfinished one does the same or too many are unfinished.
    Create(JobSpec),
    /// Replace the job of this id, where its revision is still the one given; the stored one has the next revision and
    /// says when. What was put already by a call whose answer was lost is done, not lost.
    Put(Job),
    /// All that are kept, newest first.
    List,
}

/// What became of a [`JobQuery`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobVerdict {
    /// Done as asked.
    Done,
    /// Not created: the job that is returned is unfinished and does the same ([`JobSpec::is_twin`]).
    Twin,
    /// Not created: [`JOBS_UNFINISHED_MAX`] are unfinished.
    Full,
    /// Not put: somebody else has changed it since, or it is gone.
    Lost,
}

/// The answer to a [`JobQuery`].
#[derive(Debug, Clone)]
pub struct JobAnswer {
    /// The present by the store's clock.
    pub now: Timestamp,
    /// What became of it.
    pub verdict: JobVerdict,
    /// `Create`: the new job, or its twin. `Put`: the job as it is now stored, where it is. `List`: all.
    pub jobs: Vec<Job>,
}

/// The two uses of the tallies.
#[derive(Debug, Clone)]
pub enum StatsQuery {
    /// Add to what other relays and earlier calls added; lists nothing. A repetition after an error may count twice.
    Add(Vec<Tally>),
    /// The sums of every minute that began at or after this.
    Since(Timestamp),
}

/// What a store keeps for people. Every method may be called again after an error.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// Appends refusals (the newest are kept, up to a cap) and lists them, newest first.
    async fn refusals(&self, query: RefusalQuery) -> Result<Paged<Refusal>, StoreError>;

    /// Appends to the audit (the newest [`AUDIT_KEPT`] are kept) and lists it, newest first. An entry that is appended
    /// again because the answer was lost may stand there twice.
    async fn audit(&self, query: AuditQuery) -> Result<Paged<AuditEntry>, StoreError>;

    /// Creates, changes and lists jobs, each call in one atomic step.
    async fn jobs(&self, query: JobQuery) -> Result<JobAnswer, StoreError>;

    /// Adds up what went through, minute by minute, and tells it; of [`TALLY_MINUTES_KEPT`] minutes, in no order.
    async fn stats(&self, query: StatsQuery) -> Result<Vec<Tally>, StoreError>;
}
