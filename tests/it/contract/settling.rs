//! Laws of settling: a transition leads where its arrow says, under a lease that is held, once.

use std::time::Duration;

use bytes::Bytes;
use clerk_relay::lifecycle::attempt::{
    ATTEMPTS_KEPT, Attempt, EARLIER_REPLY_BYTES_MAX, ErrorClass, REPLY_BYTES_MAX, ReplyRead,
};
use clerk_relay::lifecycle::hint::Hint;
use clerk_relay::lifecycle::{DeadReason, Next, SkipReason, State, TakenOver, Transition, arrow};
use clerk_relay::store::query::{DeliveryQuery, Page};
use clerk_relay::store::{Lease, Settle, Settled};

use super::harness::{Kind, Lab, MINUTE, wanted};

fn transitions() -> Vec<Transition> {
    let after = MINUTE;
    let mut all = vec![
        Transition::Deliver,
        Transition::Wait { after },
        Transition::Return,
        Transition::Postpone { after },
    ];
    all.extend(DeadReason::ALL.map(Transition::Die));
    all.extend(SkipReason::ALL.map(Transition::Skip));
    all
}

fn reason(transition: Transition) -> Option<&'static str> {
    match transition {
        Transition::Die(reason) => Some(reason.as_str()),
        Transition::Skip(reason) => Some(reason.as_str()),
        Transition::Deliver | Transition::Wait { .. } | Transition::Return | Transition::Postpone { .. } => {
            None
        }
    }
}

pub async fn every_transition_leads_where_its_arrow_says(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    for attempts_before in [0, 1] {
        for transition in transitions() {
            let id = lab.add("user.created", "user_1").await;
            let mut lease = lab.claim_one("app").await;
            if attempts_before == 1 {
                lab.fail(lease, Duration::ZERO).await;
                lease = lab.claim_one("app").await;
            }
            assert_eq!(lease.progress().attempts, attempts_before);
            assert_eq!(lab.settle(lease, transition).await, Settled::Done, "{transition:?}");
            let view = lab.delivery(id, "app").await.view;
            let expected = arrow(Some(State::InFlight), transition.cause(attempts_before));
            assert_eq!(Some(Next::To(view.state)), expected, "{transition:?}");
            assert_eq!(view.attempts, attempts_before + u32::from(transition.counts()), "{transition:?}");
            assert_eq!(view.reason.as_deref(), reason(transition), "{transition:?}");
            assert_eq!(view.due_at.is_some(), !view.state.is_ended(), "{transition:?}");
            if !view.state.is_ended() {
                lab.clock.advance(MINUTE);
                let lease = lab.claim_one("app").await;
                lab.deliver(lease).await;
            }
        }
    }
}

pub async fn a_lease_settles_once(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let id = lab.add("user.created", "user_1").await;
    let lease = lab.claim_one("app").await;
    let stale = Settle { lease, transition: Transition::Wait { after: Duration::ZERO }, attempt: None };
    let (again, once_more) = (stale.again(), stale.again());
    assert_eq!(lab.store.settle(stale).await.unwrap(), Settled::Done);
    assert_eq!(lab.store.settle(again).await.unwrap(), Settled::Lost);
    let lease = lab.claim_one("app").await;
    assert_eq!(lab.store.settle(once_more).await.unwrap(), Settled::Lost, "someone else has it now");
    assert_eq!(lab.state(id, "app").await, State::InFlight);
    lab.deliver(lease).await;
    assert_eq!(lab.delivery(id, "app").await.view.attempts, 2);
}

pub async fn a_lease_from_before_a_reopening_cannot_settle(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let id = lab.add("user.created", "user_1").await;
    let stale = lab.claim_one("app").await;
    let lab = lab.reopen().await;
    let fresh = lab.claim_one("app").await;
    assert_eq!(lab.settle(stale, Transition::Die(DeadReason::Gone)).await, Settled::Lost);
    assert_eq!(lab.state(id, "app").await, State::InFlight);
    lab.deliver(fresh).await;
    assert_eq!(lab.state(id, "app").await, State::Delivered);
}

pub async fn a_settle_can_be_sent_again(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let id = lab.add("user.created", "user_1").await;
    let lease = lab.claim_one("app").await;
    let settle = Settle { lease, transition: Transition::Wait { after: MINUTE }, attempt: None };
    assert_eq!(lab.store.settle(settle.again()).await.unwrap(), Settled::Done);
    for _ in 0..3 {
        assert_eq!(lab.store.settle(settle.again()).await.unwrap(), Settled::Lost);
    }
    assert_eq!(lab.delivery(id, "app").await.view.attempts, 1);
}

pub async fn a_return_counts_nothing(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let id = lab.add("user.created", "user_1").await;
    for _ in 0..5 {
        let lease = lab.claim_one("app").await;
        assert_eq!(*lease.progress(), Default::default());
        lab.settle(lease, Transition::Return).await;
        assert_eq!(lab.state(id, "app").await, State::Queued);
    }
    let lease = lab.claim_one("app").await;
    lab.fail(lease, Duration::ZERO).await;
    let lease = lab.claim_one("app").await;
    lab.settle(lease, Transition::Return).await;
    let detail = lab.delivery(id, "app").await;
    assert_eq!((detail.view.state, detail.view.attempts, detail.attempts.len()), (State::Waiting, 1, 1));
    lab.claim_one("app").await;
}

pub async fn a_delivery_in_flight_is_taken_over_uncounted(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let untried = lab.add("user.created", "user_1").await;
    lab.claim_one("app").await;
    let lab = lab.reopen().await;
    assert_eq!(lab.state(untried, "app").await, State::Queued);
    let lease = lab.claim_one("app").await;
    let progress = *lease.progress();
    assert_eq!((progress.takeovers, progress.attempts, progress.taken_over), (1, 0, TakenOver::Yes));
    let lab = lab.reopen().await;
    let lease = lab.claim_one("app").await;
    assert_eq!((lease.progress().takeovers, lease.progress().attempts), (2, 0));
    lab.fail(lease, Duration::ZERO).await;
    lab.claim_one("app").await;
    let lab = lab.reopen().await;
    assert_eq!(lab.state(untried, "app").await, State::Waiting, "it was attempted before");
    let view = lab.delivery(untried, "app").await.view;
    assert_eq!((view.takeovers, view.attempts), (3, 1));
}

pub async fn the_mark_of_a_take_over_goes_with_the_next_settle(kind: &dyn Kind) {
    for transition in
        [Transition::Return, Transition::Postpone { after: MINUTE }, Transition::Wait { after: MINUTE }]
    {
        let lab = Lab::with_targets(kind, &["app"]).await;
        lab.add("user.created", "user_1").await;
        lab.claim_one("app").await;
        let lab = lab.reopen().await;
        let lease = lab.claim_one("app").await;
        assert_eq!(lease.progress().taken_over, TakenOver::Yes);
        lab.settle(lease, transition).await;
        lab.clock.advance(MINUTE);
        let lease = lab.claim_one("app").await;
        assert_eq!((lease.progress().taken_over, lease.progress().takeovers), (TakenOver::No, 1));
    }
}

pub async fn a_success_at_once_keeps_its_attempt(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let id = lab.add("user.created", "user_1").await;
    let lease = lab.claim_one("app").await;
    let at = lab.clock.now();
    lab.deliver(lease).await;
    let detail = lab.delivery(id, "app").await;
    assert_eq!((detail.view.last_status, detail.view.last_error), (Some(204), None));
    let [attempt] = detail.attempts.as_slice() else { panic!("{:?}", detail.attempts) };
    assert_eq!((attempt.number, attempt.status, attempt.took), (1, Some(204), Duration::from_millis(12)));
    assert!(attempt.at >= at && attempt.at <= lab.clock.now());
}

fn failure(lease: &Lease, at: clerk_relay::clock::Timestamp, reply_bytes: usize) -> Attempt {
    Attempt {
        number: lease.progress().attempts_total + 1,
        at,
        took: Duration::from_millis(5),
        status: Some(500),
        error: Some(ErrorClass::Status),
        hint: Some(Hint::AppDown),
        reply: Bytes::from(vec![b'x'; reply_bytes]),
        reply_read: ReplyRead::Truncated,
    }
}

pub async fn the_newest_twenty_attempts_are_kept_and_earlier_replies_are_short(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let id = lab.add("user.created", "user_1").await;
    for _ in 0..25 {
        let lease = lab.claim_one("app").await;
        let attempt = Some(failure(&lease, lab.clock.now(), REPLY_BYTES_MAX + 100));
        let settle = Settle { lease, transition: Transition::Wait { after: Duration::ZERO }, attempt };
        assert_eq!(lab.store.settle(settle).await.unwrap(), Settled::Done);
    }
    let lease = lab.claim_one("app").await;
    lab.deliver(lease).await;
    let attempts = lab.delivery(id, "app").await.attempts;
    let numbers: Vec<u32> = attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, (7..=26).collect::<Vec<u32>>());
    assert_eq!(attempts.len(), ATTEMPTS_KEPT);
    for earlier in &attempts[..19] {
        assert_eq!((earlier.reply.len(), earlier.status), (EARLIER_REPLY_BYTES_MAX, Some(500)));
        assert_eq!(earlier.reply_read, ReplyRead::Truncated);
    }
    assert_eq!(attempts[19].status, Some(204));

    let other = lab.add("user.created", "user_2").await;
    let lease = lab.claim_one("app").await;
    let attempt = Some(failure(&lease, lab.clock.now(), REPLY_BYTES_MAX + 100));
    lab.store
        .settle(Settle { lease, transition: Transition::Wait { after: MINUTE }, attempt })
        .await
        .unwrap();
    assert_eq!(lab.delivery(other, "app").await.attempts[0].reply.len(), REPLY_BYTES_MAX);
}

pub async fn a_hint_comes_back_with_its_attempt_and_its_delivery(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let id = lab.add("user.created", "user_1").await;
    let hints = || Hint::ALL.into_iter().map(Some).chain([None]);
    for hint in hints() {
        let lease = lab.claim_one("app").await;
        let attempt = Some(Attempt { hint, ..failure(&lease, lab.clock.now(), 3) });
        let settle = Settle { lease, transition: Transition::Wait { after: Duration::ZERO }, attempt };
        assert_eq!(lab.store.settle(settle).await.unwrap(), Settled::Done);
        assert_eq!(lab.delivery(id, "app").await.view.last_hint, hint);
    }
    let kept: Vec<_> = lab.delivery(id, "app").await.attempts.iter().map(|attempt| attempt.hint).collect();
    assert_eq!(kept, hints().skip(hints().count() - ATTEMPTS_KEPT).collect::<Vec<_>>());

    let lease = lab.claim_one("app").await;
    lab.die(lease).await;
    let lab = lab.reopen().await;
    let rows = lab.store.deliveries(DeliveryQuery::default(), Page::first(10)).await.unwrap().rows;
    assert_eq!(
        rows.iter().map(|row| row.last_hint).collect::<Vec<_>>(),
        [Some(Hint::AppDown)],
        "in lists too"
    );
    let retried = lab.add("user.created", "user_2").await;
    let lease = lab.claim_one("app").await;
    lab.deliver(lease).await;
    assert_eq!(lab.delivery(retried, "app").await.view.last_hint, None);
}

pub async fn a_wait_is_measured_by_the_stores_clock(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let id = lab.add("user.created", "user_1").await;
    let lease = lab.claim_one("app").await;
    let before = lab.clock.now();
    lab.fail(lease, 10 * MINUTE).await;
    let due = lab.delivery(id, "app").await.view.due_at.unwrap();
    assert!(due >= before.plus(10 * MINUTE) && due <= lab.clock.now().plus(10 * MINUTE));
    lab.clock.advance(9 * MINUTE);
    assert!(lab.claim_with(wanted("app")).await.leases.is_empty());
    lab.clock.advance(MINUTE);
    lab.claim_one("app").await;
}
