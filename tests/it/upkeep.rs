//! Upkeep over a real store: what waited too long ends, whoever it was for, and what is no longer kept goes.

use std::sync::Arc;
use std::time::Duration;

use clerk_relay::clock::Clock;
use clerk_relay::config;
use clerk_relay::event::EventId;
use clerk_relay::lifecycle::{Start, State};
use clerk_relay::shutdown::Shutdown;
use clerk_relay::store::query::{DeliveryQuery, DeliveryView, EventLookup, EventRef, Page};
use clerk_relay::store::sqlite::{self, Memory};
use clerk_relay::store::{Control, Ingested, More, PauseReason, TargetSpec};
use clerk_relay::telemetry::Telemetry;
use clerk_relay::upkeep::{Deps, run_once};

use crate::support::clerk::SECRET;
use crate::support::events;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A store with the target `app`, and its upkeep.
struct House {
    _folder: tempfile::TempDir,
    deps: Deps,
}

impl House {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let (store, _) = sqlite::open(sqlite::Options {
            path: folder.path().join("relay.db"),
            retention: 7 * DAY,
            dead_letter_retention: 30 * DAY,
            dedupe: 7 * DAY,
            size_max_bytes: 1 << 30,
            memory: Memory::Allowed,
            clock: clock.clone(),
            max_page_count: None,
        })
        .unwrap();
        let text = serde_json::json!({
            "sources": { "clerk": { "signing_secrets": [SECRET] } },
            "targets": { "app": { "url": "http://127.0.0.1:9/", "events": ["user.*"], "max_wait": "2d" } },
        });
        let (config, _) = config::load(&text.to_string(), "test", &|_| None).unwrap();
        let deps =
            Deps { targets: config.targets, store: Arc::new(store), clock, telemetry: Telemetry::default() };
        deps.store.declare(&[spec("app")]).await.unwrap();
        Self { _folder: folder, deps }
    }

    async fn add(&self, svix_id: &str, event_type: &str) -> EventId {
        let body = events::body(event_type, "user_1");
        let event = events::verified("clerk", svix_id, &body, self.deps.clock.now());
        match self.deps.store.ingest(event).await.unwrap() {
            Ingested::New(id) => id,
            Ingested::Duplicate(_) => panic!("{svix_id} was there already"),
        }
    }

    async fn keep_up(&self) {
        assert_eq!(run_once(&self.deps, &Shutdown::new()).await.unwrap(), More::None);
    }

    async fn deliveries(&self) -> Vec<DeliveryView> {
        self.deps.store.deliveries(DeliveryQuery::default(), Page::first(100)).await.unwrap().rows
    }
}

fn spec(name: &str) -> TargetSpec {
    TargetSpec { name: name.parse().unwrap(), start: Start::Now, url_digest: String::new() }
}

#[tokio::test]
async fn what_a_paused_target_never_took_ends_too_old_and_not_before() {
    let house = House::new().await;
    let app = "app".parse().unwrap();
    house.deps.store.control(&app, Control::Pause(PauseReason::Operator)).await.unwrap();
    let old = house.add("msg_1", "user.created").await;
    let unwanted = house.add("msg_2", "session.created").await;
    house.keep_up().await;
    assert!(house.deliveries().await.is_empty(), "nothing is old yet");

    house.deps.clock.advance(2 * DAY + Duration::from_secs(1));
    let young = house.add("msg_3", "user.created").await;
    house.keep_up().await;
    let deliveries = house.deliveries().await;
    let found =
        |id| deliveries.iter().find(|row| row.event_id == id).map(|row| (row.state, row.reason.as_deref()));
    assert_eq!(found(old), Some((State::Dead, Some("too_old"))));
    assert_eq!(
        found(unwanted),
        Some((State::Skipped, Some("event_type"))),
        "no dead letter of what nobody wanted"
    );
    assert_eq!(found(young), None, "it still waits in the log");
}

#[tokio::test]
async fn what_an_orphan_never_took_ends_after_two_weeks() {
    let house = House::new().await;
    let id = house.add("msg_1", "user.created").await;
    house.deps.store.declare(&[spec("other")]).await.unwrap();
    let deps = Deps {
        targets: Vec::new(),
        store: house.deps.store.clone(),
        clock: house.deps.clock.clone(),
        telemetry: Telemetry::default(),
    };
    let orphaned = House { deps, ..house };
    orphaned.deps.clock.advance(13 * DAY);
    orphaned.keep_up().await;
    assert!(orphaned.deliveries().await.is_empty());
    orphaned.deps.clock.advance(2 * DAY);
    orphaned.keep_up().await;
    let deliveries = orphaned.deliveries().await;
    assert_eq!(deliveries.len(), 1);
    assert_eq!((deliveries[0].event_id, deliveries[0].state), (id, State::Dead));
}

#[tokio::test]
async fn what_its_retention_no_longer_covers_goes_and_a_dead_letter_stays() {
    let house = House::new().await;
    let dead = house.add("msg_1", "user.created").await;
    house.deps.clock.advance(3 * DAY);
    house.keep_up().await;
    let skipped = house.add("msg_2", "session.created").await;
    house.deps.clock.advance(8 * DAY);
    house.keep_up().await;
    house.keep_up().await; // what ended in the first round is swept in the next
    let kept = async |id| {
        let found = house.deps.store.event(EventRef::Id(id)).await.unwrap();
        !matches!(found, EventLookup::None)
    };
    assert!(kept(dead).await, "a dead letter keeps its event");
    assert!(!kept(skipped).await);
    house.deps.clock.advance(30 * DAY);
    house.keep_up().await;
    house.keep_up().await;
    assert!(!kept(dead).await);
}
