//! What is known of events at some targets at one moment: their records, and what is in flight without one.

use std::collections::HashMap;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::event::{EventId, TargetName};
use crate::store::StoreError;

use super::audit;
use super::core::Core;
use super::record::Record;

/// The targets, in the order in which their rows come, and what is pending in their groups.
#[derive(Debug)]
pub struct Look {
    names: Vec<TargetName>,
    /// Since when, in ms; for each target.
    pending: Vec<HashMap<EventId, u64>>,
    now: Timestamp,
}

impl Look {
    /// For these targets.
    ///
    /// # Errors
    /// Where Redis cannot be reached.
    pub async fn new(core: &Core, names: Vec<TargetName>) -> Result<Self, StoreError> {
        let mut pending = Vec::with_capacity(names.len());
        for name in &names {
            pending.push(audit::pending(core, name, None).await?.into_iter().collect());
        }
        Ok(Self { names, pending, now: core.clock.now() })
    }

    /// The targets.
    pub fn names(&self) -> &[TargetName] {
        &self.names
    }

    /// What is in flight from the log to any of the targets.
    pub fn pending(&self) -> impl Iterator<Item = EventId> {
        self.pending.iter().flat_map(|pending| pending.keys().copied())
    }

    /// The records of these events for each target, in the order of the targets; what is in flight from the log gets one.
    ///
    /// # Errors
    /// Where Redis cannot be reached.
    pub async fn records(
        &self, core: &Core, ids: &[EventId],
    ) -> Result<Vec<Vec<Option<Record>>>, StoreError> {
        let mut all = audit::records_of(core, &self.names, ids).await?;
        for (records, pending) in all.iter_mut().zip(&self.pending) {
            if pending.is_empty() {
                continue;
            }
            for (id, record) in ids.iter().zip(records) {
                if let Some(idle_ms) = pending.get(id) {
                    *record = Some(Record::in_flight(self.now.minus(Duration::from_millis(*idle_ms))));
                }
            }
        }
        Ok(all)
    }
}
