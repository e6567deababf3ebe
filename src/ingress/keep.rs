//! Keeps a verified event and tells what became of it. A known event that comes again long after it was stored was
//! replayed by hand in Clerk's dashboard: then `on_replay` says what its targets get.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::answer::{Accepted, Refused, Repeated};
use crate::config::OnReplay;
use crate::event::{Event, EventId};
use crate::lifecycle::State;
use crate::signature::Verified;
use crate::store::query::{DeliveryQuery, Mode, Redrive, RedriveAction};
use crate::store::{Duplicate, Ingested, Likeness, Store, StoreError};

/// A known id that comes later than this is taken for a replay by hand: Svix' own quick retries come at 5 s and 5 min,
/// and the later ones only where we had not answered 2xx.
const REPLAY_AGE: Duration = Duration::from_secs(10 * 60);
/// Deliveries re-armed in one step: more targets than any configuration has.
const REDRIVE_MAX: u32 = 500;

/// Stores the event by `deadline`.
///
/// # Errors
/// [`Refused::Store`] and [`Refused::StoreSlow`]. The event may still have been stored: then the sender's next try is a
/// duplicate.
pub(super) async fn keep(
    store: &dyn Store, verified: Verified, on_replay: OnReplay, deadline: Instant,
) -> Result<Accepted, Refused> {
    let event = verified.event().clone(); // a few counted references
    match within(deadline, store.ingest(verified)).await? {
        Ingested::New(id) => Ok(Accepted::stored(id, event)),
        Ingested::Duplicate(known) => {
            if known.body == Likeness::Different {
                warn_of_another_body(&known, &event);
            }
            let rearmed = match replay(&known, on_replay) {
                Some(action) => Some(within(deadline, rearm(store, known.id, action)).await?),
                None => None,
            };
            Ok(Accepted::duplicate(event, Repeated { id: known.id, rearmed }))
        }
    }
}

async fn within<T>(
    deadline: Instant, work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, Refused> {
    timeout_at(deadline, work).await.map_err(|_elapsed| Refused::StoreSlow)?.map_err(Refused::Store)
}

/// What a replay asks for, where this is one. Another secret means a second endpoint on the same address, as during a
/// rotation: that is no replay.
fn replay(known: &Duplicate, on_replay: OnReplay) -> Option<RedriveAction> {
    if known.age <= REPLAY_AGE || known.secret == Likeness::Different {
        return None;
    }
    match on_replay {
        OnReplay::RetryDead => Some(RedriveAction::Retry),
        OnReplay::Redeliver => Some(RedriveAction::Replay),
        OnReplay::Ignore => None,
    }
}

/// Makes the event due again and returns for how many targets.
async fn rearm(store: &dyn Store, id: EventId, action: RedriveAction) -> Result<u64, StoreError> {
    let states = match action {
        RedriveAction::Retry => vec![State::Dead],
        RedriveAction::Replay | RedriveAction::Cancel => Vec::new(),
    };
    let query = DeliveryQuery { states, ..DeliveryQuery::default() };
    let mut step = Redrive {
        event: Some(id),
        query,
        action,
        mode: Mode::Apply,
        as_of: None,
        spread: Duration::ZERO,
        max: REDRIVE_MAX,
        after: None,
    };
    let mut rearmed = 0;
    loop {
        let done = store.redrive(step.clone()).await?;
        rearmed += done.moved;
        match done.next {
            Some(next) => step.after = Some(next),
            None => return Ok(rearmed),
        }
    }
}

fn warn_of_another_body(known: &Duplicate, event: &Event) {
    tracing::warn!(
        event_id = %known.id,
        source = event.source.as_str(),
        svix_id = &*event.svix_id,
        "type" = &*event.event_type,
        bytes = event.body.len(),
        "event.duplicate_differs"
    );
}
