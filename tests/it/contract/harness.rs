//! What the laws work with: a store of any kind, its clock, and short words for what they do to it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use clerk_relay::clock::Clock;
use clerk_relay::config::{DurabilityWanted, StoreConfig, StoreTls, StoreUrl};
use clerk_relay::event::{EventId, TargetName};
use clerk_relay::lifecycle::attempt::{Attempt, ErrorClass, ReplyRead};
use clerk_relay::lifecycle::hint::Hint;
use clerk_relay::lifecycle::{DeadReason, Ordering, Start, State, Transition};
use clerk_relay::store::query::{
    DeliveryDetail, EventDetail, EventLookup, EventRef, Redrive, RedriveAction, Redriven, TargetOverview,
};
use clerk_relay::store::redis;
use clerk_relay::store::sqlite::{self, Closed, Memory, Options, SqliteStore};
use clerk_relay::store::{
    ClaimScope, ClaimWanted, Claimed, Ingested, Lease, Settle, Settled, Store, TargetChange, TargetSpec,
};
use tempfile::TempDir;

use crate::support::events;
use crate::support::redis::RedisServer;
use clerk_relay::store::query::Mode;
use clerk_relay::telemetry::feed::Feed;

pub const MINUTE: Duration = Duration::from_secs(60);
pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// How a store is set up.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    pub retention: Duration,
    pub dead_letter_retention: Duration,
    pub dedupe: Duration,
    pub size_max_bytes: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Self { retention: 7 * DAY, dead_letter_retention: 30 * DAY, dedupe: 7 * DAY, size_max_bytes: 1 << 33 }
    }
}

/// A kind of store.
pub trait Kind: Sync {
    /// A place for a new store, nothing in it.
    fn place(&self, setup: Setup) -> Box<dyn Place>;
}

/// Where one store lives, whether or not it is open.
#[async_trait]
pub trait Place: Send {
    /// Opens it, its time told by `clock`.
    async fn open(&mut self, clock: &Clock) -> Arc<dyn Store>;
    /// Waits until it is closed; every handle is gone.
    async fn closed(&mut self);
}

/// The embedded store, in a folder of its own.
pub struct OnSqlite;

struct Folder {
    folder: TempDir,
    setup: Setup,
    closed: Option<Closed>,
}

/// Options for a store in `folder`.
pub fn options(folder: &TempDir, setup: Setup, clock: &Clock) -> Options {
    Options {
        path: folder.path().join("relay.db"),
        retention: setup.retention,
        dead_letter_retention: setup.dead_letter_retention,
        dedupe: setup.dedupe,
        size_max_bytes: setup.size_max_bytes,
        memory: Memory::Allowed, // the folder for temporary files may be in memory
        clock: clock.clone(),
        max_page_count: None,
    }
}

/// Opens a store with these options.
pub fn open(options: Options) -> (SqliteStore, Closed) {
    sqlite::open(options).unwrap()
}

impl Kind for OnSqlite {
    fn place(&self, setup: Setup) -> Box<dyn Place> {
        Box::new(Folder { folder: tempfile::tempdir().unwrap(), setup, closed: None })
    }
}

#[async_trait]
impl Place for Folder {
    async fn open(&mut self, clock: &Clock) -> Arc<dyn Store> {
        let (store, closed) = open(options(&self.folder, self.setup, clock));
        self.closed = Some(closed);
        Arc::new(store)
    }

    async fn closed(&mut self) {
        let closed = self.closed.take().expect("it was opened");
        tokio::time::timeout(MINUTE, closed.wait()).await.expect("a dropped store closes");
    }
}

/// The store for many relays, on a Redis of its own.
pub struct OnRedis;

struct Server {
    /// Started when the store is first opened.
    server: Option<RedisServer>,
    setup: Setup,
    closed: Option<redis::Closed>,
}

/// Options for a store on this Redis.
pub fn redis_options(server: &RedisServer, setup: Setup, clock: &Clock) -> redis::Options {
    redis::Options {
        feed: Feed::default(),
        config: StoreConfig {
            url: StoreUrl::Redis(server.redis_url()),
            retention: setup.retention,
            dead_letter_retention: setup.dead_letter_retention,
            dedupe: setup.dedupe,
            durability: DurabilityWanted::Strict,
            wait_replicas: 0,
            prefix: "relay".to_owned(),
            tls: StoreTls::default(),
            lease: Duration::from_secs(15),
        },
        url: server.redis_url(),
        size_max_bytes: setup.size_max_bytes,
        wait_max: 14 * DAY,
        clock: clock.clone(),
    }
}

impl Kind for OnRedis {
    fn place(&self, setup: Setup) -> Box<dyn Place> {
        Box::new(Server { server: None, setup, closed: None })
    }
}

#[async_trait]
impl Place for Server {
    async fn open(&mut self, clock: &Clock) -> Arc<dyn Store> {
        if self.server.is_none() {
            self.server = Some(RedisServer::start().await);
        }
        let server = self.server.as_ref().expect("it was started");
        let (store, closed) = redis::open(redis_options(server, self.setup, clock)).await.unwrap();
        self.closed = Some(closed);
        Arc::new(store)
    }

    async fn closed(&mut self) {
        let closed = self.closed.take().expect("it was opened");
        tokio::time::timeout(MINUTE, closed.wait()).await.expect("a dropped store closes");
    }
}

/// An open store and everything around it.
pub struct Lab {
    pub store: Arc<dyn Store>,
    pub clock: Clock,
    place: Box<dyn Place>,
    sent: std::sync::atomic::AtomicU64,
}

impl Lab {
    pub async fn new(kind: &dyn Kind) -> Self {
        Self::with(kind, Setup::default()).await
    }

    pub async fn with(kind: &dyn Kind, setup: Setup) -> Self {
        Self::with_clock(kind, setup, &Clock::system()).await
    }

    pub async fn with_clock(kind: &dyn Kind, setup: Setup, clock: &Clock) -> Self {
        let mut place = kind.place(setup);
        let store = place.open(clock).await;
        Self { store, clock: clock.clone(), place, sent: 0.into() }
    }

    /// A store with these targets, which begin now.
    pub async fn with_targets(kind: &dyn Kind, targets: &[&str]) -> Self {
        let lab = Self::new(kind).await;
        lab.declare(targets).await;
        lab
    }

    /// Closes the store and opens it again.
    pub async fn reopen(self) -> Self {
        let clock = self.clock.clone();
        self.reopen_at(clock).await
    }

    /// Closes the store and opens it with another clock.
    pub async fn reopen_at(self, clock: Clock) -> Self {
        let Self { store, mut place, sent, .. } = self;
        drop(store);
        place.closed().await;
        let store = place.open(&clock).await;
        Self { store, clock, place, sent }
    }

    pub async fn declare(&self, targets: &[&str]) -> Vec<TargetChange> {
        self.declare_from(targets, Start::Now).await
    }

    pub async fn declare_from(&self, targets: &[&str], start: Start) -> Vec<TargetChange> {
        let specs: Vec<_> = targets
            .iter()
            .map(|target| TargetSpec { name: name(target), start, url_digest: String::new() })
            .collect();
        self.store.declare(&specs).await.unwrap()
    }

    /// A new svix-id, ordered as Svix' own are.
    pub fn svix_id(&self) -> String {
        format!("msg_{:08}", self.sent.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    }

    pub async fn ingest(&self, source: &str, svix_id: &str, body: &str) -> Ingested {
        self.store.ingest(events::verified(source, svix_id, body, self.clock.now())).await.unwrap()
    }

    /// Keeps a new event of this type about this user.
    pub async fn add(&self, event_type: &str, subject: &str) -> EventId {
        new(self.ingest("clerk", &self.svix_id(), &events::body(event_type, subject)).await)
    }

    /// Keeps `count` new events about different users.
    pub async fn add_many(&self, count: usize) -> Vec<EventId> {
        let mut ids = Vec::new();
        for number in 0..count {
            ids.push(self.add("user.updated", &format!("user_{number}")).await);
        }
        ids
    }

    pub async fn claim_with(&self, wanted: ClaimWanted) -> Claimed {
        self.store.claim(wanted).await.unwrap()
    }

    /// Claims up to 16 of what is ready.
    pub async fn claim(&self, target: &str) -> Vec<Lease> {
        self.claim_with(wanted(target)).await.leases
    }

    /// Claims exactly one.
    pub async fn claim_one(&self, target: &str) -> Lease {
        let mut leases = self.claim_with(ClaimWanted { leases_max: 1, ..wanted(target) }).await.leases;
        assert_eq!(leases.len(), 1, "nothing is ready for {target}");
        leases.remove(0)
    }

    /// Settles, with an attempt where one counts.
    pub async fn settle(&self, lease: Lease, transition: Transition) -> Settled {
        let attempt = transition.counts().then(|| self.attempt(&lease, transition));
        self.store.settle(Settle { lease, transition, attempt }).await.unwrap()
    }

    pub async fn deliver(&self, lease: Lease) {
        assert_eq!(self.settle(lease, Transition::Deliver).await, Settled::Done);
    }

    pub async fn fail(&self, lease: Lease, after: Duration) {
        assert_eq!(self.settle(lease, Transition::Wait { after }).await, Settled::Done);
    }

    pub async fn die(&self, lease: Lease) {
        assert_eq!(self.settle(lease, Transition::Die(DeadReason::Exhausted)).await, Settled::Done);
    }

    pub fn attempt(&self, lease: &Lease, transition: Transition) -> Attempt {
        let delivered = transition == Transition::Deliver;
        Attempt {
            number: lease.progress().attempts_total + 1,
            at: self.clock.now(),
            took: Duration::from_millis(12),
            status: Some(if delivered { 204 } else { 503 }),
            error: (!delivered).then_some(ErrorClass::Status),
            hint: (!delivered).then_some(Hint::AppDown),
            reply: Bytes::from_static(if delivered { b"" } else { b"try again later" }),
            reply_read: ReplyRead::Whole,
        }
    }

    pub async fn event(&self, id: EventId) -> EventDetail {
        match self.store.event(EventRef::Id(id)).await.unwrap() {
            EventLookup::One(detail) => *detail,
            other @ (EventLookup::None | EventLookup::Many(_)) => panic!("{id}: {other:?}"),
        }
    }

    pub async fn is_kept(&self, id: EventId) -> bool {
        !matches!(self.store.event(EventRef::Id(id)).await.unwrap(), EventLookup::None)
    }

    pub async fn delivery(&self, id: EventId, target: &str) -> DeliveryDetail {
        let detail = self.event(id).await;
        let found = detail.deliveries.into_iter().find(|one| one.view.target.as_str() == target);
        found.unwrap_or_else(|| panic!("{id} has no delivery to {target}"))
    }

    pub async fn state(&self, id: EventId, target: &str) -> State {
        self.delivery(id, target).await.view.state
    }

    pub async fn target(&self, target: &str) -> TargetOverview {
        let targets = self.store.overview().await.unwrap().targets;
        targets
            .into_iter()
            .find(|one| one.name.as_str() == target)
            .unwrap_or_else(|| panic!("no target {target}"))
    }

    /// Redrives everything that `redrive` selects in one step.
    pub async fn redrive(&self, redrive: Redrive) -> Redriven {
        self.store.redrive(redrive).await.unwrap()
    }
}

/// The id of an event that was new.
pub fn new(ingested: Ingested) -> EventId {
    match ingested {
        Ingested::New(id) => id,
        Ingested::Duplicate(duplicate) => panic!("{duplicate:?}"),
    }
}

pub fn name(target: &str) -> TargetName {
    target.parse().unwrap()
}

/// Up to 16 leases of whatever is ready, unordered.
pub fn wanted(target: &str) -> ClaimWanted {
    ClaimWanted {
        target: name(target),
        leases_max: 16,
        bytes_max: 1 << 20,
        ordering: Ordering::None,
        unordered_types: Arc::default(),
        scope: ClaimScope::Ready,
        probe_hold: MINUTE,
    }
}

/// The same for an ordered target; `email.created` is never held.
pub fn wanted_in_order(target: &str) -> ClaimWanted {
    ClaimWanted {
        ordering: Ordering::Subject,
        unordered_types: Arc::from(["email.created".to_owned()]),
        ..wanted(target)
    }
}

/// A redrive of everything, in one step and without spreading.
pub fn redrive(action: RedriveAction) -> Redrive {
    Redrive {
        event: None,
        query: clerk_relay::store::query::DeliveryQuery::default(),
        action,
        mode: Mode::Apply,
        as_of: None,
        spread: Duration::ZERO,
        max: 500,
        after: None,
    }
}

pub fn ids(leases: &[Lease]) -> Vec<EventId> {
    leases.iter().map(Lease::event_id).collect()
}
