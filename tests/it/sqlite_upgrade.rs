//! A file of an earlier release is brought to the present form when it is opened, and nothing in it is lost.

use clerk_relay::clock::Clock;
use clerk_relay::event::EventId;
use clerk_relay::lifecycle::State;
use clerk_relay::store::Ingested;
use clerk_relay::store::ledger::{JobQuery, Ledger as _, RefusalQuery};
use clerk_relay::store::query::{DeliveryDetail, EventDetail, EventLookup, EventRef, Page};
use clerk_relay::store::{Store, sqlite};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::contract::harness::{self, Setup, ids, wanted};
use crate::support::events;

/// The text of such a file, with what that release wrote.
const FORM_1: &str = include_str!("../fixtures/sqlite-form-1.sql");

fn file_of_form_1() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    Connection::open(folder.path().join("relay.db")).unwrap().execute_batch(FORM_1).unwrap();
    folder
}

async fn event(store: &dyn Store, svix_id: &str) -> EventDetail {
    match store.event(EventRef::SvixId(svix_id.to_owned())).await.unwrap() {
        EventLookup::One(detail) => *detail,
        other @ (EventLookup::None | EventLookup::Many(_)) => panic!("{svix_id}: {other:?}"),
    }
}

#[tokio::test]
async fn a_file_of_form_1_is_upgraded_and_keeps_its_contents() {
    let folder = file_of_form_1();
    for opening in 1..=2 {
        let (store, closed) =
            sqlite::open(harness::options(&folder, Setup::default(), &Clock::system())).unwrap();
        let expected = [State::Delivered, State::Dead, State::Waiting, State::Queued];
        let mut found: Vec<EventId> = Vec::new();
        for (number, state) in (1..).zip(expected) {
            let EventDetail { meta, event, deliveries } = event(&store, &format!("msg_{number}")).await;
            assert_eq!(event.unwrap().body, events::body("user.created", "user_1").as_bytes());
            assert_eq!(meta.body_bytes, 65);
            let [DeliveryDetail { view, attempts }] = &deliveries[..] else { panic!("{deliveries:?}") };
            assert_eq!(view.state, state);
            let failed = matches!(state, State::Dead | State::Waiting);
            let replies: Vec<_> = attempts.iter().map(|attempt| &attempt.reply[..]).collect();
            assert_eq!(replies, if failed { vec![&b"try again later"[..]] } else { vec![] });
            found.push(meta.id);
        }
        let refusals = store.refusals(RefusalQuery::List(Page::first(10))).await.unwrap().rows;
        assert_eq!(refusals.iter().map(|one| one.code.as_str()).collect::<Vec<_>>(), ["invalid_signature"]);
        let overview = &store.overview().await.unwrap().targets[0];
        assert_eq!((overview.queued, overview.waiting, overview.dead), (1, 1, 1));
        assert!(store.jobs(JobQuery::List).await.unwrap().jobs.is_empty(), "opening {opening}");
        let body = events::body("user.created", "user_1");
        let again = events::verified("clerk", "msg_2", &body, Clock::system().now());
        assert!(
            matches!(store.ingest(again).await.unwrap(), Ingested::Duplicate(kept) if kept.id == found[1])
        );
        drop(store);
        tokio::time::timeout(harness::MINUTE, closed.wait()).await.unwrap();
    }
    let (store, _closed) =
        sqlite::open(harness::options(&folder, Setup::default(), &Clock::system())).unwrap();
    let declared = clerk_relay::store::TargetSpec {
        name: harness::name("app"),
        start: clerk_relay::lifecycle::Start::Now,
        url_digest: String::new(),
    };
    store.declare(&[declared]).await.unwrap();
    let reached = event(&store, "msg_4").await.meta.id;
    assert_eq!(ids(&store.claim(wanted("app")).await.unwrap().leases), [reached]);
}

/// Tables and indexes, and the columns of each.
fn form(folder: &TempDir) -> Vec<String> {
    let conn = Connection::open(folder.path().join("relay.db")).unwrap();
    let mut names = conn.prepare("SELECT type, name FROM sqlite_schema ORDER BY type, name").unwrap();
    let names = names.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let names: Vec<(String, String)> = names.collect::<rusqlite::Result<_>>().unwrap();
    let columns = |(kind, name): (String, String)| {
        let pragma = if kind == "index" { "index_info" } else { "table_info" };
        let column = if kind == "index" { "name" } else { "name || ' ' || type || ' ' || \"notnull\"" };
        let sql = format!("SELECT group_concat({column}, ', ') FROM pragma_{pragma}('{name}')");
        let columns: Option<String> = conn.query_row(&sql, [], |row| row.get(0)).unwrap();
        format!("{kind} {name}: {}", columns.unwrap_or_default())
    };
    names.into_iter().map(columns).collect()
}

#[tokio::test]
async fn an_upgraded_file_has_the_form_of_a_new_one() {
    let (old, new) = (file_of_form_1(), tempfile::tempdir().unwrap());
    for folder in [&old, &new] {
        let (store, closed) =
            sqlite::open(harness::options(folder, Setup::default(), &Clock::system())).unwrap();
        drop(store);
        tokio::time::timeout(harness::MINUTE, closed.wait()).await.unwrap();
    }
    assert_eq!(form(&old), form(&new));
}
