//! Would an event that comes now be kept, and safely; and if not, why? One judge for every listener that is asked. It
//! looks at the store at most once a second, however often it is asked, and remembers when an event last could not be
//! stored: reading may work while the disk is full.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::Store;
use super::query::{Durability, Overview};
use crate::clock::Timestamp;

/// How long an answer of the store is good for.
const FRESH: Duration = Duration::from_secs(1);
/// How long a write that failed counts. It passes, so that a relay from which a load balancer turned away is tried again.
const FAILURE_COUNTS: Duration = Duration::from_secs(10);
/// How long the store may take: probes of container platforms give up after a second or a few.
const STORE_WAIT: Duration = Duration::from_secs(2);

/// What a probe finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// Events are taken and kept safe.
    Yes,
    /// Events are taken, but kept where they do not survive the container, or a crash of Redis.
    Degraded,
    /// Events would be answered 503, or we are about to stop.
    No,
}

impl Ready {
    /// The bare word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "ok\n",
            Self::Degraded | Self::No => "degraded\n",
        }
    }
}

/// Why a relay is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A stop has been asked for.
    Leaving,
    /// An event could not be stored a moment ago.
    IngestFailing,
    /// The store does not answer, or not in time.
    StoreUnreachable,
    /// The store is at its limit.
    StoreFull,
    /// What was answered lies where it is gone with the container.
    Overlay,
    /// What was answered may be lost when Redis crashes, and it was wanted so.
    Relaxed,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::Leaving,
        Self::IngestFailing,
        Self::StoreUnreachable,
        Self::StoreFull,
        Self::Overlay,
        Self::Relaxed,
    ];

    /// The word for it, which stays.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Leaving => "leaving",
            Self::IngestFailing => "ingest_failing",
            Self::StoreUnreachable => "store_unreachable",
            Self::StoreFull => "store_full",
            Self::Overlay | Self::Relaxed => "not_durable",
        }
    }

    /// A sentence for people, with what to do.
    pub const fn message(self) -> &'static str {
        match self {
            Self::Leaving => "the relay is about to stop",
            Self::IngestFailing => {
                "an event could not be stored within the last 10 s: senders got 503 and will try again; see the log"
            }
            Self::StoreUnreachable => "the store does not answer: events are answered 503 until it does",
            Self::StoreFull => {
                "the store is at limits.store_size: events are answered 503; raise it, or see which target holds the backlog"
            }
            Self::Overlay => {
                "the store lies on a container's own layer and is gone with the container: mount a volume"
            }
            Self::Relaxed => {
                "what was answered may be lost when Redis crashes; wanted so by `durability: relaxed`"
            }
        }
    }

    /// What it makes of the relay.
    pub const fn ready(self) -> Ready {
        match self {
            Self::Leaving | Self::IngestFailing | Self::StoreUnreachable | Self::StoreFull => Ready::No,
            Self::Overlay | Self::Relaxed => Ready::Degraded,
        }
    }
}

/// What a relay is, as long as it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Of the program.
    pub version: &'static str,
    /// Of its configuration.
    pub fingerprint: String,
    /// When it started, by its own clock.
    pub started_at: Timestamp,
}

/// How a relay is, in detail.
#[derive(Debug, Clone)]
pub struct Health {
    /// Who is asked.
    pub identity: Identity,
    /// What a probe finds: the worst of `reasons`.
    pub ready: Ready,
    /// Why it is not `Yes`.
    pub reasons: Vec<Reason>,
    /// The store at the moment, at most a second old; `None` where it does not answer.
    pub overview: Option<Arc<Overview>>,
}

impl Health {
    /// The word for the whole: `ok`, `degraded`, or `down` where events would not be taken.
    pub const fn state(&self) -> &'static str {
        match self.ready {
            Ready::Yes => "ok",
            Ready::Degraded => "degraded",
            Ready::No => "down",
        }
    }
}

/// The judge, shared by the listeners.
pub struct Readiness {
    store: Arc<dyn Store>,
    /// Cancelled by `app` when a stop has been asked for although connections are still taken.
    leaving: CancellationToken,
    identity: Identity,
    /// Held while the store is asked, so that many who ask ask it once. `None` inside: it did not answer.
    last: Mutex<Option<(Instant, Option<Arc<Overview>>)>>,
    /// When an event last could not be stored; locked for a moment only.
    failed: std::sync::Mutex<Option<Instant>>,
}

impl Readiness {
    /// Of this store, until `leaving` is cancelled.
    pub fn new(store: Arc<dyn Store>, leaving: CancellationToken, identity: Identity) -> Self {
        Self { store, leaving, identity, last: Mutex::default(), failed: std::sync::Mutex::default() }
    }

    /// An event was stored.
    pub fn note_stored(&self) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// An event could not be stored.
    pub fn note_not_stored(&self) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// What a probe finds now.
    pub async fn ask(&self) -> Ready {
        let passing = self.passing();
        if !passing.is_empty() {
            return Ready::No; // without asking a store that is in trouble
        }
        worst(&of_store(self.overview().await.as_deref()))
    }

    /// How the relay is now, in detail.
    pub async fn health(&self) -> Health {
        let overview = self.overview().await;
        let mut reasons = self.passing();
        reasons.extend(of_store(overview.as_deref()));
        Health { identity: self.identity.clone(), ready: worst(&reasons), reasons, overview }
    }

    /// The state of the store, at most a second old; `None` where it does not answer.
    async fn overview(&self) -> Option<Arc<Overview>> {
        let mut last = self.last.lock().await;
        if let Some((asked, overview)) = &*last
            && asked.elapsed() < FRESH
        {
            return overview.clone();
        }
        let overview = match timeout(STORE_WAIT, self.store.overview()).await {
            Ok(Ok(overview)) => Some(Arc::new(overview)),
            Ok(Err(_)) | Err(_) => None,
        };
        *last = Some((Instant::now(), overview.clone()));
        overview
    }

    /// The reasons that need no look at the store.
    fn passing(&self) -> Vec<Reason> {
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_failing = failed.is_some_and(|failed| failed.elapsed() < FAILURE_COUNTS);
        let leaving = self.leaving.is_cancelled().then_some(Reason::Leaving);
        leaving.into_iter().chain(is_failing.then_some(Reason::IngestFailing)).collect()
    }
}

/// What speaks against a store.
fn of_store(overview: Option<&Overview>) -> Vec<Reason> {
    let Some(overview) = overview else { return vec![Reason::StoreUnreachable] };
    let full = (overview.size_bytes >= overview.size_max_bytes).then_some(Reason::StoreFull);
    let unsafe_place = match overview.durability {
        // In memory only where that was asked for.
        Durability::Proven | Durability::Declared | Durability::Memory => None,
        Durability::Overlay => Some(Reason::Overlay),
        Durability::Relaxed => Some(Reason::Relaxed),
    };
    full.into_iter().chain(unsafe_place).collect()
}

/// The worst that the reasons make of a relay.
fn worst(reasons: &[Reason]) -> Ready {
    let all = || reasons.iter().map(|reason| reason.ready());
    if all().any(|ready| ready == Ready::No) {
        Ready::No
    } else if reasons.is_empty() {
        Ready::Yes
    } else {
        Ready::Degraded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overview(durability: Durability, size_bytes: u64) -> Overview {
        Overview { targets: Vec::new(), events: 0, size_bytes, size_max_bytes: 100, durability }
    }

    #[test]
    fn every_flaw_of_a_store_is_a_reason_and_the_worst_decides() {
        let of = |durability, bytes| {
            let reasons = of_store(Some(&overview(durability, bytes)));
            (worst(&reasons), reasons)
        };
        assert_eq!(of(Durability::Proven, 99), (Ready::Yes, vec![]));
        assert_eq!(of(Durability::Memory, 0), (Ready::Yes, vec![]));
        assert_eq!(of(Durability::Overlay, 0), (Ready::Degraded, vec![Reason::Overlay]));
        assert_eq!(of(Durability::Relaxed, 100), (Ready::No, vec![Reason::StoreFull, Reason::Relaxed]));
        assert_eq!(worst(&of_store(None)), Ready::No);
    }

    #[test]
    fn every_reason_has_a_code_and_a_sentence() {
        for reason in Reason::ALL {
            assert!(reason.code().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{reason:?}");
            assert!(reason.message().len() > 20 && !reason.message().ends_with('.'), "{reason:?}");
            assert_ne!(reason.ready(), Ready::Yes);
        }
    }
}
