//! Hands the small counts of the last seconds to the store, where people see the last hour of all relays together. What
//! the store does not take is kept back for the next time; what is lost in a crash is a glance, not an event.

use std::time::Duration;

use tokio::time::timeout;
use tracing::debug;

use crate::clock::Timestamp;
use crate::store::ledger::StatsQuery;
use crate::store::{Store, StoreError};
use crate::telemetry::causes;
use crate::telemetry::meters::Meters;

/// How long the store may take, so that ticks go on.
const STORE_WAIT: Duration = Duration::from_secs(2);

/// Hands over what was counted since the last time. Nothing to hand over costs nothing.
pub async fn hand_over(store: &dyn Store, meters: &Meters, now: Timestamp) {
    let tallies = meters.take_tallies(now);
    if tallies.is_empty() {
        return;
    }
    let add = store.stats(StatsQuery::Add(tallies.clone()));
    let added = timeout(STORE_WAIT, add).await.map_err(|_elapsed| StoreError::Unavailable(None));
    if let Err(error) = added.and_then(|added| added) {
        // Whether it was added is not known then: better counted twice than not at all.
        debug!(error = causes(&error), tallies = tallies.len(), "upkeep.tallies_kept_back");
        meters.give_back(tallies);
    }
}
