//! An ingress under test: on a free port, in front of its own store in its own folder, with a clock of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clerk_relay::clock::Clock;
use clerk_relay::config::{Limits, OnReplay, Source, Target, TypeFilter};
use clerk_relay::event::Event;
use clerk_relay::http::Drained;
use clerk_relay::ingress::{self, Deps, Timing};
use clerk_relay::shutdown::Shutdown;
use clerk_relay::store::Store;
use clerk_relay::store::ledger::{Refusal, RefusalQuery};
use clerk_relay::store::query::{EventDetail, EventLookup, EventRef, Page};
use clerk_relay::store::readiness::{Identity, Readiness};
use clerk_relay::store::sqlite::{self, Memory};
use clerk_relay::telemetry::Telemetry;
use clerk_relay::telemetry::meters::Totals;
use ipnet::IpNet;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::client::{Answer, Client, PATIENCE, Post, secret};
use super::faults::{Faults, Faulty};

/// The source `clerk` on `/webhooks/clerk`, with defaults.
pub fn source(name: &str) -> Source {
    Source {
        name: name.parse().unwrap(),
        path: format!("/webhooks/{name}"),
        signing_secrets: vec![secret(1)],
        tolerance: Duration::from_secs(300),
        body_max: 1024 * 1024,
        allow_from: Vec::new(),
        instance_id: None,
        on_replay: OnReplay::default(),
        drop: TypeFilter::none(),
    }
}

/// How an ingress is set up; changed by tests before [`Relay::start`].
pub struct Setup {
    pub sources: Vec<Source>,
    pub targets: Vec<Arc<Target>>,
    pub limits: Limits,
    pub trusted_proxies: Vec<IpNet>,
    pub timing: Timing,
}

impl Default for Setup {
    fn default() -> Self {
        let limits = Limits {
            connections: 4096,
            in_flight: 512,
            in_flight_bytes: 32 * 1024 * 1024,
            store_size_bytes: 1024 * 1024 * 1024,
        };
        Self {
            sources: vec![source("clerk")],
            targets: Vec::new(),
            limits,
            trusted_proxies: Vec::new(),
            timing: Timing::default(),
        }
    }
}

fn open(folder: &TempDir, clock: &Clock, limits: &Limits) -> Arc<dyn Store> {
    let options = sqlite::Options {
        path: folder.path().join("relay.db"),
        retention: Duration::from_secs(7 * 24 * 3600),
        dead_letter_retention: Duration::from_secs(30 * 24 * 3600),
        dedupe: Duration::from_secs(7 * 24 * 3600),
        size_max_bytes: limits.store_size_bytes,
        memory: Memory::Allowed,
        clock: clock.clone(),
        max_page_count: None,
    };
    let (store, _closed) = sqlite::open(options).unwrap();
    Arc::new(store)
}

/// A running ingress.
pub struct Relay {
    pub address: SocketAddr,
    /// The store itself, past its faults.
    pub store: Arc<dyn Store>,
    /// What goes wrong between ingress and the store.
    pub faults: Faults,
    pub clock: Clock,
    pub telemetry: Telemetry,
    pub readiness: Arc<Readiness>,
    pub shutdown: Shutdown,
    pub leaving: CancellationToken,
    running: JoinHandle<Drained>,
    _folder: TempDir,
}

impl Relay {
    pub async fn start(setup: Setup) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let clock = Clock::system();
        let folder = TempDir::new().unwrap();
        let store = open(&folder, &clock, &setup.limits);
        let (shutdown, leaving, telemetry) =
            (Shutdown::new(), CancellationToken::new(), Telemetry::default());
        let identity = Identity { version: "0", fingerprint: "000000000000".into(), started_at: clock.now() };
        let faults = Faults::default();
        let faulty: Arc<dyn Store> = Arc::new(Faulty { inner: Arc::clone(&store), faults: faults.clone() });
        let readiness = Arc::new(Readiness::new(faulty.clone(), leaving.clone(), identity));
        let deps = Deps {
            sources: setup.sources.into_iter().map(Arc::new).collect(),
            targets: setup.targets,
            limits: setup.limits,
            trusted_proxies: setup.trusted_proxies,
            timing: setup.timing,
            store: faulty,
            clock: clock.clone(),
            readiness: readiness.clone(),
            telemetry: telemetry.clone(),
        };
        let running = tokio::spawn(ingress::run(listener, deps, shutdown.clone()));
        Self {
            address,
            store,
            faults,
            clock,
            telemetry,
            readiness,
            shutdown,
            leaving,
            running,
            _folder: folder,
        }
    }

    /// What it has counted so far.
    pub fn counts(&self) -> Totals {
        self.telemetry.meters.ingress()
    }

    pub async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// A right request of the present.
    pub fn post(&self, id: &str, body: impl Into<Vec<u8>>) -> Post {
        Post::new(id, self.clock.now(), body)
    }

    /// Sends on a connection of its own.
    pub async fn ask(&self, post: &Post) -> Answer {
        self.connect().await.ask(post).await
    }

    /// What the store knows of an event.
    pub async fn detail(&self, svix_id: &str) -> Option<Box<EventDetail>> {
        match self.store.event(EventRef::SvixId(svix_id.to_owned())).await.unwrap() {
            EventLookup::One(detail) => Some(detail),
            EventLookup::None => None,
            EventLookup::Many(ids) => panic!("{svix_id} is ambiguous: {ids:?}"),
        }
    }

    pub async fn stored(&self, svix_id: &str) -> Option<Event> {
        self.detail(svix_id).await.map(|detail| detail.event.expect("a readable frame"))
    }

    /// The refusals once there are `count`, oldest first.
    pub async fn refusals(&self, count: usize) -> Vec<Refusal> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut rows = self.store.refusals(RefusalQuery::List(Page::first(500))).await.unwrap().rows;
            if rows.len() >= count {
                rows.reverse();
                return rows;
            }
            assert!(Instant::now() < deadline, "{} of {count} refusals: {rows:?}", rows.len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The newest refusals, oldest first.
    pub async fn refusals_now(&self) -> Vec<Refusal> {
        let mut rows = self.store.refusals(RefusalQuery::List(Page::first(500))).await.unwrap().rows;
        rows.reverse();
        rows
    }

    /// Waits for the end that was asked for.
    pub async fn ended(&mut self) -> Drained {
        timeout(PATIENCE, &mut self.running).await.expect("ingress does not end").unwrap()
    }

    pub async fn stop(&mut self) -> Drained {
        self.shutdown.stop.cancel();
        self.ended().await
    }
}

/// Waits until `is_so`.
pub async fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
