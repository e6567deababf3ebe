//! A replay from Clerk's dashboard: the old id, long after. What the targets then get is `on_replay`'s to say.

use std::time::Duration;

use clerk_relay::config::OnReplay;
use clerk_relay::lifecycle::{DeadReason, Ordering, Start, State, Transition};
use clerk_relay::store::{ClaimScope, ClaimWanted, Settle, Settled, TargetSpec};

use super::client::secret;
use super::relay::{Relay, Setup, source};

/// Longer than any quick retry of the sender.
const LATER: Duration = Duration::from_secs(11 * 60);

async fn start(on_replay: OnReplay) -> Relay {
    let mut clerk = source("clerk");
    clerk.on_replay = on_replay;
    clerk.signing_secrets = vec![secret(1), secret(2)];
    let relay = Relay::start(Setup { sources: vec![clerk], ..Setup::default() }).await;
    let targets = ["app", "crm"].map(|name| TargetSpec {
        name: name.parse().unwrap(),
        start: Start::Now,
        url_digest: String::new(),
    });
    relay.store.declare(&targets).await.unwrap();
    relay
}

/// The event's one delivery to `target` ends as `transition` says.
async fn settle(relay: &Relay, target: &str, transition: Transition) {
    let wanted = ClaimWanted {
        target: target.parse().unwrap(),
        leases_max: 1,
        bytes_max: 1_000_000,
        ordering: Ordering::None,
        unordered_types: [].into(),
        scope: ClaimScope::Ready,
        probe_hold: Duration::ZERO,
    };
    let lease = relay.store.claim(wanted).await.unwrap().leases.pop().expect("something to claim");
    let settle = Settle { lease, transition, attempt: None };
    assert_eq!(relay.store.settle(settle).await.unwrap(), Settled::Done);
}

async fn states(relay: &Relay) -> Vec<State> {
    let mut deliveries = relay.detail("msg_1").await.unwrap().deliveries;
    deliveries.sort_by_key(|delivery| delivery.view.target.clone());
    deliveries.into_iter().map(|delivery| delivery.view.state).collect()
}

/// One event, dead for `app` and delivered to `crm`.
async fn dead_and_delivered(relay: &Relay) {
    assert_eq!(relay.ask(&relay.post("msg_1", "{}")).await.status, 200);
    settle(relay, "app", Transition::Die(DeadReason::Exhausted)).await;
    settle(relay, "crm", Transition::Deliver).await;
    assert_eq!(states(relay).await, [State::Dead, State::Delivered]);
}

async fn post_again(relay: &Relay) {
    let answer = relay.ask(&relay.post("msg_1", "{}")).await;
    assert_eq!(answer.body, r#"{"received":true,"duplicate":true}"#);
}

#[tokio::test]
async fn retry_dead_rearms_only_what_is_dead() {
    let relay = start(OnReplay::RetryDead).await;
    dead_and_delivered(&relay).await;
    post_again(&relay).await;
    assert_eq!(states(&relay).await, [State::Dead, State::Delivered], "a quick retry is no replay");
    relay.clock.advance(LATER);
    post_again(&relay).await;
    assert_eq!(states(&relay).await, [State::Waiting, State::Delivered]);
}

#[tokio::test]
async fn redeliver_rearms_every_target() {
    let relay = start(OnReplay::Redeliver).await;
    dead_and_delivered(&relay).await;
    relay.clock.advance(LATER);
    post_again(&relay).await;
    assert_eq!(states(&relay).await, [State::Waiting, State::Waiting]);
}

#[tokio::test]
async fn ignore_rearms_nothing() {
    let relay = start(OnReplay::Ignore).await;
    dead_and_delivered(&relay).await;
    relay.clock.advance(LATER);
    post_again(&relay).await;
    assert_eq!(states(&relay).await, [State::Dead, State::Delivered]);
}

#[tokio::test]
async fn the_same_event_by_another_secret_is_no_replay() {
    let relay = start(OnReplay::RetryDead).await;
    dead_and_delivered(&relay).await;
    relay.clock.advance(LATER);
    let answer = relay.ask(&relay.post("msg_1", "{}").signed_with(secret(2))).await;
    assert_eq!(answer.status, 200);
    assert_eq!(states(&relay).await, [State::Dead, State::Delivered]);
}
