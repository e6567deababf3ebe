//! Laws of the breaker: turned by whoever knows its revision; while it is open, one probe at a time and nothing else.

use std::time::Duration;

use clerk_relay::clock::Timestamp;
use clerk_relay::event::EventId;
use clerk_relay::lifecycle::breaker::{Breaker, Phase};
use clerk_relay::lifecycle::{State, Transition};
use clerk_relay::store::query::TargetStatus;
use clerk_relay::store::{ClaimScope, ClaimWanted, Claimed, Control, Controlled, More, PauseReason, Turn};

use super::harness::{DAY, Kind, Lab, MINUTE, ids, name, wanted, wanted_in_order};

/// More than any claim or turn of these laws takes.
const MOMENT: Duration = Duration::from_secs(20);

async fn turn(lab: &Lab, from: u64, to: Turn) -> Controlled {
    lab.store.control(&name("app"), Control::Turn { from, to }).await.unwrap()
}

/// Opens the breaker of `app`, the first probe after `probe_after`.
async fn open(lab: &Lab, probe_after: Duration) {
    let from = lab.target("app").await.breaker.revision;
    assert_eq!(turn(lab, from, Turn::Open { probe_after }).await, Controlled::Changed);
}

async fn close(lab: &Lab, spread: Duration) {
    let from = lab.target("app").await.breaker.revision;
    assert_eq!(turn(lab, from, Turn::Close { spread }).await, Controlled::Changed);
}

/// A claim of up to 16 for `app`, which must not say that more is ready.
async fn claim(lab: &Lab) -> Claimed {
    let claimed = lab.claim_with(wanted("app")).await;
    assert_eq!(claimed.more, More::None);
    claimed
}

/// (since, failed probes, next probe) of an open breaker.
fn opened(breaker: Breaker) -> (Timestamp, u32, Timestamp) {
    match breaker.phase {
        Phase::Open { since, failed_probes, probe_at } => (since, failed_probes, probe_at),
        Phase::Closed { since } => panic!("closed since {since:?}"),
    }
}

/// Whether `at` is `after` from now, give or take what a test takes.
fn is_in(lab: &Lab, at: Timestamp, after: Duration) -> bool {
    let expected = lab.clock.now().plus(after);
    at.since(expected).max(expected.since(at)) < MOMENT
}

/// Two events that failed once and wait for an hour.
async fn two_waiting(lab: &Lab) -> Vec<EventId> {
    let added = lab.add_many(2).await;
    for lease in lab.claim("app").await {
        lab.fail(lease, 60 * MINUTE).await;
    }
    added
}

pub async fn a_new_target_is_closed_and_only_its_revision_turns_it(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    assert_eq!(
        lab.target("app").await.breaker,
        Breaker { revision: 0, phase: Phase::Closed { since: None } }
    );
    let to = Turn::Open { probe_after: MINUTE };
    assert_eq!(turn(&lab, 1, to).await, Controlled::Refused);
    assert_eq!(lab.target("app").await.breaker, Breaker::default());
    assert_eq!(turn(&lab, 0, to).await, Controlled::Changed);
    let first = lab.target("app").await.breaker;
    assert_eq!(first.revision, 1);
    let (since, failed_probes, probe_at) = opened(first);
    assert!(is_in(&lab, since, Duration::ZERO) && failed_probes == 0 && is_in(&lab, probe_at, MINUTE));
    for to in [to, Turn::Close { spread: MINUTE }] {
        assert_eq!(turn(&lab, 0, to).await, Controlled::Refused);
    }
    assert_eq!(lab.target("app").await.breaker, first);
    assert_eq!(turn(&lab, 1, Turn::Close { spread: MINUTE }).await, Controlled::Changed);
    let Breaker { revision, phase: Phase::Closed { since: Some(since) } } = lab.target("app").await.breaker
    else {
        panic!("it is open")
    };
    assert!(revision == 2 && is_in(&lab, since, Duration::ZERO));
}

pub async fn of_many_turns_from_one_revision_one_is_made(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let one = || turn(&lab, 0, Turn::Open { probe_after: MINUTE });
    let turns = tokio::join!(one(), one(), one(), one());
    let mut turns = [turns.0, turns.1, turns.2, turns.3].map(|turn| turn == Controlled::Changed);
    turns.sort_unstable();
    assert_eq!(turns, [false, false, false, true]);
    assert_eq!(lab.target("app").await.breaker.revision, 1);
}

pub async fn an_open_breaker_gives_nothing_before_its_probe(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    open(&lab, 10 * MINUTE).await;
    let empty = claim(&lab).await;
    assert!(empty.leases.is_empty() && empty.next_due.is_none(), "there is nothing to probe with");
    assert_eq!(empty.status, TargetStatus::Active);
    lab.add_many(3).await;
    let held = claim(&lab).await;
    assert_eq!((held.leases.len(), held.breaker), (0, lab.target("app").await.breaker));
    let due = held.next_due.unwrap();
    assert!(due <= 10 * MINUTE && due > 9 * MINUTE, "{due:?}");
    assert_eq!(lab.target("app").await.queued, 3);
}

pub async fn a_probe_is_one_lease_and_keeps_others_from_probing(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let added = lab.add_many(3).await;
    open(&lab, MINUTE).await;
    lab.clock.advance(2 * MINUTE);
    let hold = 5 * MINUTE;
    let given = lab.claim_with(ClaimWanted { probe_hold: hold, ..wanted("app") }).await;
    assert_eq!((ids(&given.leases), given.more), (vec![added[0]], More::None));
    let due = given.next_due.unwrap();
    assert!(due <= hold && due > hold - MOMENT, "{due:?}");
    let (_, failed_probes, probe_at) = opened(given.breaker);
    assert!(given.breaker.revision == 1 && failed_probes == 0 && is_in(&lab, probe_at, hold));
    assert_eq!(lab.target("app").await.breaker, given.breaker, "the claim is no turn");
    lab.clock.advance(4 * MINUTE);
    assert!(claim(&lab).await.leases.is_empty(), "another probe may be under way");
    lab.clock.advance(MINUTE);
    assert_eq!(ids(&claim(&lab).await.leases), [added[1]], "the first one's relay must have died");
}

pub async fn a_probe_takes_what_was_never_attempted_first(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let waiting = two_waiting(&lab).await;
    let returned = lab.add("user.created", "user_8").await;
    let lease = lab.claim_one("app").await;
    lab.settle(lease, Transition::Return).await;
    let new = lab.add("user.created", "user_9").await;
    lab.clock.advance(2 * 60 * MINUTE); // now all are ready
    open(&lab, Duration::ZERO).await;
    let mut probed = Vec::new();
    for _ in 0..4 {
        probed.extend(ids(&claim(&lab).await.leases));
        lab.clock.advance(2 * MINUTE); // past the hold
    }
    assert_eq!(probed[..2], [new, returned]);
    assert!(waiting.contains(&probed[2]) && waiting.contains(&probed[3]) && probed[2] != probed[3]);
}

pub async fn a_probe_takes_the_least_attempted_whenever_it_is_due(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let added = lab.add_many(3).await;
    for lease in lab.claim("app").await {
        let after = if lease.event_id() == added[1] { DAY } else { Duration::ZERO };
        lab.fail(lease, after).await;
    }
    for lease in lab.claim("app").await {
        lab.fail(lease, Duration::ZERO).await; // the two others once more
    }
    open(&lab, Duration::ZERO).await;
    let probe = claim(&lab).await.leases;
    assert_eq!(ids(&probe), [added[1]]);
    assert_eq!(probe[0].progress().attempts, 1);
}

pub async fn a_probe_keeps_the_order_of_its_subject(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let in_order = || lab.claim_with(wanted_in_order("app"));
    let head = lab.add("user.created", "user_1").await;
    let lease = in_order().await.leases.remove(0);
    let behind = lab.add("user.updated", "user_1").await;
    open(&lab, Duration::ZERO).await;
    let none = in_order().await;
    assert!(none.leases.is_empty(), "the head is under way");
    assert_eq!(lab.state(behind, "app").await, State::Parked);
    let other = lab.add("user.updated", "user_2").await;
    let probe = in_order().await.leases;
    assert_eq!(ids(&probe), [other], "nothing had been spent");
    lab.fail(lease, 60 * MINUTE).await;
    lab.clock.advance(2 * MINUTE);
    assert_eq!(ids(&in_order().await.leases), [head], "its due time is ignored, its place is not");
    lab.clock.advance(2 * MINUTE);
    assert!(in_order().await.leases.is_empty());
}

pub async fn without_anything_to_probe_with_the_next_event_is_the_probe(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    open(&lab, MINUTE).await;
    let before = lab.target("app").await.breaker;
    lab.clock.advance(2 * MINUTE);
    let empty = claim(&lab).await;
    assert!(empty.leases.is_empty() && empty.next_due.is_none());
    assert_eq!(empty.breaker, before, "the probe stays due");
    let added = lab.add_many(2).await;
    assert_eq!(ids(&claim(&lab).await.leases), [added[0]]);
}

pub async fn a_claim_without_room_spends_no_probe(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let added = lab.add_many(2).await;
    open(&lab, Duration::ZERO).await;
    let before = lab.target("app").await.breaker;
    let looked = lab.claim_with(ClaimWanted { leases_max: 0, ..wanted("app") }).await;
    assert_eq!((looked.leases.len(), looked.breaker), (0, before));
    let narrow = lab.claim_with(ClaimWanted { leases_max: 1, bytes_max: 1, ..wanted("app") }).await;
    assert_eq!(ids(&narrow.leases), [added[0]]);
}

pub async fn a_failed_probe_counts_and_one_without_an_attempt_does_not(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    open(&lab, MINUTE).await;
    let (opened_at, ..) = opened(lab.target("app").await.breaker);
    lab.clock.advance(5 * MINUTE);
    open(&lab, 2 * MINUTE).await;
    let once = lab.target("app").await.breaker;
    let (since, failed_probes, probe_at) = opened(once);
    assert_eq!((once.revision, since, failed_probes), (2, opened_at, 1));
    assert!(is_in(&lab, probe_at, 2 * MINUTE));
    open(&lab, Duration::ZERO).await;
    let untold = lab.target("app").await.breaker;
    let (since, failed_probes, probe_at) = opened(untold);
    assert_eq!((untold.revision, since, failed_probes), (3, opened_at, 1));
    assert!(is_in(&lab, probe_at, Duration::ZERO));
}

pub async fn closing_makes_what_waits_due_again_and_spreads_it(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let added = lab.add_many(6).await;
    let soon = Duration::from_secs(2);
    for lease in lab.claim("app").await {
        let after = if lease.event_id() == added[3] { soon } else { DAY };
        lab.fail(lease, after).await;
    }
    open(&lab, DAY).await;
    let unreached = lab.add("user.created", "user_9").await;
    let span = 10 * MINUTE;
    let before = lab.clock.now();
    close(&lab, span).await;
    let mut dues = Vec::new();
    for id in &added {
        dues.push(lab.delivery(*id, "app").await.view.due_at.unwrap());
    }
    assert!(dues[3] <= before.plus(soon), "what was due sooner stays so");
    dues.remove(3);
    dues.sort_unstable();
    let latest = lab.clock.now().plus(span);
    assert!(dues.iter().all(|due| *due <= latest), "{dues:?}");
    for pair in dues.windows(2) {
        let gap = pair[1].since(pair[0]);
        assert!(gap > MINUTE && gap < 4 * MINUTE, "{dues:?} are not spread evenly");
    }
    lab.clock.advance(span);
    let mut claimed = ids(&lab.claim("app").await);
    claimed.sort_unstable();
    assert_eq!(claimed, [added, vec![unreached]].concat());
}

pub async fn closing_a_closed_breaker_changes_nothing(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let waiting = two_waiting(&lab).await;
    assert_eq!(turn(&lab, 0, Turn::Close { spread: MINUTE }).await, Controlled::Unchanged);
    assert_eq!(lab.target("app").await.breaker, Breaker::default());
    let due = lab.delivery(waiting[0], "app").await.view.due_at.unwrap();
    assert!(is_in(&lab, due, 60 * MINUTE));
}

pub async fn a_breaker_survives_a_reopening(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    lab.add_many(1).await;
    open(&lab, MINUTE).await;
    open(&lab, 9 * MINUTE).await;
    let before = lab.target("app").await.breaker;
    let lab = lab.reopen().await;
    assert_eq!(lab.target("app").await.breaker, before);
    let claimed = claim(&lab).await;
    assert_eq!((claimed.leases.len(), claimed.breaker), (0, before));
    close(&lab, MINUTE).await;
    let before = lab.target("app").await.breaker;
    let lab = lab.reopen().await;
    assert_eq!(lab.target("app").await.breaker, before);
    lab.declare(&["app"]).await;
    assert_eq!(claim(&lab).await.leases.len(), 1);
}

pub async fn settles_are_applied_while_the_breaker_is_open(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let added = lab.add_many(4).await;
    let mut leases = lab.claim("app").await;
    open(&lab, DAY).await;
    lab.deliver(leases.remove(0)).await;
    lab.fail(leases.remove(0), MINUTE).await;
    lab.die(leases.remove(0)).await;
    lab.settle(leases.remove(0), Transition::Return).await;
    let mut states = Vec::new();
    for id in &added {
        states.push(lab.state(*id, "app").await);
    }
    assert_eq!(states, [State::Delivered, State::Waiting, State::Dead, State::Queued]);
    lab.clock.advance(60 * MINUTE);
    assert!(claim(&lab).await.leases.is_empty(), "what came back is held like the rest");
}

pub async fn a_pause_and_an_age_count_whatever_the_breaker_is(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let old = lab.add("user.created", "user_1").await;
    open(&lab, Duration::ZERO).await;
    let before = lab.target("app").await.breaker;
    let pause = Control::Pause(PauseReason::Operator);
    assert_eq!(lab.store.control(&name("app"), pause).await.unwrap(), Controlled::Changed);
    let paused = claim(&lab).await;
    assert!(paused.leases.is_empty() && paused.next_due.is_none());
    assert_eq!(paused.breaker, before, "no probe is spent on a paused target");
    lab.clock.advance(15 * DAY);
    let too_old = ClaimWanted { scope: ClaimScope::OlderThan(14 * DAY), ..wanted("app") };
    let claimed = lab.claim_with(too_old).await;
    assert_eq!((ids(&claimed.leases), claimed.breaker), (vec![old], before));
}

pub async fn a_breaker_is_its_targets_own(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app", "other"]).await;
    let added = lab.add_many(3).await;
    open(&lab, DAY).await;
    let other = lab.claim_with(wanted("other")).await;
    assert_eq!((ids(&other.leases), other.breaker), (added, Breaker::default()));
    assert_eq!(lab.claim_with(wanted("nobody")).await.breaker, Breaker::default());
}

pub async fn a_forgotten_target_has_no_breaker_to_turn(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let to = Turn::Open { probe_after: DAY };
    let of_nobody = lab.store.control(&name("nobody"), Control::Turn { from: 0, to }).await.unwrap();
    assert_eq!(of_nobody, Controlled::Refused);
    open(&lab, DAY).await;
    lab.declare(&[]).await;
    lab.store.control(&name("app"), Control::Forget).await.unwrap();
    assert_eq!(turn(&lab, 1, Turn::Close { spread: MINUTE }).await, Controlled::Refused);
    lab.declare(&["app"]).await;
    assert_eq!(lab.target("app").await.breaker, Breaker::default(), "it begins anew");
}

pub async fn a_turn_rings_the_bell(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let mut bell = lab.store.bell();
    bell.borrow_and_update();
    open(&lab, MINUTE).await;
    tokio::time::timeout(MINUTE, bell.changed()).await.expect("it rings for opening").unwrap();
    bell.borrow_and_update();
    close(&lab, MINUTE).await;
    tokio::time::timeout(MINUTE, bell.changed()).await.expect("it rings for closing").unwrap();
}
