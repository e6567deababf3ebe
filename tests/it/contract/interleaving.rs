//! Order by subject as a property: whatever is interleaved, no delivery passes an earlier one of its subject, none runs
//! beside another of its subject, and everything ends. The same steps run on every adapter; behind a wire that fails,
//! relays crash and replies of claims are lost as well.

use std::collections::HashMap;
use std::time::Duration;

use clerk_relay::event::EventId;
use clerk_relay::lifecycle::{DeadReason, SkipReason, State, Transition};
use clerk_relay::store::query::{DeliveryQuery, Redrive, RedriveAction};
use clerk_relay::store::{ClaimWanted, Lease, Settled, StoreError};
use proptest::prelude::*;

use super::harness::{Kind, Lab, OnRedis, OnSqlite, Setup, new, redrive, wanted_in_order};
use crate::support::events;
use crate::support::proxy::Proxy;
use crate::support::redis::RedisServer;
use crate::support::relay::eventually;

/// Cases on Redis: each has a server of its own.
const CASES_ON_REDIS: u32 = 8;

#[derive(Debug, Clone)]
pub enum Step {
    Add {
        subject: u8,
        exempt: bool,
    },
    Claim {
        leases_max: usize,
    },
    Settle {
        which: prop::sample::Index,
        how: u8,
    },
    Pass {
        seconds: u64,
    },
    Retry,
    Reopen,
    /// The relay's lease is given up while it lives on, and another one takes over.
    Crash,
    /// The reply of a claim never comes.
    LoseClaim,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..3_u8, prop::bool::weighted(0.1)).prop_map(|(subject, exempt)| Step::Add { subject, exempt }),
        4 => (1..5_usize).prop_map(|leases_max| Step::Claim { leases_max }),
        6 => (any::<prop::sample::Index>(), 0..8_u8).prop_map(|(which, how)| Step::Settle { which, how }),
        2 => (1..90_u64).prop_map(|seconds| Step::Pass { seconds }),
        1 => Just(Step::Retry),
        1 => Just(Step::Reopen),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..60)
}

/// The same with what only happens between a relay and its server.
pub fn steps_with_faults() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![18 => step(), 1 => Just(Step::Crash), 3 => Just(Step::LoseClaim)];
    prop::collection::vec(step, 1..60)
}

/// What the order promises, seen from outside.
#[derive(Default)]
struct Seen {
    subjects: HashMap<EventId, String>,
    in_flight: Vec<Lease>,
    ended: Vec<EventId>,
    retried: Vec<EventId>,
}

impl Seen {
    fn check(&self, lease: &Lease) {
        let id = lease.event_id();
        let Some(subject) = self.subjects.get(&id) else { return };
        let same = |other: EventId| self.subjects.get(&other) == Some(subject);
        for other in &self.in_flight {
            assert!(!same(other.event_id()), "{id} runs beside {}", other.event_id());
        }
        if self.retried.contains(&id) {
            return; // outside the order promise
        }
        for (earlier, _) in self.subjects.iter().filter(|(earlier, _)| **earlier < id && same(**earlier)) {
            assert!(self.ended.contains(earlier), "{id} passed {earlier}");
        }
    }
}

fn transition(how: u8) -> Transition {
    match how {
        0..=2 => Transition::Deliver,
        3 => Transition::Wait { after: Duration::from_secs(30) },
        4 => Transition::Die(DeadReason::Exhausted),
        5 => Transition::Skip(SkipReason::Source),
        6 => Transition::Postpone { after: Duration::from_secs(5) },
        _ => Transition::Return,
    }
}

/// What stands between a relay and its server.
pub struct Wire {
    pub server: RedisServer,
    pub proxy: Proxy,
}

struct World<'k> {
    kind: &'k dyn Kind,
    wire: Option<&'k Wire>,
    lab: Lab,
    seen: Seen,
    added: u32,
}

/// Goes through `steps`, and lets everything end.
pub async fn run(steps: Vec<Step>, kind: &dyn Kind, wire: Option<&Wire>) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let mut world = World { kind, wire, lab, seen: Seen::default(), added: 0 };
    for step in steps {
        world = world.go(step).await;
    }
    // Whatever happened, everything ends.
    for _ in 0..400 {
        world.take(8).await;
        let leases: Vec<Lease> = world.seen.in_flight.drain(..).collect();
        for lease in leases {
            world.end(lease, Transition::Deliver).await;
        }
        let target = world.lab.target("app").await;
        if target.queued + target.waiting + target.parked + target.in_flight == 0 {
            assert_eq!(world.seen.subjects.keys().filter(|id| !world.seen.ended.contains(id)).count(), 0);
            return;
        }
        world.lab.clock.advance(Duration::from_secs(10));
    }
    panic!("something never ended: {:?}", world.lab.target("app").await);
}

impl World<'_> {
    async fn go(mut self, step: Step) -> Self {
        match step {
            Step::Add { subject, exempt } => self.add(&format!("user_{subject}"), exempt).await,
            Step::Claim { leases_max } => self.take(leases_max).await,
            Step::Settle { which, how } if !self.seen.in_flight.is_empty() => {
                let lease = self.seen.in_flight.swap_remove(which.index(self.seen.in_flight.len()));
                self.end(lease, transition(how)).await;
            }
            Step::Settle { .. } => {}
            Step::Pass { seconds } => self.lab.clock.advance(Duration::from_secs(seconds)),
            Step::Retry => {
                // Only those that died: an unfinished one that is retried by hand leaves the promise as well.
                let query = DeliveryQuery { states: vec![State::Dead], ..DeliveryQuery::default() };
                self.lab.redrive(Redrive { query, ..redrive(RedriveAction::Retry) }).await;
                self.seen.retried.extend(self.seen.ended.iter());
            }
            Step::Reopen => {
                self.seen.in_flight.clear();
                self.lab = self.lab.reopen().await;
            }
            Step::Crash => return self.crash().await,
            Step::LoseClaim => self.lose_claim().await,
        }
        self
    }

    async fn add(&mut self, subject: &str, exempt: bool) {
        let event_type = if exempt { "email.created" } else { "user.updated" };
        let svix_id = format!("msg_{}", self.added);
        self.added += 1;
        let id = new(self.lab.ingest("clerk", &svix_id, &events::body(event_type, subject)).await);
        if !exempt {
            self.seen.subjects.insert(id, subject.to_owned());
        }
    }

    async fn take(&mut self, leases_max: usize) {
        let claim = self.lab.claim_with(ClaimWanted { leases_max, ..wanted_in_order("app") }).await;
        for lease in claim.leases {
            self.seen.check(&lease);
            self.seen.in_flight.push(lease);
        }
    }

    async fn end(&mut self, lease: Lease, transition: Transition) {
        let id = lease.event_id();
        assert_eq!(self.lab.settle(lease, transition).await, Settled::Done);
        if self.lab.state(id, "app").await.is_ended() {
            self.seen.ended.push(id);
        }
    }

    async fn crash(mut self) -> Self {
        let Some(wire) = self.wire else { return self };
        let relays = wire.server.command(&["ZRANGE", "{relay}:relays", "0", "-1"]).await;
        for lease in redis::from_redis_value::<Vec<String>>(relays).unwrap() {
            wire.server.command(&["ZADD", "{relay}:relays", "XX", "0", &lease]).await;
        }
        let lab = Lab::with_clock(self.kind, Setup::default(), &self.lab.clock).await;
        lab.declare(&["app"]).await;
        let zombie = std::mem::replace(&mut self.lab, lab);
        for lease in self.seen.in_flight.drain(..) {
            assert_eq!(zombie.settle(lease, Transition::Deliver).await, Settled::Lost);
        }
        self
    }

    async fn lose_claim(&mut self) {
        let Some(wire) = self.wire else { return };
        let lost = wire.proxy.lose_reply("$5\r\nready");
        let claimed = self.lab.store.claim(wanted_in_order("app")).await;
        assert!(matches!(claimed, Err(StoreError::Unavailable(_))), "{claimed:?}");
        lost.await.unwrap();
        // After some losses the connection pauses for a moment before it is made again.
        let nothing = || ClaimWanted { leases_max: 0, ..wanted_in_order("app") };
        eventually("it can claim again", async || self.lab.store.claim(nothing()).await.ok()).await;
    }
}

pub fn block_on(future: impl Future) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn order_holds_over_any_interleaving(steps in steps()) {
        block_on(run(steps, &OnSqlite, None));
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: CASES_ON_REDIS, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn order_holds_on_redis_over_any_interleaving(steps in steps()) {
        block_on(run(steps, &OnRedis, None));
    }
}
