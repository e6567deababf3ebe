//! Laws of targets: declared, paused, resumed, orphaned, forgotten; none of it loses what was kept.

use clerk_relay::lifecycle::{Start, State, Transition};
use clerk_relay::store::query::TargetStatus;
use clerk_relay::store::{Control, Controlled, PauseReason, Settled, TargetChange};

use super::harness::{DAY, Kind, Lab, MINUTE, ids, name};

async fn control(lab: &Lab, target: &str, control: Control) -> Controlled {
    lab.store.control(&name(target), control).await.unwrap()
}

pub async fn a_paused_target_keeps_everything(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let failed = lab.add("user.created", "user_1").await;
    let lease = lab.claim_one("app").await;
    let in_flight = lab.add("user.created", "user_2").await;
    let other = lab.claim_one("app").await;
    assert_eq!(control(&lab, "app", Control::Pause(PauseReason::Operator)).await, Controlled::Changed);
    lab.fail(lease, MINUTE).await;
    let new = lab.add("user.created", "user_3").await;
    lab.clock.advance(DAY);
    assert!(lab.claim("app").await.is_empty());
    lab.deliver(other).await;
    assert_eq!(lab.state(in_flight, "app").await, State::Delivered, "what was under way may end");
    let lab = lab.reopen().await;
    assert_eq!(lab.target("app").await.status, TargetStatus::Paused(PauseReason::Operator));
    assert!(lab.claim("app").await.is_empty());
    assert_eq!(control(&lab, "app", Control::Resume).await, Controlled::Changed);
    let mut claimed = ids(&lab.claim("app").await);
    claimed.sort_unstable();
    assert_eq!(claimed, [failed, new]);
}

pub async fn pausing_twice_changes_nothing(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    assert_eq!(control(&lab, "app", Control::Resume).await, Controlled::Unchanged);
    assert_eq!(control(&lab, "app", Control::Pause(PauseReason::Gone)).await, Controlled::Changed);
    assert_eq!(control(&lab, "app", Control::Pause(PauseReason::Gone)).await, Controlled::Unchanged);
    assert_eq!(lab.target("app").await.status, TargetStatus::Paused(PauseReason::Gone));
    assert_eq!(control(&lab, "nobody", Control::Pause(PauseReason::Gone)).await, Controlled::Refused);
}

pub async fn an_orphan_keeps_its_place(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app", "other"]).await;
    assert_eq!(lab.declare(&["app", "other"]).await, []);
    let first = lab.add("user.created", "user_1").await;
    assert_eq!(lab.declare(&["other"]).await, [TargetChange::Orphaned(name("app"))]);
    assert_eq!(lab.target("app").await.status, TargetStatus::Orphan);
    let second = lab.add("user.created", "user_2").await;
    assert!(lab.claim("app").await.is_empty());
    assert_eq!(lab.target("app").await.queued, 2);
    let lab = lab.reopen().await;
    assert_eq!(lab.declare(&["app", "other"]).await, [TargetChange::Returned(name("app"))]);
    assert_eq!(ids(&lab.claim("app").await), [first, second]);
}

pub async fn a_target_begins_now_or_at_the_beginning(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["old"]).await;
    let before = lab.add_many(3).await;
    assert_eq!(lab.declare(&["old", "now"]).await, [TargetChange::Added(name("now"))]);
    let added = lab.declare_from(&["old", "now", "all"], Start::Beginning).await;
    assert_eq!(added, [TargetChange::Added(name("all"))]);
    let after = lab.add("user.created", "user_9").await;
    assert_eq!((lab.target("now").await.queued, lab.target("all").await.queued), (1, 4));
    assert_eq!(ids(&lab.claim("now").await), [after]);
    assert_eq!(ids(&lab.claim("all").await), [before, vec![after]].concat());
}

pub async fn a_forgotten_target_holds_nothing_and_begins_anew(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let failed = lab.add("user.created", "user_1").await;
    let lease = lab.claim_one("app").await;
    lab.fail(lease, MINUTE).await;
    let unreached = lab.add("user.created", "user_2").await;
    lab.declare(&[]).await;
    assert_eq!(control(&lab, "app", Control::Forget).await, Controlled::Changed);
    assert_eq!(control(&lab, "app", Control::Forget).await, Controlled::Refused, "it is gone");
    assert!(lab.store.overview().await.unwrap().targets.is_empty());
    assert_eq!(lab.state(failed, "app").await, State::Cancelled, "its history can be looked up");
    lab.clock.advance(8 * DAY);
    assert_eq!(lab.store.sweep(500).await.unwrap().events, 2);
    assert!(!lab.is_kept(unreached).await);

    let kept = lab.add("user.created", "user_3").await;
    let again = lab.declare_from(&["app"], Start::Beginning).await;
    assert_eq!(again, [TargetChange::Added(name("app"))]);
    assert_eq!(ids(&lab.claim("app").await), [kept]);
}

pub async fn only_an_orphan_can_be_forgotten(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    assert_eq!(control(&lab, "app", Control::Forget).await, Controlled::Refused);
    assert_eq!(control(&lab, "nobody", Control::Forget).await, Controlled::Refused);
    assert_eq!(lab.target("app").await.status, TargetStatus::Active);
}

pub async fn a_lease_of_a_forgotten_target_still_ends(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let added = lab.add_many(3).await;
    let mut leases = lab.claim("app").await;
    lab.declare(&[]).await;
    control(&lab, "app", Control::Forget).await;
    lab.deliver(leases.remove(0)).await;
    assert_eq!(lab.settle(leases.remove(0), Transition::Wait { after: MINUTE }).await, Settled::Done);
    assert_eq!(lab.state(added[0], "app").await, State::Delivered);
    assert_eq!(lab.state(added[1], "app").await, State::Cancelled);
    let lab = lab.reopen().await;
    assert_eq!(lab.state(added[2], "app").await, State::Cancelled);
    // Meeting its own history, a target that comes back gets everything again.
    lab.declare_from(&["app"], Start::Beginning).await;
    assert_eq!(ids(&lab.claim("app").await), added);
}
