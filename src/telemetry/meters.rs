//! What is counted while the relay runs: metrics for a scraper, and small counts for the store. Grows from 0, never falls.

/// The counts of one relay.
#[derive(Debug, Default)]
pub struct Meters {}
