//! A walk over the events that are kept, newest first: those of a list, or the whole log and then what was kept aside.
//! Goes by pages, so that the caller can stop at its own bounds.

use crate::clock::Timestamp;
use crate::event::EventId;
use crate::store::StoreError;

use super::codes;
use super::core::Core;
use super::entries::{self, Entry};
use super::link::Lane;
use super::listed::{self, Kind, Listed};
use super::reply::{self, Odd};

/// Events of one page: some hundred KB.
pub const PAGE: usize = 100;

/// Where a walk is.
#[derive(Debug)]
pub struct Walk {
    /// Only events below this.
    below: EventId,
    /// Only events accepted at or after this.
    since: Timestamp,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// In the log, above its floor.
    Log(EventId),
    /// Among what was kept aside.
    Kept,
    /// In a list; these of its ids come next, the last one first.
    Listed(Listed, Vec<EventId>),
    /// At the end.
    Over,
}

/// Above every event.
pub const TOP: EventId = EventId { ms: u64::MAX, seq: u32::MAX };

/// The first id of an event accepted at or after `at`.
pub fn first_at(at: Timestamp) -> EventId {
    EventId { ms: u64::try_from(at.as_ms()).unwrap_or(0), seq: 0 }
}

impl Walk {
    /// Over the events below `below`, accepted from `since` on and before `until`: all that are of this kind, and maybe
    /// others.
    ///
    /// # Errors
    /// Where Redis cannot be reached.
    pub async fn new(
        core: &Core, kind: Kind<'_>, below: EventId, since: Option<Timestamp>, until: Option<Timestamp>,
    ) -> Result<Self, StoreError> {
        let below = until.map_or(below, |until| below.min(first_at(until)));
        let since = since.unwrap_or(Timestamp::from_ms(0));
        let stage = match listed::shortest(core, kind).await? {
            Some((list, _)) => Stage::Listed(Listed::new(vec![list], below, since), Vec::new()),
            None => Stage::Log(entries::floor(core).await?),
        };
        Ok(Self { below, since, stage })
    }

    /// The next events, newest first; `None` at the end. A page may be empty.
    ///
    /// # Errors
    /// Where Redis cannot be reached.
    pub async fn page(&mut self, core: &Core) -> Result<Option<Vec<Entry>>, StoreError> {
        let mut found = match &mut self.stage {
            Stage::Over => return Ok(None),
            Stage::Log(floor) => {
                let floor = *floor;
                self.log_page(core, floor).await?
            }
            Stage::Kept => self.kept_page(core).await?,
            Stage::Listed(listed, ids) => {
                if ids.is_empty() {
                    let Some(page) = listed.page(core).await? else { return Ok(None) };
                    *ids = page.into_iter().rev().collect();
                }
                let step: Vec<EventId> = ids.drain(ids.len().saturating_sub(PAGE)..).rev().collect();
                entries::of(core, &step).await?.into_iter().flatten().collect()
            }
        };
        found.retain(|entry| entry.id < self.below && codes::accepted_at(entry.id) >= self.since);
        if let Some(last) = found.last() {
            self.below = last.id;
        }
        Ok(Some(found))
    }

    async fn log_page(&mut self, core: &Core, floor: EventId) -> Result<Vec<Entry>, StoreError> {
        let lowest = first_at(self.since);
        let mut command = redis::cmd("XREVRANGE");
        command.arg(core.keys.log()).arg(format!("({}", stream_place(self.below)));
        if lowest > floor {
            command.arg(codes::stream_id(lowest));
        } else {
            command.arg(format!("({}", codes::stream_id(floor)));
        }
        command.arg("COUNT").arg(PAGE);
        if lowest >= self.below || floor >= self.below {
            self.stage = Stage::Kept;
            return Ok(Vec::new());
        }
        let found = reply::entries(core.link.command(Lane::Admin, &command).await?)?;
        if found.len() < PAGE {
            self.stage = Stage::Kept;
        }
        Ok(found)
    }

    async fn kept_page(&mut self, core: &Core) -> Result<Vec<Entry>, StoreError> {
        let ids = below(core, &core.keys.kept_ids(), self.below, PAGE).await?;
        if ids.len() < PAGE || ids.last().is_some_and(|id| codes::accepted_at(*id) < self.since) {
            self.stage = Stage::Over;
        }
        Ok(entries::of(core, &ids).await?.into_iter().flatten().collect())
    }
}

/// As the log takes it: its sequences end where ours do not.
fn stream_place(id: EventId) -> String {
    if id == TOP { format!("{}-{}", u64::MAX, u64::MAX) } else { codes::stream_id(id) }
}

/// The ids in the sorted set `key`, which is scored by acceptance, below `place`: at most `count`, newest first.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn below(
    core: &Core, key: &[u8], place: EventId, count: usize,
) -> Result<Vec<EventId>, StoreError> {
    let mut found = Vec::new();
    let mut offset = 0;
    loop {
        let top = if place == TOP { "+inf".to_owned() } else { place.ms.to_string() };
        let mut command = redis::cmd("ZREVRANGEBYSCORE");
        command.arg(key).arg(top).arg("-inf").arg("LIMIT").arg(offset).arg(count);
        let page = reply::array(core.link.command(Lane::Admin, &command).await?, "ids")?;
        let is_last = page.len() < count;
        for id in page {
            let id = codes::from_hex(&reply::bytes(id, "an id")?).ok_or(Odd("an id"))?;
            if id < place {
                found.push(id);
            }
        }
        // Ids of the same millisecond that are not below it may fill whole pages.
        if is_last || found.len() >= count {
            found.truncate(count);
            return Ok(found);
        }
        offset += count;
    }
}
