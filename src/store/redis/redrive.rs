//! Retry, replay and cancel by hand, one bounded step at a time: what a step means is selected here, and changed by a
//! script for each target, which looks at each delivery once more.

use crate::clock::Timestamp;
use crate::event::{EventId, TargetName, frame};
use crate::store::StoreError;
use crate::store::query::{Mode, Redrive, RedriveAction, Redriven};

use super::codes::{self, arg};
use super::core::Core;
use super::entries::{self, Entry};
use super::link::Lane;
use super::listed::Kind;
use super::reply;
use super::select::{self, Found, From, Selection};
use super::walk::Walk;
use super::{lists, walk};

/// Deliveries that one step changes at most: a script of some 10 ms.
const ROWS_MAX: usize = 500;
/// Rows that one step looks at.
const LOOKED_AT_MAX: usize = 2_000;

/// Applies one step.
///
/// # Errors
/// Where Redis cannot be reached; what was changed until then stays so, and a repetition skips it.
pub async fn redrive(core: &Core, redrive: &Redrive) -> Result<Redriven, StoreError> {
    let Some(mut query) = redrive.narrowed() else { return Ok(Redriven { moved: 0, next: None }) };
    // A replay to one target by name reaches events from before it began, of which it has no record.
    let from = match redrive.action {
        RedriveAction::Replay if redrive.query.states.is_empty() && query.target.is_some() => From::Log,
        RedriveAction::Replay | RedriveAction::Retry | RedriveAction::Cancel => From::Records,
    };
    if from == From::Log {
        query.states.clear(); // what has no record has no state; the action is checked below
    }
    let selection = Selection {
        event: redrive.event,
        query: &query,
        from,
        below: select::place_of(redrive.after.as_ref()),
        rows_max: (redrive.max as usize).clamp(1, ROWS_MAX),
        looked_at_max: LOOKED_AT_MAX,
        until: None,
    };
    let (found, next) = select::select(core, &selection).await?;
    let moves = redrive.action.moves();
    let fits = |found: &Found| {
        found.record.as_ref().is_none_or(|record| {
            moves.contains(&record.state) && redrive.as_of.is_none_or(|as_of| record.updated <= as_of)
        })
    };
    let chosen: Vec<Found> = found.into_iter().filter(fits).collect();
    let moved = apply(core, &chosen, redrive, from).await?;
    Ok(Redriven { moved, next: next.map(lists::cursor) })
}

async fn apply(core: &Core, chosen: &[Found], redrive: &Redrive, from: From) -> Result<u64, StoreError> {
    let (count, action) = (chosen.len(), redrive.action);
    let mut targets: Vec<&TargetName> = chosen.iter().map(|found| &found.target).collect();
    targets.sort_unstable();
    targets.dedup();
    let mut letters: String = action.moves().iter().copied().map(codes::letter).collect();
    if from == From::Log {
        letters.push('-');
    }
    let what = match action {
        RedriveAction::Retry | RedriveAction::Replay => "rearm",
        RedriveAction::Cancel => "cancel",
    };
    let change = Change { letters: &letters, what, as_of: redrive.as_of, mode: redrive.mode };
    let mut moved = 0;
    for target in targets {
        let of_target = chosen.iter().enumerate().filter(|(_, found)| found.target == *target);
        let batch: Vec<(&Entry, i64)> = of_target
            .map(|(index, found)| (&*found.entry, codes::millis(redrive.share(index, count))))
            .collect();
        moved += send(core, target, change, &batch).await?;
    }
    match redrive.mode {
        Mode::Apply if moved > 0 => core.ring(),
        Mode::Apply | Mode::Count => {}
    }
    Ok(moved)
}

/// What the script does with the deliveries that it is given.
#[derive(Clone, Copy)]
struct Change<'c> {
    /// The states that it changes; `-` stands for no record.
    letters: &'c str,
    /// What it makes of them, in the script's words.
    what: &'c str,
    /// It leaves alone what has changed since.
    as_of: Option<Timestamp>,
    /// Whether it changes anything.
    mode: Mode,
}

impl Change<'static> {
    /// Makes records for a target that begins.
    const fn beginning(letters: &'static str, what: &'static str) -> Self {
        Self { letters, what, as_of: None, mode: Mode::Apply }
    }
}

async fn send(
    core: &Core, target: &TargetName, change: Change<'_>, batch: &[(&Entry, i64)],
) -> Result<u64, StoreError> {
    let Change { letters, what, as_of, mode } = change;
    let mode = match mode {
        Mode::Apply => "apply",
        Mode::Count => "count",
    };
    let mut keys = vec![core.keys.log(), core.keys.bell()];
    keys.extend(core.keys.target(target));
    let mut args = core.opening(target);
    let as_of = as_of.map_or(String::new(), |as_of| as_of.as_ms().to_string());
    args.extend([arg(letters), arg(what), arg(core.rules.mark_life_ms), arg(as_of), arg(mode)]);
    for (entry, after_ms) in batch {
        keys.push(match frame::decode(&entry.frame) {
            Ok(event) => core.keys.mark(&event.source, &event.svix_id),
            Err(_) => core.keys.bell(),
        });
        args.extend([arg(codes::hex(entry.id)), arg(after_ms), entry.kind.to_vec(), entry.subject.to_vec()]);
    }
    let reply = core.link.call(Lane::Admin, &core.scripts.redrive, &keys, &args).await?;
    Ok(reply::number(reply, "the result of a redrive")?)
}

/// Queues for a target that begins at the beginning what was kept aside of the log.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn seed(core: &Core, target: &TargetName) -> Result<(), StoreError> {
    let mut place = walk::TOP;
    loop {
        let ids = walk::below(core, &core.keys.kept_ids(), place, walk::PAGE).await?;
        let Some(last) = ids.last() else { return Ok(()) };
        place = *last;
        let found: Vec<Entry> = entries::of(core, &ids).await?.into_iter().flatten().collect();
        let batch: Vec<(&Entry, i64)> = found.iter().map(|entry| (entry, 0)).collect();
        send(core, target, Change::beginning("-dscx", "begin"), &batch).await?;
    }
}

/// Queues what `target` has passed since it began but has no record of and not in flight.
///
/// # Errors
/// Where Redis cannot be reached; a repetition goes on.
pub async fn seed_untraced(core: &Core, target: &TargetName, began: EventId) -> Result<(), StoreError> {
    let mut walk = Walk::new(core, Kind::default(), walk::TOP, Some(codes::accepted_at(began)), None).await?;
    while let Some(page) = walk.page(core).await? {
        let batch: Vec<(&Entry, i64)> =
            page.iter().filter(|entry| entry.id > began).map(|entry| (entry, 0)).collect();
        if !batch.is_empty() {
            send(core, target, Change::beginning("-", "seed"), &batch).await?;
        }
    }
    Ok(())
}
