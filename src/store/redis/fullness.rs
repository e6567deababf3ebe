//! How full the server is. Asked about once a second while events come, never while none do; in between, what was added
//! is counted here. The server's own limit holds in any case: it refuses the script whole.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::Value;

use super::core::Core;
use super::link::{Lane, LinkError};
use super::reply;

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

    /// Asks the server.
    ///
    /// # Errors
    /// Where it cannot be reached.
    pub async fn ask(&self, core: &Core) -> Result<Memory, LinkError> {
        let info = core.link.command(Lane::Admin, redis::cmd("INFO").arg("memory")).await?;
        let memory = self.read(&info);
        let known = Known { asked: Instant::now(), memory, added_bytes: 0 };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
        Ok(memory)
    }

    fn read(&self, info: &Value) -> Memory {
        let text = reply::text(info.clone(), "INFO").unwrap_or_default();
        let field = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
        };
        let max = Some(field("maxmemory")).filter(|max| *max > 0).unwrap_or(u64::MAX);
        Memory { used_bytes: field("used_memory"), max_bytes: max.min(self.configured_max_bytes) }
    }
}
