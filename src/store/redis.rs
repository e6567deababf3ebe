//! The store for many relays: one Redis Stream as the log, a consumer group for each target, explicit records only for
//! what is no plain success.

pub mod durability;
pub mod link;

use std::time::Duration;

use crate::clock::Clock;
use crate::config::StoreConfig;

/// How to open a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it is, how its keys begin, how long what is kept, how durable it must be.
    pub config: StoreConfig,
    /// Ingest answers [`super::StoreError::Full`] above this many bytes, or above the server's own limit.
    pub size_max_bytes: u64,
    /// The longest that an unfinished delivery may wait: a mark is kept at least as long.
    pub wait_max: Duration,
    /// A relay that is not heard of for so long is dead, and its deliveries are taken over.
    pub lease: Duration,
    /// Moves the server's clock, in tests. Only its offset is used.
    pub clock: Clock,
}

/// How long a relay's lease lasts where nothing else is said: long enough for a pause of the machine, short enough that
/// nobody waits for a dead relay's deliveries.
pub const LEASE_DEFAULT: Duration = Duration::from_secs(15);
