//! A job: a retry, replay, discard or erasure of many deliveries, started by an operator and done step by step. It is kept
//! in the store, so that a restart or another relay goes on with it. Plain data and pure rules; who does the steps is not
//! known here. In the folder beside this file: which jobs a store takes, and what flows do with them.

pub mod admission;
pub mod asking;

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::query::{DeliveryQuery, Mode};
use crate::clock::Timestamp;

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobAction {
    /// Retries dead and waiting deliveries.
    Retry,
    /// Delivers ended ones again and, to one target by name, events from before it began.
    Replay,
    /// Cancels unfinished and dead ones.
    Discard,
    /// Erases what is kept of a subject.
    Erase,
}

impl JobAction {
    /// The word for it in JSON and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Replay => "replay",
            Self::Discard => "discard",
            Self::Erase => "erase",
        }
    }
}

/// What an operator asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// What to do.
    pub action: JobAction,
    /// With which deliveries; [`JobAction::Erase`] only looks at the subject.
    pub query: DeliveryQuery,
    /// Whether anything is changed, or only counted.
    pub mode: Mode,
    /// Deliveries a second; without it as fast as the store takes them.
    pub per_second: Option<NonZeroU32>,
    /// The name of the token that asked.
    pub by: String,
}

impl JobSpec {
    /// Whether both do the same to the same: then the second is a button pressed twice.
    pub fn is_twin(&self, other: &Self) -> bool {
        self.action == other.action && self.query == other.query && self.mode == other.mode
    }
}

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Under way, or waiting for a relay that goes on with it.
    Running,
    /// At its end.
    Done,
    /// Stopped by an operator; what was done until then stays done.
    Cancelled,
}

impl JobState {
    /// The word for it in JSON and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Which relay does the next step, and until when nobody else may.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// A word that no other relay has, made at its start.
    pub relay: String,
    /// By the store's clock.
    pub until: Timestamp,
}

/// A job as it is kept. Readers ignore fields that they do not know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Its number, made by the store, growing.
    pub id: u64,
    /// How often it was changed.
    pub revision: u64,
    /// What was asked for.
    pub spec: JobSpec,
    /// Where it is.
    pub state: JobState,
    /// When it was started, by the store's clock. It touches nothing that changed later.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Deliveries (of an erasure: events) changed or counted so far. A step whose relay died before it wrote this down is
    /// not in it.
    pub moved: u64,
    /// The cursor to go on from, as text.
    pub after: Option<String>,
    /// Of an erasure: deliveries that were in flight in this pass; once it is through, another pass looks for them.
    #[serde(default)]
    pub in_flight: u64,
    /// Of an erasure: passes that are through.
    #[serde(default)]
    pub passes: u32,
    /// No step before this.
    pub due_at: Timestamp,
    /// Who has it.
    pub hold: Option<Hold>,
}

impl Job {
    /// A job at its start. Its first step is not made in the millisecond of its creation, so that whatever it changes has
    /// changed later than that, and is left alone where a step is repeated.
    pub fn new(id: u64, spec: JobSpec, now: Timestamp) -> Self {
        Self {
            id,
            revision: 0,
            spec,
            state: JobState::Running,
            created_at: now,
            updated_at: now,
            moved: 0,
            after: None,
            in_flight: 0,
            passes: 0,
            due_at: now.plus(Duration::from_millis(1)),
            hold: None,
        }
    }

    /// Until when `relay` has to wait for its next step, where it has one.
    pub fn free_at(&self, relay: &str) -> Option<Timestamp> {
        let held_until = self.hold.as_ref().filter(|hold| hold.relay != relay).map(|hold| hold.until);
        match self.state {
            JobState::Running => Some(held_until.map_or(self.due_at, |until| until.max(self.due_at))),
            JobState::Done | JobState::Cancelled => None,
        }
    }

    /// Whether `relay` may do its next step at `now`.
    pub fn is_free_for(&self, relay: &str, now: Timestamp) -> bool {
        self.free_at(relay).is_some_and(|free_at| free_at <= now)
    }

    /// Whether this is what putting `put` made: then its answer was lost, and nothing else has happened since.
    pub fn came_of(&self, put: &Self) -> bool {
        put.revision.checked_add(1) == Some(self.revision)
            && *self == Self { revision: self.revision, updated_at: self.updated_at, ..put.clone() }
    }

    /// The job, taken by `relay` for its next step.
    pub fn taken(mut self, relay: &str, now: Timestamp, hold: Duration) -> Self {
        self.hold = Some(Hold { relay: relay.to_owned(), until: now.plus(hold) });
        self.updated_at = now;
        self
    }
}
