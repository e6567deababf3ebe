//! What the metrics of a relay begin with when it starts: zeros for what may come, and what the store still knows.

use std::time::Duration;

use tokio::time::timeout;

use crate::clock::Timestamp;
use crate::config::Config;
use crate::lifecycle::DeadReason;
use crate::lifecycle::attempt::ErrorClass;
use crate::store::Store;
use crate::store::query::{EventQuery, Page};
use crate::telemetry::Telemetry;

/// How long the store may take to tell when a source was last heard of.
const STORE_WAIT: Duration = Duration::from_secs(2);

/// Zeros for what may come; and when each source was last heard of, so that a restart does not hide a silence: where the
/// store does not tell, that begins with the next event.
pub(super) async fn recall(config: &Config, store: &dyn Store, telemetry: &Telemetry) {
    for source in &config.sources {
        let query = EventQuery { source: Some(source.name.clone()), ..EventQuery::default() };
        let meters = telemetry.meters.source(&source.name);
        if let Ok(Ok(page)) = timeout(STORE_WAIT, store.events(query, Page::first(1))).await
            && let Some(newest) = page.rows.first()
        {
            meters.heard(Timestamp::from_ms(i64::try_from(newest.id.ms).unwrap_or(i64::MAX)));
        }
    }
    let (errors, reasons) =
        (ErrorClass::ALL.map(ErrorClass::as_str), DeadReason::ALL.map(DeadReason::as_str));
    for target in &config.targets {
        telemetry.meters.target(&target.name).expect(&errors, &reasons);
    }
}
