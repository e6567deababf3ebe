//! Would an event that comes now be kept, and safely? One judge for every listener that is asked. It looks at the store
//! at most once a second, however often it is asked, and remembers when an event last could not be stored: reading may
//! work while the disk is full.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::Store;
use super::query::{Durability, Overview};

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

/// The judge, shared by the listeners.
pub struct Readiness {
    store: Arc<dyn Store>,
    /// Cancelled by `app` when a stop has been asked for although connections are still taken.
    leaving: CancellationToken,
    /// Held while the store is asked, so that many probes ask once.
    last: Mutex<Option<(Instant, Ready)>>,
    /// When an event last could not be stored; locked for a moment only.
    failed: std::sync::Mutex<Option<Instant>>,
}

impl Readiness {
    /// Of this store, until `leaving` is cancelled.
    pub fn new(store: Arc<dyn Store>, leaving: CancellationToken) -> Self {
        Self { store, leaving, last: Mutex::default(), failed: std::sync::Mutex::default() }
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
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if self.leaving.is_cancelled() || failed.is_some_and(|failed| failed.elapsed() < FAILURE_COUNTS) {
            return Ready::No;
        }
        let mut last = self.last.lock().await;
        if let Some((asked, ready)) = *last
            && asked.elapsed() < FRESH
        {
            return ready;
        }
        let ready = match timeout(STORE_WAIT, self.store.overview()).await {
            Ok(Ok(overview)) => judge(&overview),
            Ok(Err(_)) | Err(_) => Ready::No,
        };
        *last = Some((Instant::now(), ready));
        ready
    }
}

fn judge(overview: &Overview) -> Ready {
    if overview.size_bytes >= overview.size_max_bytes {
        return Ready::No;
    }
    match overview.durability {
        // In memory only where that was asked for.
        Durability::Proven | Durability::Declared | Durability::Memory => Ready::Yes,
        Durability::Overlay | Durability::Relaxed => Ready::Degraded,
    }
}
