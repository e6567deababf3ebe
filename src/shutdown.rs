//! The two words of stopping: `stop` (take nothing new, finish what is under way) and `abort` (let go of it).
//! Who says them and in which order is written in `app`; this module only carries them.

use tokio_util::sync::CancellationToken;

/// Handed to every flow. Cancelled by `app` alone; both tokens are level-triggered, so no wake-up can be missed.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Take no new work and finish what is under way.
    pub stop: CancellationToken,
    /// The grace is over: let go of what is under way, uncounted. Implies `stop`.
    pub abort: CancellationToken,
}

impl Shutdown {
    /// Neither has been said.
    pub fn new() -> Self {
        Self::default()
    }
}
