//! The JSON of the admin API: the port's answers with their names and units, each described for the OpenAPI document.
//! Times are RFC 3339 in UTC. A payload is only in [`event`], redacted unless it was asked for otherwise.

pub mod delivery;
pub mod event;
pub mod health;
pub mod job;
pub mod ledger;
pub mod target;

use serde::{Serialize, Serializer};
use utoipa::openapi::schema::{ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{KnownFormat, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::clock::Timestamp;
use crate::lifecycle::State;
use crate::lifecycle::attempt::ErrorClass;
use crate::lifecycle::hint::Hint;
use crate::store::job::{JobAction, JobState};
use crate::store::query::{Durability, Paged};

/// One page of a list.
#[derive(Serialize, ToSchema)]
pub struct PageJson<T> {
    rows: Vec<T>,
    /// Give it back as `cursor` for the next page; null behind the last one.
    #[schema(required)]
    next: Option<String>,
}

impl<T> PageJson<T> {
    /// The page with its rows as JSON.
    pub fn of<R>(page: Paged<R>, row: impl Fn(R) -> T) -> Self {
        Self {
            next: page.next.map(|cursor| cursor.to_string()),
            rows: page.rows.into_iter().map(row).collect(),
        }
    }
}

/// An instant as RFC 3339 text in UTC with milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Timestamp);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl PartialSchema for Time {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .into()
    }
}

impl ToSchema for Time {}

/// Makes `$name` one of our words as JSON text; in the document an enum of all of them.
macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $of:ty, $all:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name(pub $of);

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.0.as_str())
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let words = $all.map(<$of>::as_str);
                ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).into()
            }
        }

        impl ToSchema for $name {}
    };
}

word!(
    /// A delivery's state.
    StateWord, State, State::ALL
);
word!(
    /// What kept an attempt from success.
    ErrorWord, ErrorClass, ErrorClass::ALL
);
word!(
    /// What a failed attempt looks like.
    HintWord, Hint, Hint::ALL
);
word!(
    /// What a job does.
    ActionWord, JobAction, [JobAction::Retry, JobAction::Replay, JobAction::Discard, JobAction::Erase]
);
word!(
    /// Where a job is.
    JobStateWord, JobState, [JobState::Running, JobState::Done, JobState::Cancelled]
);
word!(
    /// How sure it is that an answered event survives.
    DurabilityWord, Durability, Durability::ALL
);
