//! How full the server is. Asked about once a second while events come, never while none do; in between, what was added
//! is counted here. The server's own limit holds in any case: it refuses the script whole.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::core::Core;
use super::durability;
use super::link::LinkError;

/// An answer of the server is good for this long.
const FRESH: Duration = Duration::from_secs(1);
/// Where it was full, it is asked again after this long, so that refused requests do not each ask.
const FULL_FRESH: Duration = Duration::from_millis(100);

/// What is known of the server's memory.
#[derive(Debug)]
pub struct Fullness {
    configured_max_bytes: u64,
    known: Mutex<Option<Known>>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    asked: Instant,
    memory: Memory,
    added_bytes: u64,
}

/// The server's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// In use, by everything on the server.
    pub used_bytes: u64,
    /// The limit: the configured one, or the server's where that is lower.
    pub max_bytes: u64,
}

impl Fullness {
    /// With this limit of our own.
    pub fn new(configured_max_bytes: u64) -> Self {
        Self { configured_max_bytes, known: Mutex::default() }
    }

    /// Whether `bytes` more may be kept. Where the server does not tell, it decides by itself.
    pub async fn has_room(&self, core: &Core, bytes: u64) -> bool {
        if let Some(answer) = self.by_what_is_known(bytes) {
            return answer;
        }
        if self.ask(core).await.is_err() {
            return true;
        }
        self.by_what_is_known(bytes).unwrap_or(true)
    }

    fn by_what_is_known(&self, bytes: u64) -> Option<bool> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.as_mut()?;
        let age = known.asked.elapsed();
        let fits = known.memory.used_bytes + known.added_bytes + bytes <= known.memory.max_bytes;
        if age > FRESH || (!fits && age > FULL_FRESH) {
            return None;
        }
        if fits {
            known.added_bytes += bytes;
        }
        Some(fits)
    }

    /// Something was removed: what was known is too high.
    pub fn forget(&self) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Asks the server; where it does not tell, nothing counts as used and its own limit holds.
    ///
    /// # Errors
    /// Where it cannot be reached.
    pub async fn ask(&self, core: &Core) -> Result<Memory, LinkError> {
        let max_bytes = self.configured_max_bytes;
        let memory =
            durability::used_memory(&core.link).await?.map_or(Memory { used_bytes: 0, max_bytes }, |told| {
                Memory { used_bytes: told.used_bytes, max_bytes: told.limit(max_bytes) }
            });
        let known = Known { asked: Instant::now(), memory, added_bytes: 0 };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
        Ok(memory)
    }
}
