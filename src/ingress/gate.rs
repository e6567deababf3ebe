//! Room for what is under way: how many requests, and how many body bytes they may come to hold. Nobody waits here:
//! who finds no room is told to come back, before its body is read.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What there is no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// `limits.in_flight` requests are under way.
    Requests,
    /// `limits.in_flight_bytes` are reserved.
    Bytes,
}

/// The two bounds.
pub(super) struct Gate {
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    bytes_max: u32,
}

/// A place inside, given back when it is dropped, however the request ends.
pub(super) struct Place {
    _request: OwnedSemaphorePermit,
    bytes: OwnedSemaphorePermit,
}

impl Gate {
    pub(super) fn new(requests_max: usize, bytes_max: usize) -> Self {
        // 4 GiB of bodies are as good as no bound.
        let bytes_max = u32::try_from(bytes_max.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Self {
            requests: Arc::new(Semaphore::new(requests_max.min(Semaphore::MAX_PERMITS))),
            bytes: Arc::new(Semaphore::new(bytes_max as usize)),
            bytes_max,
        }
    }

    /// Room for one more request of up to `bytes`. A body larger than all the room there is may have all of it.
    pub(super) fn enter(&self, bytes: usize) -> Result<Place, Full> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.bytes_max);
        let request = Arc::clone(&self.requests).try_acquire_owned().map_err(|_| Full::Requests)?;
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(bytes).map_err(|_| Full::Bytes)?;
        Ok(Place { _request: request, bytes })
    }
}

impl Place {
    /// Gives back what was reserved beyond `bytes`.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        drop(self.bytes.split(self.bytes.num_permits().saturating_sub(bytes)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_back_when_dropped() {
        let gate = Gate::new(1, 100);
        let place = gate.enter(10);
        assert!(matches!(gate.enter(10), Err(Full::Requests)));
        drop(place);
        assert!(gate.enter(10).is_ok());
    }

    #[test]
    fn shrinking_gives_back_only_what_is_not_held() {
        let gate = Gate::new(9, 100);
        let mut place = gate.enter(100).ok().unwrap();
        assert!(matches!(gate.enter(1), Err(Full::Bytes)));
        place.shrink_to(40);
        assert!(gate.enter(60).is_ok());
        assert!(matches!(gate.enter(61), Err(Full::Bytes)));
        place.shrink_to(70); // never grows
        assert!(gate.enter(60).is_ok());
    }

    #[test]
    fn a_body_larger_than_the_budget_may_come_alone() {
        let gate = Gate::new(9, 100);
        let alone = gate.enter(1_000);
        assert!(alone.is_ok());
        assert!(matches!(gate.enter(1), Err(Full::Bytes)));
    }
}
