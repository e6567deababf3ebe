//! What relays tell live, carried to those who listen at other relays of the same store. Costs nothing while nobody listens:
//! a relay subscribes only while somebody listens to it, and publishes only while somebody listens elsewhere, which it
//! learns from a count that the look of every second brings along. Nothing is kept: what is lost on the way stays lost.
//!
//! Whoever listens adds to the count every few seconds; a count that has grown by more than one's own additions is somebody
//! else's. (`PUBSUB NUMSUB` would not do: a node of a cluster only knows its own subscribers.)

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::backoff::delay;
use crate::store::settling::STORE_RETRY;
use crate::telemetry::causes;
use crate::telemetry::feed::{Feed, News, Origin};

use super::core::Core;
use super::link::{Lane, LinkError};

/// How often a listening relay says so.
const SAY_EVERY: Duration = Duration::from_secs(3);
/// How long one word of a listener counts: two more of them may be lost.
const HEARD_FOR: Duration = Duration::from_secs(10);
/// What is told is gathered for this long, so that a busy relay publishes ten times a second, not ten thousand times.
const GATHER: Duration = Duration::from_millis(100);
/// News of one batch, some 100 KB. What is told faster than that is lost, oldest first: a person reads no 5,000 lines a
/// second, and the server has events to keep.
const BATCH_MAX: usize = 500;

/// Whether anybody listens elsewhere.
pub struct Audience {
    /// What this relay has added to the count of all.
    own: AtomicU64,
    /// Nobody has been heard of since this; the other end is [`tell`]'s.
    until: watch::Sender<Option<Instant>>,
}

impl Default for Audience {
    fn default() -> Self {
        Self { own: AtomicU64::new(0), until: watch::Sender::new(None) }
    }
}

impl Audience {
    /// How often others said that they listen, where this is what all said so far.
    pub fn others(&self, all: u64) -> u64 {
        all.saturating_sub(self.own.load(Ordering::Relaxed))
    }

    /// Others have said so once more.
    pub fn heard(&self) {
        self.until.send_replace(Some(Instant::now() + HEARD_FOR));
    }
}

/// A batch as it is published. Readers ignore fields that they do not know.
#[derive(Debug, Serialize, Deserialize)]
struct Batch<N> {
    /// The lease of the relay that tells it.
    relay: u32,
    news: Vec<N>,
}

/// While somebody listens here: says so, and passes on what other relays tell; until told to stop.
pub async fn hear(core: Arc<Core>, feed: Feed, stop: CancellationToken) {
    let mut listeners = feed.listeners();
    let mut failures = 0;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            // The feed is here, so its end cannot come first.
            _ = listeners.wait_for(|count| *count > 0) => {}
        }
        let heard = tokio::select! {
            () = stop.cancelled() => return,
            _ = async { listeners.wait_for(|count| *count == 0).await.map(|_| ()) } => {
                failures = 0;
                continue;
            }
            ended = hear_on(&core, &feed, &mut failures) => match ended {
                Ok(never) => match never {},
                Err(error) => error,
            },
        };
        failures += 1;
        debug!(error = causes(&heard), "store.news_silent: what other relays tell is not heard for a moment");
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(delay(&STORE_RETRY, failures)) => {}
        }
    }
}

/// Until the subscription ends.
async fn hear_on(core: &Core, feed: &Feed, failures: &mut u32) -> Result<Infallible, LinkError> {
    let mut subscription = core.link.subscribe(&core.keys.news()).await?;
    *failures = 0;
    let mut say = tokio::time::interval(SAY_EVERY);
    say.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = say.tick() => say_so(core).await?,
            batch = subscription.next() => {
                // What cannot be read is of another release.
                let Ok(batch) = serde_json::from_slice::<Batch<News>>(&batch?) else { continue };
                if batch.relay != core.lease() {
                    batch.news.into_iter().for_each(|news| feed.pass_on(news));
                }
            }
        }
    }
}

async fn say_so(core: &Core) -> Result<(), LinkError> {
    let mut command = redis::cmd("HINCRBY");
    command.arg(core.keys.meta()).arg("listened").arg(1);
    core.link.command(Lane::Admin, &command).await?;
    // One that was done although it failed is taken for somebody else's: then some seconds are told to nobody.
    core.audience.own.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

/// While somebody listens elsewhere: publishes what this relay tells, gathered in batches; until told to stop.
pub async fn tell(core: Arc<Core>, feed: Feed, stop: CancellationToken) {
    let mut until = core.audience.until.subscribe();
    loop {
        let is_heard = |until: &Option<Instant>| until.is_some_and(|until| until > Instant::now());
        tokio::select! {
            () = stop.cancelled() => return,
            _ = until.wait_for(is_heard) => {}
        }
        let mut bridge = feed.bridge();
        let mut gather = tokio::time::interval(GATHER);
        gather.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while is_heard(&until.borrow()) {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = gather.tick() => {}
            }
            let news = gathered(&mut bridge);
            if !news.is_empty()
                && let Err(error) = publish(&core, news).await
            {
                debug!(
                    error = causes(&error),
                    "store.news_lost: what this relay told was not heard elsewhere"
                );
            }
        }
    }
}

/// What was told here and is waiting, up to a batch.
fn gathered(bridge: &mut broadcast::Receiver<(Origin, Arc<News>)>) -> Vec<Arc<News>> {
    let mut news = Vec::new();
    while news.len() < BATCH_MAX {
        match bridge.try_recv() {
            Ok((Origin::Here, one)) => news.push(one),
            Ok((Origin::Elsewhere, _)) | Err(broadcast::error::TryRecvError::Lagged(_)) => {}
            Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => break,
        }
    }
    news
}

async fn publish(core: &Core, news: Vec<Arc<News>>) -> Result<(), LinkError> {
    let batch = Batch { relay: core.lease(), news: news.iter().map(|one| &**one).collect() };
    let text = serde_json::to_vec(&batch).expect("text and numbers always serialize into memory");
    let mut command = redis::cmd("PUBLISH");
    command.arg(core.keys.news()).arg(text);
    core.link.command(Lane::Admin, &command).await?;
    Ok(())
}
