//! Alarms while the store fills, long before it is full: once for each step up, naming the target that holds most of it,
//! and once when it is over.

use tracing::{error, info, warn};

use crate::store::query::Overview;

/// Steps of filling, in percent.
const WARN_AT: u64 = 70;
/// From here on it is an error: what comes next is that events are answered 503.
const ERROR_AT: u64 = 90;

/// How full the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Step {
    /// There is room.
    #[default]
    Roomy,
    /// Above [`WARN_AT`].
    Filling,
    /// Above [`ERROR_AT`].
    NearlyFull,
}

/// What was last told.
#[derive(Debug, Default)]
pub struct Filling {
    told: Step,
}

impl Filling {
    /// Tells where the store has come to another step.
    pub fn look(&mut self, overview: &Overview) {
        let (percent, step) = step(overview.size_bytes, overview.size_max_bytes);
        let before = std::mem::replace(&mut self.told, step);
        if step == before {
            return;
        }
        let holder =
            overview.targets.iter().filter(|target| target.queued > 0).max_by_key(|target| target.queued);
        let (target, queued) = holder.map_or(("none", 0), |holder| (holder.name.as_str(), holder.queued));
        let (bytes, max_bytes) = (overview.size_bytes, overview.size_max_bytes);
        match step {
            Step::Roomy => info!(percent, bytes, max_bytes, "store.has_room"),
            Step::Filling => {
                warn!(percent, bytes, max_bytes, most_behind = target, queued, "store.filling");
            }
            Step::NearlyFull => {
                error!(
                    percent,
                    bytes,
                    max_bytes,
                    most_behind = target,
                    queued,
                    "store.nearly_full: once it is full, events are answered 503"
                );
            }
        }
    }
}

fn step(bytes: u64, max_bytes: u64) -> (u64, Step) {
    let percent = u64::try_from(u128::from(bytes) * 100 / u128::from(max_bytes.max(1))).unwrap_or(u64::MAX);
    let step = match percent {
        ERROR_AT.. => Step::NearlyFull,
        WARN_AT.. => Step::Filling,
        _ => Step::Roomy,
    };
    (percent, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_fills_in_steps() {
        let of = |bytes| step(bytes, 1_000);
        assert_eq!(of(0), (0, Step::Roomy));
        assert_eq!(of(699), (69, Step::Roomy));
        assert_eq!(of(700), (70, Step::Filling));
        assert_eq!(of(900), (90, Step::NearlyFull));
        assert_eq!(of(5_000), (500, Step::NearlyFull));
        assert_eq!(step(u64::MAX, u64::MAX), (100, Step::NearlyFull));
        assert_eq!(step(1, 0), (100, Step::NearlyFull));
    }
}
