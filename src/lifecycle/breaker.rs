//! The breaker of a target: whether anything is attempted at all. One for all relays, kept by the store; the decision to
//! turn it is made here, purely. Knows no clock and no store.

use crate::clock::Timestamp;

/// A target's breaker as the store keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Breaker {
    /// Grows with every turn; a turn names the revision that it was decided upon, so that two relays cannot both turn it.
    pub revision: u64,
    /// Whether attempts are made.
    pub phase: Phase,
}

/// Whether attempts are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// They are.
    Closed {
        /// When it closed after it had been open; concurrency ramps up from then.
        since: Option<Timestamp>,
    },
    /// Nothing is attempted but one probe at a time over all relays.
    Open {
        /// When it opened.
        since: Timestamp,
        /// Probes that failed since then.
        failed_probes: u32,
        /// No probe before this.
        probe_at: Timestamp,
    },
}

impl Default for Phase {
    fn default() -> Self {
        Self::Closed { since: None }
    }
}
