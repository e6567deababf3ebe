//! What only the embedded store promises: who may open the file, and what it does when the disk, the file or the
//! process fails.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use clerk_relay::clock::Clock;
use clerk_relay::event::EventId;
use clerk_relay::lifecycle::{Start, State, Transition};
use clerk_relay::store::query::{Durability, EventLookup, EventRef};
use clerk_relay::store::sqlite::{Closed, Memory, OpenError, Options, SqliteStore, open};
use clerk_relay::store::{ClaimWanted, Ingested, Settle, Settled, Store, StoreError, TargetSpec};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::contract::harness::{self, DAY, Setup, name, new, wanted};
use crate::support::events;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn options(folder: &TempDir) -> Options {
    harness::options(folder, Setup::default(), &Clock::system())
}

fn refused(options: Options) -> OpenError {
    match open(options) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

async fn close(store: SqliteStore, closed: Closed) {
    drop(store);
    tokio::time::timeout(harness::MINUTE, closed.wait()).await.unwrap();
}

async fn declare(store: &SqliteStore) {
    store
        .declare(&[TargetSpec { name: name("app"), start: Start::Now, url_digest: String::new() }])
        .await
        .unwrap();
}

async fn add(store: &SqliteStore, svix_id: &str) -> Result<EventId, StoreError> {
    let body = events::body("user.created", "user_1");
    let event = events::verified("clerk", svix_id, &body, Clock::system().now());
    store.ingest(event).await.map(new)
}

#[tokio::test]
async fn a_second_relay_is_refused_until_the_first_has_closed() {
    let folder = folder();
    let (store, closed) = open(options(&folder)).unwrap();
    let OpenError::Locked(lock) = refused(options(&folder)) else { panic!("another error") };
    assert!(lock.ends_with("relay.db.lock"));
    std::os::unix::fs::symlink(folder.path().join("relay.db"), folder.path().join("link.db")).unwrap();
    let by_link = Options { path: folder.path().join("link.db"), ..options(&folder) };
    assert!(matches!(refused(by_link), OpenError::Locked(_)), "two names of one file are one file");
    close(store, closed).await;
    let (store, closed) = open(options(&folder)).unwrap();
    close(store, closed).await;
}

#[tokio::test]
async fn the_files_are_for_the_relays_user_only() {
    let folder = folder();
    let (store, closed) = open(options(&folder)).unwrap();
    declare(&store).await;
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let path = folder.path().join(format!("relay.db{suffix}"));
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
    close(store, closed).await;
}

#[tokio::test]
async fn a_closed_store_is_one_whole_file() {
    let folder = folder();
    let (store, closed) = open(options(&folder)).unwrap();
    let id = add(&store, "msg_1").await.unwrap();
    close(store, closed).await;
    let copied = self::folder();
    fs::copy(folder.path().join("relay.db"), copied.path().join("relay.db")).unwrap();
    let (store, closed) = open(options(&copied)).unwrap();
    assert!(matches!(store.event(EventRef::Id(id)).await.unwrap(), EventLookup::One(_)));
    close(store, closed).await;
}

#[tokio::test]
async fn a_store_of_a_newer_release_is_refused_and_left_as_it_is() {
    let folder = folder();
    let (store, closed) = open(options(&folder)).unwrap();
    close(store, closed).await;
    let path = folder.path().join("relay.db");
    Connection::open(&path).unwrap().execute("UPDATE meta SET value = 3 WHERE key = 'schema'", []).unwrap();
    let before = fs::read(&path).unwrap();
    assert!(matches!(refused(options(&folder)), OpenError::TooNew { found: 3, known: 2 }));
    assert!(fs::read(&path).unwrap() == before, "it was written to");
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let folder = folder();
    fs::write(folder.path().join("relay.db"), "listen: 0.0.0.0:8080\n".repeat(1000)).unwrap();
    assert!(matches!(refused(options(&folder)), OpenError::Corrupt(_)));
}

#[test]
fn the_database_of_another_program_is_refused() {
    let folder = folder();
    let other = Connection::open(folder.path().join("relay.db")).unwrap();
    other.execute_batch("CREATE TABLE meta(key TEXT, value); INSERT INTO meta VALUES ('schema', 1)").unwrap();
    drop(other);
    assert!(matches!(refused(options(&folder)), OpenError::Foreign));
}

#[tokio::test]
async fn a_damaged_store_is_refused() {
    let folder = folder();
    let (store, closed) = open(options(&folder)).unwrap();
    for number in 0..100 {
        add(&store, &format!("msg_{number}")).await.unwrap();
    }
    close(store, closed).await;
    let path = folder.path().join("relay.db");
    let mut bytes = fs::read(&path).unwrap();
    let from = 5 * 8192; // behind the first pages, so that the file still opens
    bytes[from..].fill(0x5A);
    fs::write(&path, bytes).unwrap();
    assert!(matches!(refused(options(&folder)), OpenError::Corrupt(_)));
}

#[test]
fn a_missing_folder_is_not_made() {
    let folder = folder();
    let path = folder.path().join("volume/relay.db");
    let OpenError::NoFolder(missing) = refused(Options { path, ..options(&folder) }) else {
        panic!("another error")
    };
    assert!(missing.ends_with("volume"));
    assert!(!folder.path().join("volume").exists());
}

#[test]
fn a_place_that_cannot_be_written_is_refused() {
    let folder = folder();
    // Not even root can make a file there; a folder without permissions would not stop it.
    let path = Path::new("/proc/self/relay.db").to_owned();
    assert!(matches!(refused(Options { path, ..options(&folder) }), OpenError::Unwritable(_)));
    let a_folder = Options { path: folder.path().to_owned(), ..options(&folder) };
    assert!(matches!(refused(a_folder), OpenError::Unwritable(_)));
}

#[tokio::test]
async fn a_file_system_in_memory_takes_leave() {
    let in_memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let refusing = Options { memory: Memory::Refused, ..options(&in_memory) };
    assert!(matches!(refused(refusing), OpenError::MemoryFileSystem));
    let (store, closed) = open(options(&in_memory)).unwrap();
    assert_eq!(store.overview().await.unwrap().durability, Durability::Memory);
    close(store, closed).await;
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_heals() {
    let folder = folder();
    let (store, closed) = open(options(&folder)).unwrap();
    declare(&store).await;
    close(store, closed).await;
    let (store, closed) = open(Options { max_page_count: Some(60), ..options(&folder) }).unwrap();
    let (mut kept, mut number) = (Vec::new(), 0);
    let refused = loop {
        let svix_id = format!("msg_{number:05}");
        match add(&store, &svix_id).await {
            Ok(id) => kept.push(id),
            Err(StoreError::Full) => break svix_id,
            Err(other) => panic!("{other:?}"),
        }
        number += 1;
        assert!(number < 10_000, "ten thousand events fit into 60 pages");
    };
    assert!(kept.len() > 20);

    // Claims need room for their records: whatever does not fit is not claimed.
    let mut claimed = HashSet::new();
    let mut leases = Vec::new();
    let full = loop {
        match store.claim(ClaimWanted { leases_max: 8, ..wanted("app") }).await {
            Ok(claim) if claim.leases.is_empty() => break false,
            Ok(claim) => {
                claimed.extend(claim.leases.iter().map(|lease| lease.event_id()));
                leases.extend(claim.leases);
            }
            Err(StoreError::Full) => break true,
            Err(other) => panic!("{other:?}"),
        }
    };
    assert!(full, "all {} records fit", claimed.len());
    let app = store.overview().await.unwrap().targets.remove(0);
    assert_eq!((app.in_flight, app.queued), (claimed.len() as u64, (kept.len() - claimed.len()) as u64));
    // What fits into the pages that are there still settles; the rest is refused whole, and is given again once there is room.
    let mut settled = HashSet::new();
    for lease in leases {
        let id = lease.event_id();
        match store.settle(Settle { lease, transition: Transition::Deliver, attempt: None }).await {
            Ok(done) => {
                assert_eq!(done, Settled::Done);
                settled.insert(id);
            }
            Err(StoreError::Full) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(!settled.is_empty());
    let app = store.overview().await.unwrap().targets.remove(0);
    assert_eq!(app.in_flight, (claimed.len() - settled.len()) as u64);
    close(store, closed).await;

    let (store, closed) = open(options(&folder)).unwrap();
    let id = add(&store, &refused).await.expect("the id was not burned");
    kept.push(id);
    claimed = settled;
    loop {
        let claim = store.claim(wanted("app")).await.unwrap();
        if claim.leases.is_empty() {
            break;
        }
        for lease in claim.leases {
            assert!(claimed.insert(lease.event_id()), "what was settled is not given again");
        }
    }
    assert_eq!(claimed, kept.into_iter().collect());
    close(store, closed).await;
}

#[tokio::test]
async fn a_full_disk_refuses_only_what_does_not_fit() {
    let folder = folder();
    let (store, closed) = open(Options { max_page_count: Some(60), ..options(&folder) }).unwrap();
    let large = format!(r#"{{"type":"a.b","data":{{"x":"{}"}}}}"#, "x".repeat(1_000_000));
    let now = Clock::system().now();
    let mut ingests = tokio::task::JoinSet::new();
    let store = Arc::new(store);
    for number in 0..40 {
        let store = Arc::clone(&store);
        let body = if number % 2 == 0 { events::body("user.created", "user_1") } else { large.clone() };
        let event = events::verified("clerk", &format!("msg_{number}"), &body, now);
        ingests.spawn(async move { (number % 2 == 0, store.ingest(event).await) });
    }
    while let Some(done) = ingests.join_next().await {
        match done.unwrap() {
            (true, Ok(Ingested::New(_))) | (false, Err(StoreError::Full)) => {}
            (small, other) => panic!("small: {small}: {other:?}"),
        }
    }
    assert_eq!(store.overview().await.unwrap().events, 20);
    let store = Arc::into_inner(store).unwrap();
    close(store, closed).await;
}

/// A copy of the files as a power cut or `kill -9` would leave them.
fn killed(folder: &TempDir) -> TempDir {
    let copied = self::folder();
    for suffix in ["-wal", ""] {
        let file = format!("relay.db{suffix}");
        fs::copy(folder.path().join(&file), copied.path().join(&file)).unwrap();
    }
    copied
}

#[tokio::test]
async fn what_was_answered_survives_a_kill() {
    let folder = folder();
    let (store, closed) = open(options(&folder)).unwrap();
    declare(&store).await;
    let mut kept = Vec::new();
    for number in 0..40 {
        kept.push(add(&store, &format!("msg_{number}")).await.unwrap());
    }
    let mut leases = store.claim(ClaimWanted { leases_max: 3, ..wanted("app") }).await.unwrap().leases;
    let (delivered, failed) = (leases.remove(0), leases.remove(0));
    let settle = Settle { lease: delivered, transition: Transition::Deliver, attempt: None };
    assert_eq!(store.settle(settle).await.unwrap(), Settled::Done);
    let wait = Transition::Wait { after: harness::DAY };
    assert_eq!(
        store.settle(Settle { lease: failed, transition: wait, attempt: None }).await.unwrap(),
        Settled::Done
    );

    let after = killed(&folder);
    let (again, closed_again) = open(options(&after)).unwrap();
    let mut states = Vec::new();
    for id in &kept {
        let EventLookup::One(detail) = again.event(EventRef::Id(*id)).await.unwrap() else {
            panic!("{id} is lost")
        };
        states.push(detail.deliveries[0].view.state);
    }
    assert_eq!(states[..4], [State::Delivered, State::Waiting, State::Queued, State::Queued]);
    let third = again.claim(ClaimWanted { leases_max: 100, ..wanted("app") }).await.unwrap().leases;
    assert!(third.iter().any(|lease| lease.event_id() == kept[2] && lease.progress().takeovers == 1));
    close(again, closed_again).await;
    close(store, closed).await;
}

#[tokio::test]
async fn many_at_once_share_their_commits() {
    let folder = folder();
    let (store, closed) = open(options(&folder)).unwrap();
    let wal = || fs::metadata(folder.path().join("relay.db-wal")).map_or(0, |file| file.len());
    for number in 0..64 {
        add(&store, &format!("warm_{number}")).await.unwrap();
    }
    let before = wal();
    for number in 0..64 {
        add(&store, &format!("single_{number}")).await.unwrap();
    }
    let singly = wal() - before;
    let before = wal();
    let mut ingests = tokio::task::JoinSet::new();
    for number in 0..64 {
        let store = store.clone();
        ingests.spawn(async move { add(&store, &format!("together_{number}")).await.unwrap() });
    }
    let ids: HashSet<EventId> = ingests.join_all().await.into_iter().collect();
    let together = wal() - before;
    assert_eq!(ids.len(), 64);
    assert!(
        together * 4 < singly,
        "{together} bytes of log for 64 at once, {singly} for 64 one after the other"
    );
    close(store, closed).await;
}

#[tokio::test]
async fn every_handle_keeps_the_store_open() {
    let folder = folder();
    let (store, closed) = open(options(&folder)).unwrap();
    let other = store.clone();
    drop(store);
    add(&other, "msg_1").await.unwrap();
    assert!(matches!(refused(options(&folder)), OpenError::Locked(_)));
    close(other, closed).await;
    assert!(open(options(&folder)).is_ok());
}

#[tokio::test]
async fn a_frame_that_cannot_be_read_stops_no_other() {
    let folder = folder();
    let (store, closed) = open(options(&folder)).unwrap();
    declare(&store).await;
    let mut kept = Vec::new();
    for number in 0..3 {
        kept.push(add(&store, &format!("msg_{number}")).await.unwrap());
    }
    let row_id = (kept[1].ms << 20 | u64::from(kept[1].seq)) as i64;
    let spoiler = Connection::open(folder.path().join("relay.db")).unwrap();
    assert_eq!(spoiler.execute("UPDATE event SET frame = x'07' WHERE id = ?1", [row_id]).unwrap(), 1);
    drop(spoiler);
    let leases = store.claim(wanted("app")).await.unwrap().leases;
    let readable: Vec<bool> = leases.iter().map(|lease| lease.event().is_ok()).collect();
    assert_eq!(readable, [true, false, true]);
    let EventLookup::One(detail) = store.event(EventRef::Id(kept[1])).await.unwrap() else {
        panic!("not found")
    };
    assert!(detail.event.is_none());
    close(store, closed).await;
}

#[tokio::test]
async fn a_tick_at_rest_empties_the_log() {
    let folder = folder();
    let (store, closed) = open(options(&folder)).unwrap();
    add(&store, "msg_1").await.unwrap();
    let wal = folder.path().join("relay.db-wal");
    assert!(fs::metadata(&wal).unwrap().len() > 0);
    for _ in 0..2 {
        assert_eq!(store.tick().await.unwrap().relays, 1);
    }
    assert_eq!(fs::metadata(&wal).unwrap().len(), 0);
    close(store, closed).await;
}

#[tokio::test]
async fn a_sweep_counts_and_removes_marks_after_their_window() {
    let folder = folder();
    let setup = Setup { retention: DAY, dedupe: 3 * DAY, ..Setup::default() };
    let clock = Clock::system();
    let (store, closed) = open(harness::options(&folder, setup, &clock)).unwrap();
    for number in 0..5 {
        add(&store, &format!("msg_{number}")).await.unwrap();
    }
    let swept = async || {
        let swept = store.sweep(3).await.unwrap();
        (swept.events, swept.marks)
    };
    clock.advance(2 * DAY);
    assert_eq!([swept().await, swept().await], [(3, 0), (2, 0)], "a mark outlives its event");
    clock.advance(2 * DAY);
    assert_eq!([swept().await, swept().await, swept().await], [(0, 3), (0, 2), (0, 0)]);
    close(store, closed).await;
    let kept = Connection::open(folder.path().join("relay.db")).unwrap();
    let marks: i64 = kept.query_row("SELECT count(*) FROM mark", [], |row| row.get(0)).unwrap();
    assert_eq!(marks, 0);
}

#[tokio::test]
async fn space_is_given_back_after_a_sweep() {
    let folder = folder();
    let clock = Clock::system();
    let (store, closed) = open(Options { clock: clock.clone(), ..options(&folder) }).unwrap();
    let body = format!(r#"{{"type":"a.b","data":{{"x":"{}"}}}}"#, "x".repeat(50_000));
    for number in 0..100 {
        let event = events::verified("clerk", &format!("msg_{number}"), &body, clock.now());
        store.ingest(event).await.unwrap();
    }
    let full = store.overview().await.unwrap().size_bytes;
    clock.advance(8 * harness::DAY);
    for _ in 0..10 {
        store.sweep(500).await.unwrap();
    }
    assert!(store.overview().await.unwrap().size_bytes * 4 < full);
    close(store, closed).await;
    let left = fs::metadata(folder.path().join("relay.db")).unwrap().len();
    assert!(left * 2 < full, "the file still has {left} of {full} bytes");
}

#[tokio::test]
async fn a_question_sees_what_was_answered_before_it() {
    let folder = folder();
    let (store, closed) = open(options(&folder)).unwrap();
    for number in 0..50 {
        let id = add(&store, &format!("msg_{number}")).await.unwrap();
        assert!(matches!(store.event(EventRef::Id(id)).await.unwrap(), EventLookup::One(_)));
        assert_eq!(store.overview().await.unwrap().events, number + 1);
    }
    close(store, closed).await;
}
