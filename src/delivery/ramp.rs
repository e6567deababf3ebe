//! How many attempts may be under way at once: all of `concurrency`, one while the breaker is open, and step by step
//! more after it has closed. What may not be used yet is withheld as permits. Knows nothing of deliveries.

use tokio::sync::OwnedSemaphorePermit;

use super::Shared;

/// Withholds permits as the breaker says, until told to stop. Begins with all but one of them withheld: before the first
/// claim nobody knows whether the target takes more.
pub(super) async fn run(shared: &Shared, mut withheld: OwnedSemaphorePermit) {
    let concurrency = shared.deps.target.concurrency;
    let mut known = shared.breaker.subscribe();
    loop {
        let ramp = known.borrow_and_update().as_ref().map(|known| known.ramp(concurrency));
        let attempts_max = ramp.map_or(1, |ramp| ramp.attempts_max);
        let wanted = concurrency.saturating_sub(attempts_max);
        let held = withheld.num_permits();
        if held < wanted {
            // In use: each comes back when its attempt ends, at the latest after the target's `timeout`.
            let missing = u32::try_from(wanted - held).unwrap_or(u32::MAX);
            tokio::select! {
                () = shared.shutdown.stop.cancelled() => return,
                permits = shared.attempts.clone().acquire_many_owned(missing) => {
                    let Ok(permits) = permits else { return }; // never: nobody closes it
                    withheld.merge(permits);
                }
            }
            continue; // that took a while
        }
        drop(withheld.split(held - wanted));
        let step = async {
            match ramp.and_then(|ramp| ramp.step_in) {
                Some(step_in) => tokio::time::sleep(step_in).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shared.shutdown.stop.cancelled() => return,
            changed = known.changed() => if changed.is_err() { return },
            () = step => {}
        }
    }
}
