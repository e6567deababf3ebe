//! The life of a delivery: every arrow of the table is there and no other, and each outcome decides one transition.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use clerk_relay::backoff::RetryPolicy;
use clerk_relay::clock::Timestamp;
use clerk_relay::event::{BodyHash, Event, ksuid};
use clerk_relay::lifecycle::{
    Cause, DeadReason, Footing, Next, Outcome, Policy, Progress, RETRY_AFTER_MAX, SkipReason, State,
    TakenOver, Transition, arrow, before_attempt, decide,
};
use clerk_relay::secret::SecretId;
use proptest::prelude::*;

use Cause::*;
use State::*;

/// The table of the README's diagram, written out once more: (from, cause, to).
fn table() -> Vec<(Option<State>, Cause, Next)> {
    let to = Next::To;
    let mut table = vec![
        (None, Stored, to(Queued)),
        (Some(Queued), Claimed, to(InFlight)),
        (Some(Waiting), Claimed, to(InFlight)),
        (Some(InFlight), Succeeded, to(Delivered)),
        (Some(InFlight), Failed, to(Waiting)),
        (Some(InFlight), GivenUp, to(Dead)),
        (Some(InFlight), Expired, to(Dead)),
        (Some(InFlight), ReturnedUntried, to(Queued)),
        (Some(InFlight), Returned, to(Waiting)),
        (Some(InFlight), Filtered, to(Skipped)),
        (Some(Queued), HeldBySubject, to(Parked)),
        (Some(Parked), HeadEnded, to(Waiting)),
        (Some(Waiting), SucceededElsewhere, to(Delivered)),
    ];
    table.extend([Queued, Waiting, Parked].map(|from| (Some(from), Expired, to(Dead))));
    table.extend(
        [Dead, Waiting, Delivered, Skipped, Cancelled].map(|from| (Some(from), Retried, to(Waiting))),
    );
    table.extend([Queued, Waiting, Parked, Dead].map(|from| (Some(from), Discarded, to(Cancelled))));
    table.extend(
        [Queued, InFlight, Waiting, Parked, Dead].map(|from| (Some(from), Cause::Erased, to(Cancelled))),
    );
    table.extend([Delivered, Dead, Skipped, Cancelled].map(|from| (Some(from), Purged, Next::Gone)));
    table
}

#[test]
fn every_arrow_of_the_table_exists_and_no_other() {
    let table = table();
    let keys: HashSet<_> = table.iter().map(|(from, cause, _)| (*from, *cause)).collect();
    assert_eq!(keys.len(), table.len(), "two arrows leave one state by one cause");
    let froms = std::iter::once(None).chain(State::ALL.map(Some));
    let mut arrows = 0;
    for from in froms {
        for cause in Cause::ALL {
            let expected = table.iter().find(|row| (row.0, row.1) == (from, cause)).map(|row| row.2);
            assert_eq!(arrow(from, cause), expected, "{from:?} by {cause:?}");
            arrows += usize::from(expected.is_some());
        }
    }
    assert_eq!(arrows, table.len());
}

#[test]
fn every_state_but_the_ended_ones_can_still_end() {
    for state in State::ALL {
        let ends = Cause::ALL.into_iter().any(|cause| match arrow(Some(state), cause) {
            Some(Next::To(to)) => to.is_ended() && to != Cancelled,
            Some(Next::Gone) => true,
            None => false,
        });
        assert!(ends || state == InFlight, "{state:?} is a trap");
    }
}

#[test]
fn state_names_read_back() {
    for state in State::ALL {
        assert_eq!(state.as_str().parse(), Ok(state));
    }
    assert!("lost".parse::<State>().is_err());
}

fn policy(attempts: Option<u32>) -> Policy {
    Policy {
        retry: RetryPolicy { attempts, ..RetryPolicy::default() },
        expire: BTreeMap::new(),
        max_wait: Duration::from_secs(14 * 24 * 3600),
    }
}

const NOW: Timestamp = Timestamp::from_secs(1_784_000_000);

#[test]
fn the_budget_ends_by_attempts_or_by_age() {
    let failed = Outcome::Failed { retry_after: None };
    let exhausted = Transition::Die(DeadReason::Exhausted);
    let after = |attempts, first_s_ago| Progress {
        attempts,
        first_attempt_at: Some(NOW.minus(Duration::from_secs(first_s_ago))),
        ..Progress::default()
    };
    assert_eq!(decide(&after(2, 60), failed, Footing::Regular, &policy(Some(3)), NOW), exhausted);
    assert!(matches!(
        decide(&after(1, 60), failed, Footing::Regular, &policy(Some(3)), NOW),
        Transition::Wait { .. }
    ));
    assert_eq!(decide(&after(1, 3 * 24 * 3600), failed, Footing::Regular, &policy(None), NOW), exhausted);
    assert!(matches!(
        decide(&after(900, 3 * 24 * 3600 - 1), failed, Footing::Regular, &policy(None), NOW),
        Transition::Wait { .. }
    ));
}

#[test]
fn a_probe_never_uses_up_the_budget_but_a_permanent_answer_still_ends_it() {
    let long_ago = Some(NOW.minus(Duration::from_secs(30 * 24 * 3600)));
    let progress = Progress { attempts: 99, first_attempt_at: long_ago, ..Progress::default() };
    let probed = |outcome| decide(&progress, outcome, Footing::Probe, &policy(Some(3)), NOW);
    assert!(matches!(probed(Outcome::Failed { retry_after: None }), Transition::Wait { .. }));
    assert_eq!(probed(Outcome::Gone), Transition::Die(DeadReason::Gone));
    assert_eq!(probed(Outcome::Aborted), Transition::Die(DeadReason::Aborted));
    assert_eq!(probed(Outcome::Expired), Transition::Die(DeadReason::Expired));
    assert_eq!(probed(Outcome::Delivered), Transition::Deliver);
}

#[test]
fn retry_after_is_a_lower_bound_with_a_cap() {
    let wait = |secs| {
        let outcome = Outcome::Failed { retry_after: Some(Duration::from_secs(secs)) };
        let transition = decide(&Progress::default(), outcome, Footing::Regular, &policy(None), NOW);
        let Transition::Wait { after } = transition else { panic!("{transition:?}") };
        after
    };
    assert_eq!(wait(120), Duration::from_secs(120));
    assert_eq!(wait(999_999), RETRY_AFTER_MAX);
    assert!(wait(0) >= Duration::from_secs(4), "the schedule's own delay is the least");
}

/// An event of this type, born and received at `NOW`.
fn event(event_type: &str) -> Event {
    Event {
        source: "clerk".parse().unwrap(),
        svix_id: ksuid::make(NOW, [7; 16]).into(),
        event_type: event_type.into(),
        subject: None,
        instance_id: None,
        content_type: None,
        received_at: NOW,
        signed_at: NOW,
        secret_id: SecretId([0; 4]),
        remote: None,
        user_agent: None,
        body_hash: BodyHash::of(b"{}"),
        body: "{}".into(),
    }
}

#[test]
fn a_code_expires_from_its_birth_unless_someone_asked_for_it() {
    let ten_minutes = Duration::from_secs(600);
    let policy = Policy { expire: BTreeMap::from([("sms.created".to_owned(), ten_minutes)]), ..policy(None) };
    let untried = Progress::default();
    let late = Event { received_at: NOW.plus(Duration::from_secs(300)), ..event("sms.created") };
    assert_eq!(before_attempt(&untried, &late, &policy, NOW.plus(ten_minutes)), Some(Outcome::Expired));
    let just_before = NOW.plus(ten_minutes - Duration::from_secs(1));
    assert_eq!(before_attempt(&untried, &late, &policy, just_before), None);
    assert_eq!(before_attempt(&untried, &event("user.created"), &policy, NOW.plus(ten_minutes)), None);
    let retried = Progress { retried_at: Some(NOW.plus(ten_minutes)), ..untried };
    assert_eq!(before_attempt(&retried, &late, &policy, NOW.plus(2 * ten_minutes)), None);
}

#[test]
fn max_wait_counts_from_receipt_or_from_the_last_retry() {
    let (policy, event, untried) = (policy(None), event("user.created"), Progress::default());
    let over = NOW.plus(policy.max_wait);
    assert_eq!(before_attempt(&untried, &event, &policy, over), Some(Outcome::TooOld));
    assert_eq!(before_attempt(&untried, &event, &policy, over.minus(Duration::from_secs(1))), None);
    let retried = Progress { retried_at: Some(over), ..untried };
    assert_eq!(before_attempt(&retried, &event, &policy, over.plus(policy.max_wait / 2)), None);
}

#[test]
fn from_the_third_take_over_a_delivery_waits_uncounted() {
    let (policy, event) = (policy(None), event("user.created"));
    let after = |takeovers, taken_over| Progress { takeovers, taken_over, ..Progress::default() };
    assert_eq!(before_attempt(&after(2, TakenOver::Yes), &event, &policy, NOW), None);
    assert_eq!(before_attempt(&after(9, TakenOver::No), &event, &policy, NOW), None, "it has waited already");
    let third = after(3, TakenOver::Yes);
    assert_eq!(before_attempt(&third, &event, &policy, NOW), Some(Outcome::TakenOver));
    let transition = decide(&third, Outcome::TakenOver, Footing::Regular, &policy, NOW);
    assert!(matches!(transition, Transition::Postpone { after } if after >= Duration::from_secs(4)));
    assert!(!transition.counts());
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    let fixed = [
        Outcome::Delivered,
        Outcome::Gone,
        Outcome::Aborted,
        Outcome::Unwanted(SkipReason::EventType),
        Outcome::Unwanted(SkipReason::Source),
        Outcome::Expired,
        Outcome::TooOld,
        Outcome::Unreadable,
        Outcome::Erased,
        Outcome::Interrupted,
        Outcome::TakenOver,
    ];
    prop_oneof![
        proptest::sample::select(fixed.to_vec()),
        proptest::option::of(0u64..100_000)
            .prop_map(|secs| Outcome::Failed { retry_after: secs.map(Duration::from_secs) }),
    ]
}

proptest! {
    #[test]
    fn each_outcome_of_a_delivery_in_flight_is_exactly_one_arrow(
        outcome in outcomes(), attempts in any::<u32>(), takeovers in any::<u32>(), limit in proptest::option::of(1u32..50),
        first_ms in any::<i64>(), footing in proptest::sample::select(vec![Footing::Regular, Footing::Probe]),
    ) {
        let progress = Progress {
            attempts, attempts_total: attempts, takeovers, first_attempt_at: Some(Timestamp::from_ms(first_ms)),
            ..Progress::default()
        };
        let transition = decide(&progress, outcome, footing, &policy(limit), NOW);
        let next = arrow(Some(InFlight), transition.cause(attempts));
        prop_assert!(matches!(next, Some(Next::To(_))), "{outcome:?} leads nowhere");
        // Only what reached the target may use up the budget; being stopped never does.
        if matches!(outcome, Outcome::Interrupted | Outcome::TakenOver | Outcome::Expired | Outcome::TooOld | Outcome::Erased) {
            prop_assert!(!transition.counts());
        }
        if footing == Footing::Probe && matches!(outcome, Outcome::Failed { .. }) {
            prop_assert_eq!(next, Some(Next::To(Waiting)), "a probe killed");
        }
        if outcome == Outcome::Delivered {
            prop_assert_eq!(next, Some(Next::To(Delivered)));
        }
        // Where the event was erased meanwhile, nothing is attempted again and nothing is kept as a dead letter.
        let erased = arrow(Some(InFlight), transition.of_erased().cause(attempts));
        prop_assert!(matches!(erased, Some(Next::To(Delivered | Skipped | Cancelled))), "{erased:?}");
    }
}
