//! Whether this Redis keeps what it answers, held true at run time too: a server that was restarted or replaced with other
//! settings is noticed before the next event is answered, and a change by hand within a minute. Until it is good again,
//! events are answered 503.

use std::sync::{Mutex, PoisonError};

use tracing::{error, info};

use crate::config::DurabilityWanted;
use crate::store::StoreError;
use crate::store::query::Durability;
use crate::telemetry::causes;

use super::core::Core;
use super::durability::{self, CheckError};
use super::link::Lane;

/// Beats between two checks that nothing else gives a reason for: once a minute.
const BEATS_A_CHECK: u32 = 12;

/// What was last found, and over which connection.
#[derive(Debug)]
pub struct Assurance {
    wanted: DurabilityWanted,
    found: Mutex<Found>,
}

#[derive(Debug, Clone, Copy)]
struct Found {
    durability: Durability,
    /// The ingest connection that it holds for; `None`: for none.
    connection: Option<u64>,
    beats_left: u32,
}

impl Assurance {
    /// Nothing is assured yet.
    pub fn new(wanted: DurabilityWanted) -> Self {
        let found = Found { durability: Durability::Relaxed, connection: None, beats_left: BEATS_A_CHECK };
        Self { wanted, found: Mutex::new(found) }
    }

    /// What was last found.
    pub fn durability(&self) -> Durability {
        self.with(|found| found.durability)
    }

    /// Asks the server.
    ///
    /// # Errors
    /// Where it cannot be asked or must not be used.
    pub async fn check(&self, core: &Core) -> Result<(), CheckError> {
        let connection = core.link.connections(Lane::Ingest);
        let checked = durability::check(&core.link, self.wanted).await;
        self.with(|found| {
            found.beats_left = BEATS_A_CHECK;
            match &checked {
                Ok(checked) => {
                    found.durability = checked.durability;
                    found.connection = Some(connection);
                }
                // Whether it is good is not known: the next event asks again.
                Err(_) => found.connection = None,
            }
        });
        checked.map(drop)
    }

    /// Whether what was just written over the ingest connection may be answered.
    ///
    /// # Errors
    /// Where the server must not be used any more, or that cannot be told.
    pub async fn vouch(&self, core: &Core) -> Result<(), StoreError> {
        let connection = core.link.connections(Lane::Ingest);
        if self.with(|found| found.connection == Some(connection)) {
            return Ok(());
        }
        match self.check(core).await {
            Ok(()) => {
                info!(durability = self.durability().as_str(), "store.checked: Redis was connected to anew");
                Ok(())
            }
            Err(error) => {
                error!(
                    error = causes(&error),
                    "store.not_durable: events are answered 503 until this is cured"
                );
                Err(StoreError::Unavailable(Some(Box::new(error))))
            }
        }
    }

    /// One beat nearer to the next check; checks where it is due.
    pub async fn beat(&self, core: &Core) {
        let is_due = self.with(|found| {
            found.beats_left = found.beats_left.saturating_sub(1);
            found.beats_left == 0
        });
        if is_due && let Err(error) = self.check(core).await {
            error!(error = causes(&error), "store.not_durable: events are answered 503 until this is cured");
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut Found) -> T) -> T {
        change(&mut self.found.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
