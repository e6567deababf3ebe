//! The lists of event ids by subject, type and source, from the newest down, by pages. They hold no frames, so that a page
//! of a rare kind costs what it shows, however many events lie between.

use crate::clock::Timestamp;
use crate::event::{EventId, SourceName, Subject};
use crate::store::StoreError;

use super::codes::{self, arg};
use super::core::Core;
use super::link::Lane;
use super::reply::{self, Odd};
use super::walk::{TOP, first_at};

/// Ids of a first page: what a person looks at.
const FIRST_PAGE: usize = 100;
/// Ids of the following pages: some 20 KB.
const PAGE: usize = 1_000;

/// What some events have in common. Every property that is set must hold.
#[derive(Debug, Clone, Copy, Default)]
pub struct Kind<'q> {
    /// Whom they are about.
    pub subject: Option<&'q Subject>,
    /// Their type.
    pub event_type: Option<&'q str>,
    /// Their source.
    pub source: Option<&'q SourceName>,
}

/// The shortest list that holds all events of `kind`, among others, and its length; `None` where nothing is asked of
/// them. A subject's list is taken without a look.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn shortest(core: &Core, kind: Kind<'_>) -> Result<Option<(Vec<u8>, u64)>, StoreError> {
    if let Some(subject) = kind.subject {
        return Ok(Some((core.keys.subject(subject.as_str()), 0)));
    }
    let lists: Vec<Vec<u8>> = kind
        .event_type
        .map(|event_type| core.keys.of_type(event_type))
        .into_iter()
        .chain(kind.source.map(|source| core.keys.of_source(source)))
        .collect();
    if lists.is_empty() {
        return Ok(None);
    }
    let mut pipeline = redis::pipe();
    for list in &lists {
        pipeline.cmd("LLEN").arg(list);
    }
    let lengths = core.link.pipeline(Lane::Admin, &pipeline).await?;
    let mut best: Option<(Vec<u8>, u64)> = None;
    for (list, length) in lists.into_iter().zip(lengths) {
        let length = reply::number(length, "a list's length")?;
        if best.as_ref().is_none_or(|(_, least)| length < *least) {
            best = Some((list, length));
        }
    }
    Ok(best)
}

/// The lists of all sources, which together hold every event.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn all(core: &Core) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut command = redis::cmd("SMEMBERS");
    command.arg(core.keys.sources());
    let mut lists = Vec::new();
    for source in reply::array(core.link.command(Lane::Admin, &command).await?, "sources")? {
        let source: SourceName =
            reply::text(source, "a source")?.parse().map_err(|_| Odd("a source's name"))?;
        lists.push(core.keys.of_source(&source));
    }
    Ok(lists)
}

/// Where a walk down some lists is.
#[derive(Debug)]
pub struct Listed {
    lists: Vec<Vec<u8>>,
    /// Only events below this; `None` at the end.
    below: Option<EventId>,
    /// Only events accepted at or after this.
    since: Timestamp,
    count: usize,
}

impl Listed {
    /// Over the events of these lists together that are below `below`, accepted from `since` on.
    pub fn new(lists: Vec<Vec<u8>>, below: EventId, since: Timestamp) -> Self {
        Self { below: (!lists.is_empty()).then_some(below), lists, since, count: FIRST_PAGE }
    }

    /// The next ids, newest first; `None` at the end. A page may be empty.
    ///
    /// # Errors
    /// Where Redis cannot be reached.
    pub async fn page(&mut self, core: &Core) -> Result<Option<Vec<EventId>>, StoreError> {
        const WHAT: &str = "the result of a look at lists";
        let Some(below) = self.below else { return Ok(None) };
        let mut keys = vec![core.keys.meta(), core.keys.kept_frames()];
        keys.extend(self.lists.iter().cloned());
        let below = if below == TOP { String::new() } else { codes::hex(below) };
        let args = [arg(below), arg(codes::hex(first_at(self.since))), arg(self.count)];
        let reply = core.link.call(Lane::Admin, &core.scripts.listed, &keys, &args).await?;
        let mut values = reply::array(reply, WHAT)?.into_iter();
        let frontier = reply::bytes(values.next().ok_or(Odd(WHAT))?, WHAT)?;
        self.below =
            if frontier.is_empty() { None } else { Some(codes::from_hex(&frontier).ok_or(Odd(WHAT))?) };
        self.count = PAGE;
        let mut ids = Vec::with_capacity(values.len());
        for id in values {
            ids.push(codes::from_hex(&reply::bytes(id, WHAT)?).ok_or(Odd(WHAT))?);
        }
        Ok(Some(ids))
    }
}
