//! Laws of ingest: what is answered is kept, once.

use std::time::Duration;

use clerk_relay::clock::Clock;
use clerk_relay::secret::SigningSecret;
use clerk_relay::store::{Ingested, Likeness, StoreError};

use super::harness::{DAY, Kind, Lab, MINUTE, Setup, new};
use crate::support::events;

pub async fn what_was_answered_is_there_after_a_reopening(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let ids = lab.add_many(50).await;
    let lab = lab.reopen().await;
    assert_eq!(lab.target("app").await.queued, 50);
    let mut claimed = Vec::new();
    while claimed.len() < 50 {
        let leases = lab.claim("app").await;
        assert!(!leases.is_empty(), "only {} of 50 came", claimed.len());
        claimed.extend(leases.iter().map(|lease| lease.event_id()));
    }
    assert_eq!(claimed, ids);
}

pub async fn the_same_id_of_the_same_source_is_a_duplicate(kind: &dyn Kind) {
    let lab = Lab::new(kind).await;
    let body = events::body("user.created", "user_1");
    let id = new(lab.ingest("clerk", "msg_1", &body).await);
    lab.clock.advance(MINUTE);
    let lab = lab.reopen().await;
    let Ingested::Duplicate(duplicate) = lab.ingest("clerk", "msg_1", &body).await else {
        panic!("kept twice")
    };
    assert_eq!((duplicate.id, duplicate.body, duplicate.secret), (id, Likeness::Same, Likeness::Same));
    assert!(duplicate.age >= MINUTE && duplicate.age < 10 * MINUTE, "{:?}", duplicate.age);
    assert_eq!(lab.store.overview().await.unwrap().events, 1);
}

pub async fn the_same_id_of_another_source_is_another_event(kind: &dyn Kind) {
    let lab = Lab::new(kind).await;
    let body = events::body("user.created", "user_1");
    let one = new(lab.ingest("clerk", "msg_1", &body).await);
    let other = new(lab.ingest("staging", "msg_1", &body).await);
    assert!(one < other);
}

pub async fn a_duplicate_tells_whether_body_and_secret_differ(kind: &dyn Kind) {
    let lab = Lab::new(kind).await;
    let first = events::body("user.created", "user_1");
    let id = new(lab.ingest("clerk", "msg_1", &first).await);
    let other_secret = SigningSecret::from_key(b"another key for tests 24");
    let other_body = events::body("user.created", "user_2");
    let again = events::verified_by(&other_secret, "clerk", "msg_1", &other_body, lab.clock.now());
    let Ingested::Duplicate(duplicate) = lab.store.ingest(again).await.unwrap() else { panic!("kept twice") };
    assert_eq!(
        (duplicate.id, duplicate.body, duplicate.secret),
        (id, Likeness::Different, Likeness::Different)
    );
    assert_eq!(lab.event(id).await.event.unwrap().body, first, "the first body is the one that is kept");
}

pub async fn a_mark_lives_as_long_as_its_window(kind: &dyn Kind) {
    let lab = Lab::with(kind, Setup { retention: DAY, dedupe: 2 * DAY, ..Setup::default() }).await;
    let body = events::body("user.created", "user_1");
    let first = new(lab.ingest("clerk", "msg_1", &body).await);
    lab.clock.advance(2 * DAY - MINUTE);
    assert!(matches!(lab.ingest("clerk", "msg_1", &body).await, Ingested::Duplicate(_)));
    lab.clock.advance(2 * MINUTE);
    let second = new(lab.ingest("clerk", "msg_1", &body).await);
    assert!(second > first);
    let Ingested::Duplicate(duplicate) = lab.ingest("clerk", "msg_1", &body).await else {
        panic!("kept twice")
    };
    assert_eq!(duplicate.id, second);
}

pub async fn ids_grow_even_when_the_clock_goes_back(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    lab.clock.advance(DAY);
    let before = lab.add("user.created", "user_1").await;
    let lab = lab.reopen_at(Clock::system()).await; // a day back
    let after = lab.add("user.created", "user_2").await;
    assert!(after > before, "{after} is not after {before}");
    assert_eq!(lab.target("app").await.queued, 2);
    let claimed = lab.claim("app").await;
    assert_eq!(super::harness::ids(&claimed), [before, after]);
}

pub async fn a_full_store_keeps_nothing_new_but_still_settles(kind: &dyn Kind) {
    let setup = Setup { size_max_bytes: 4 << 20, ..Setup::default() };
    let lab = Lab::with(kind, setup).await;
    lab.declare(&["app"]).await;
    let body = format!(r#"{{"type":"user.created","data":{{"user_id":"u","x":"{}"}}}}"#, "x".repeat(100_000));
    let mut kept = 0_u64;
    let last = loop {
        let svix_id = lab.svix_id();
        match lab.store.ingest(events::verified("clerk", &svix_id, &body, lab.clock.now())).await {
            Ok(_) => kept += 1,
            Err(StoreError::Full) => break svix_id,
            Err(other) => panic!("{other:?}"),
        }
        assert!(kept < 100, "10 MB fit into 4 MiB");
    };
    assert!(kept > 5, "only {kept} events of 100 KB fit into 4 MiB");
    assert!(matches!(lab.ingest("clerk", "msg_00000000", &body).await, Ingested::Duplicate(_)));
    assert_eq!(lab.store.overview().await.unwrap().events, kept);
    let lease = lab.claim_one("app").await;
    lab.deliver(lease).await;
    for lease in lab.claim("app").await {
        lab.deliver(lease).await;
    }
    // The id of the refused event is not burned: once there is room, it is new.
    lab.clock.advance(8 * DAY);
    while lab.store.sweep(500).await.unwrap().events > 0 {}
    new(lab.ingest("clerk", &last, &events::body("user.created", "user_1")).await);
}

pub async fn an_event_comes_back_byte_for_byte(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let body = "not JSON at all \u{0}\u{1F600}";
    let sent = events::verified("clerk", "msg_1", body, lab.clock.now());
    let id = new(lab.store.ingest(sent.clone()).await.unwrap());
    let lab = lab.reopen().await;
    let lease = lab.claim_one("app").await;
    assert_eq!(lease.event().unwrap(), sent.event());
    assert_eq!(lab.event(id).await.event.as_ref(), Some(sent.event()));
    assert_eq!(lease.progress().attempts, 0);
    tokio::time::timeout(Duration::from_secs(10), lab.deliver(lease)).await.unwrap();
}
