//! What can go wrong inside the SQLite store, and which of the port's errors it is to the outside.

use std::sync::Arc;

use rusqlite::ErrorCode::{DatabaseCorrupt, DiskFull, NotADatabase};

use crate::lifecycle::{Cause, State};
use crate::store::StoreError;

/// A failure of one operation or of a whole transaction.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// SQLite said so.
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    /// A column holds what no release of ours wrote.
    #[error("the column {0} holds an unknown value")]
    Unreadable(&'static str),
    /// A delivery was asked to go where no arrow leads.
    #[error("no arrow leaves {from:?} by {cause:?}")]
    NoArrow {
        /// Where it is.
        from: Option<State>,
        /// What should have moved it.
        cause: Cause,
    },
    /// The whole transaction failed, for everyone in it.
    #[error(transparent)]
    Shared(#[from] Arc<Self>),
    /// Our own fault.
    #[error("an operation of the store panicked")]
    Panicked,
}

impl Fault {
    /// What the port's callers are told.
    pub fn into_store_error(self) -> StoreError {
        match self.kind() {
            Kind::Full => StoreError::Full,
            Kind::Corrupt => StoreError::Corrupt(Some(Box::new(self))),
            Kind::Unavailable => StoreError::Unavailable(Some(Box::new(self))),
        }
    }

    /// Whether there was no space left.
    pub fn is_full(&self) -> bool {
        matches!(self.kind(), Kind::Full)
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Sql(error) => match error.sqlite_error_code() {
                Some(DiskFull) => Kind::Full,
                Some(DatabaseCorrupt | NotADatabase) => Kind::Corrupt,
                Some(_) | None => Kind::Unavailable,
            },
            Self::Unreadable(_) | Self::NoArrow { .. } => Kind::Corrupt,
            Self::Shared(fault) => fault.kind(),
            Self::Panicked => Kind::Unavailable,
        }
    }
}

enum Kind {
    Full,
    Corrupt,
    Unavailable,
}
