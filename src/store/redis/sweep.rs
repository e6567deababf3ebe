//! Retention: one bounded step after the other, over all targets at once. Marks go by themselves.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::{StoreError, Swept};

use super::codes::arg;
use super::core::Core;
use super::keys::Part;
use super::link::Lane;
use super::reply::{self, Odd};
use super::targets::{self, Forgetting};

/// Rows that one step removes at most: a script of a few ms.
const ROWS_MAX: u32 = 500;
/// How often a step is tried again because a target came at the same moment.
const TRIES: u32 = 4;
/// The keys of each target that the script needs, in its order.
const PARTS: [Part; 5] = [Part::Own, Part::Records, Part::Attempts, Part::Dead, Part::Died];

/// Removes at most `max` rows of each kind; goes on among what was kept aside where `place` says.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn sweep(core: &Core, max: u32, place: &AtomicU64) -> Result<Swept, StoreError> {
    const WHAT: &str = "the result of a sweep";
    let max = max.clamp(1, ROWS_MAX);
    for _ in 0..TRIES {
        let all = targets::all(core).await?;
        for target in targets::forgotten(core, &all).await? {
            targets::forget_step(core, target, Forgetting::GoOn).await?;
        }
        let mut keys = vec![
            core.keys.log(),
            core.keys.meta(),
            core.keys.kept_frames(),
            core.keys.kept_ids(),
            core.keys.targets(),
            core.keys.aside_ids(),
        ];
        let mut args = vec![
            arg(core.clock.offset_ms()),
            arg(core.rules.retention_ms),
            arg(core.rules.dead_letter_retention_ms),
            arg(max),
            arg(place.load(Ordering::Relaxed)),
        ];
        for target in &all {
            keys.extend(PARTS.map(|part| core.keys.of_target(target, part)));
            args.push(arg(target));
        }
        let reply = core.link.call(Lane::Admin, &core.scripts.sweep, &keys, &args).await?;
        let mut values = reply::array(reply, WHAT)?.into_iter();
        let Some(events) = values.next() else { continue };
        let mut next = || values.next().ok_or(Odd(WHAT));
        let (events, deliveries) = (reply::number(events, WHAT)?, reply::number(next()?, WHAT)?);
        place.store(reply::number(next()?, WHAT)?, Ordering::Relaxed);
        if events + deliveries > 0 {
            core.fullness.forget();
        }
        return Ok(Swept { events, deliveries, marks: 0 });
    }
    Err(StoreError::Unavailable(None))
}
