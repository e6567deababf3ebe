//! A store that is down, full, slow, unsure or broken: always 503, nothing half-stored, no id burned. The real store
//! stands behind the fault.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clerk_relay::event::TargetName;
use clerk_relay::ingress::Timing;
use clerk_relay::signature::Verified;
use clerk_relay::store::ledger::*;
use clerk_relay::store::query::*;
use clerk_relay::store::*;
use clerk_relay::telemetry::tally::{Counter, Tally};
use clerk_relay::upkeep;
use tokio::sync::watch;

use super::relay::{Relay, Setup};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    #[default]
    None,
    Unavailable,
    Full,
    /// Neither works nor answers while this is so.
    Hangs,
    /// Does its work and never says so.
    Mute,
    Panics,
}

/// The fault of the moment; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<watch::Sender<Fault>>);

impl Faults {
    pub fn set(&self, fault: Fault) {
        self.0.send_replace(fault);
    }

    /// How many calls hang.
    pub fn hanging(&self) -> usize {
        self.0.receiver_count()
    }

    fn now(&self) -> Fault {
        *self.0.borrow()
    }
}

/// The real store behind a fault.
pub struct Faulty {
    pub inner: Arc<dyn Store>,
    pub faults: Faults,
}

impl Faulty {
    async fn before(&self) -> Result<(), StoreError> {
        match self.faults.now() {
            Fault::None | Fault::Mute => Ok(()),
            Fault::Unavailable => Err(StoreError::Unavailable(Some("connection refused".into()))),
            Fault::Full => Err(StoreError::Full),
            Fault::Hangs => {
                self.faults.0.subscribe().wait_for(|fault| *fault != Fault::Hangs).await.unwrap();
                Ok(())
            }
            Fault::Panics => panic!("the store panics, as this test wants"),
        }
    }

    async fn after(&self) {
        if self.faults.now() == Fault::Mute {
            std::future::pending().await
        }
    }
}

#[async_trait]
impl Ledger for Faulty {
    async fn refusals(&self, query: RefusalQuery) -> Result<Paged<Refusal>, StoreError> {
        self.before().await?;
        self.inner.refusals(query).await
    }

    async fn audit(&self, query: AuditQuery) -> Result<Paged<AuditEntry>, StoreError> {
        self.inner.audit(query).await
    }

    async fn jobs(&self, query: JobQuery) -> Result<JobAnswer, StoreError> {
        self.inner.jobs(query).await
    }

    async fn stats(&self, query: StatsQuery) -> Result<Vec<Tally>, StoreError> {
        self.before().await?;
        self.inner.stats(query).await
    }
}

#[async_trait]
impl Store for Faulty {
    async fn declare(&self, targets: &[TargetSpec]) -> Result<Vec<TargetChange>, StoreError> {
        self.inner.declare(targets).await
    }

    async fn ingest(&self, event: Verified) -> Result<Ingested, StoreError> {
        self.before().await?;
        let ingested = self.inner.ingest(event).await;
        self.after().await;
        ingested
    }

    async fn claim(&self, wanted: ClaimWanted) -> Result<Claimed, StoreError> {
        self.inner.claim(wanted).await
    }

    async fn settle(&self, settle: Settle) -> Result<Settled, StoreError> {
        self.inner.settle(settle).await
    }

    fn bell(&self) -> watch::Receiver<u64> {
        self.inner.bell()
    }

    async fn tick(&self) -> Result<Ticked, StoreError> {
        self.inner.tick().await
    }

    async fn control(&self, target: &TargetName, control: Control) -> Result<Controlled, StoreError> {
        self.inner.control(target, control).await
    }

    async fn redrive(&self, redrive: Redrive) -> Result<Redriven, StoreError> {
        self.before().await?;
        self.inner.redrive(redrive).await
    }

    async fn events(&self, query: EventQuery, page: Page) -> Result<Paged<EventMeta>, StoreError> {
        self.inner.events(query, page).await
    }

    async fn event(&self, wanted: EventRef) -> Result<EventLookup, StoreError> {
        self.inner.event(wanted).await
    }

    async fn deliveries(&self, query: DeliveryQuery, page: Page) -> Result<Paged<DeliveryView>, StoreError> {
        self.inner.deliveries(query, page).await
    }

    async fn overview(&self) -> Result<Overview, StoreError> {
        self.before().await?;
        self.inner.overview().await
    }

    async fn erase(&self, erase: Erase) -> Result<Erased, StoreError> {
        self.inner.erase(erase).await
    }

    async fn sweep(&self, max: u32) -> Result<Swept, StoreError> {
        self.inner.sweep(max).await
    }
}

const BODY: &str = r#"{"data":{"id":"user_1"},"type":"user.created"}"#;

#[tokio::test]
async fn a_store_that_fails_is_503_and_burns_no_id() {
    let relay = Relay::start(Setup::default()).await;
    let cases = [(Fault::Unavailable, "store_unavailable", "5"), (Fault::Full, "store_full", "60")];
    for (fault, code, retry_after) in cases {
        relay.faults.set(fault);
        let answer = relay.ask(&relay.post("msg_1", BODY)).await;
        assert_eq!((answer.status, answer.code().as_str()), (503, code));
        assert_eq!(answer.header("retry-after"), Some(retry_after));
        assert!(relay.stored("msg_1").await.is_none());
    }
    relay.faults.set(Fault::None);
    assert_eq!(relay.ask(&relay.post("msg_1", BODY)).await.body, r#"{"received":true}"#);
}

#[tokio::test]
async fn a_store_that_hangs_is_503_in_time() {
    let timing = Timing { store: Duration::from_millis(50), ..Timing::default() };
    let relay = Relay::start(Setup { timing, ..Setup::default() }).await;
    relay.faults.set(Fault::Hangs);
    let answer = relay.ask(&relay.post("msg_1", BODY)).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "store_slow"));
    assert_eq!(answer.header("retry-after"), Some("5"));
}

#[tokio::test]
async fn what_an_unsure_store_kept_comes_again_as_a_duplicate() {
    let timing = Timing { store: Duration::from_millis(500), ..Timing::default() };
    let relay = Relay::start(Setup { timing, ..Setup::default() }).await;
    relay.faults.set(Fault::Mute);
    assert_eq!(relay.ask(&relay.post("msg_1", BODY)).await.status, 503);
    relay.faults.set(Fault::None);
    let again = relay.ask(&relay.post("msg_1", BODY)).await;
    assert_eq!(again.body, r#"{"received":true,"duplicate":true}"#);
    assert_eq!(relay.stored("msg_1").await.unwrap().body, BODY);
}

#[tokio::test]
async fn a_slow_body_leaves_the_store_less_time_not_more() {
    let timing =
        Timing { store: Duration::from_secs(600), answer: Duration::from_millis(100), ..Timing::default() };
    let relay = Relay::start(Setup { timing, ..Setup::default() }).await;
    relay.faults.set(Fault::Hangs);
    let answer = relay.ask(&relay.post("msg_1", BODY)).await; // not after the 8 s that the store has at most
    assert_eq!(answer.code(), "store_slow");
}

#[tokio::test]
async fn a_panic_is_one_500_and_nothing_more() {
    let relay = Relay::start(Setup::default()).await;
    let mut bystander = relay.connect().await;
    assert_eq!(bystander.ask(&relay.post("msg_0", BODY)).await.status, 200);
    relay.faults.set(Fault::Panics);
    let answer = relay.ask(&relay.post("msg_1", BODY)).await;
    assert_eq!((answer.status, answer.code().as_str()), (500, "internal"));
    assert_eq!(relay.ask(&relay.post("msg_2", BODY).without("Svix-Id")).await.status, 400);
    tokio::time::sleep(Duration::from_millis(50)).await; // room for the keeper of refusals to panic too
    relay.faults.set(Fault::None);
    assert_eq!(bystander.ask(&relay.post("msg_1", BODY)).await.body, r#"{"received":true}"#);
}

#[tokio::test]
async fn refusals_outlast_a_store_that_was_away() {
    let relay = Relay::start(Setup::default()).await;
    relay.faults.set(Fault::Unavailable);
    for n in 0..3 {
        assert_eq!(relay.ask(&relay.post(&format!("msg_{n}"), BODY)).await.status, 503);
    }
    relay.faults.set(Fault::None);
    let refusals = relay.refusals(3).await;
    assert!(refusals.iter().all(|refusal| refusal.cause.contains("connection refused")), "{refusals:?}");
}

#[tokio::test]
async fn tallies_that_the_store_does_not_take_are_handed_over_the_next_time() {
    let relay = Relay::start(Setup::default()).await;
    for id in ["msg_1", "msg_2", "msg_2"] {
        assert_eq!(relay.ask(&relay.post(id, BODY)).await.status, 200);
    }
    let faulty = Faulty { inner: Arc::clone(&relay.store), faults: relay.faults.clone() };
    let (meters, now) = (&relay.telemetry.meters, relay.clock.now());
    let kept = async || {
        let mut rows =
            relay.store.stats(StatsQuery::Since(now.minus(Duration::from_secs(60)))).await.unwrap();
        rows.sort_by_key(|row| row.counter);
        rows.into_iter().map(|row| (row.counter, row.count)).collect::<Vec<_>>()
    };
    for fault in [Fault::Unavailable, Fault::Full] {
        relay.faults.set(fault);
        upkeep::hand_over(&faulty, meters, now).await;
        assert_eq!(kept().await, []);
    }
    relay.faults.set(Fault::None);
    assert_eq!(relay.ask(&relay.post("msg_3", BODY)).await.status, 200);
    for _ in 0..2 {
        upkeep::hand_over(&faulty, meters, now).await;
        assert_eq!(kept().await, [(Counter::Received, 3), (Counter::Duplicates, 1)], "each is told once");
    }
}
