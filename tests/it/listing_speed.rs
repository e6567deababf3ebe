//! Every list over many events: the right rows in the right order, from the top and from the middle, whatever is asked for.
//! With `CLERK_RELAY_LIST=200000` the same over so many, and a table of how long each page takes; which is told, never
//! judged: `CLERK_RELAY_LIST=200000 cargo test --release --test it listing_speed -- --nocapture --test-threads 1`.

mod asked;
mod filled;

use std::time::{Duration, Instant};

use clerk_relay::event::EventId;
use clerk_relay::store::query::{Cursor, EventRef, Page};

use crate::contract::harness::{Kind, OnRedis, OnSqlite};
use asked::{Asked, Row};
use filled::Filled;

/// The rows of a page.
const ROWS: u32 = 50;

/// Events, and whether every page is looked at.
fn size() -> (usize, bool) {
    match std::env::var("CLERK_RELAY_LIST").ok().and_then(|text| text.parse().ok()) {
        Some(count) => (count, false),
        None => (2_000, true),
    }
}

/// How a list was walked.
#[derive(Default)]
struct Walked {
    pages: u32,
    slowest: Duration,
    in_all: Duration,
}

impl Walked {
    fn note(&mut self, took: Duration) {
        self.pages += 1;
        self.slowest = self.slowest.max(took);
        self.in_all += took;
    }
}

/// Walks until there are `rows_max` rows or no more pages, and holds the rows against what is due.
async fn walk(filled: &Filled, asked: &Asked, below: Option<EventId>, rows_max: usize) -> Walked {
    let mut page = below.map_or(Page::first(ROWS), |id| Page::after(ROWS, Cursor::Event(id)));
    let (mut rows, mut walked): (Vec<Row>, _) = (Vec::new(), Walked::default());
    while rows.len() < rows_max {
        let since = Instant::now();
        let (more, next) = asked.page(&*filled.lab.store, page).await;
        walked.note(since.elapsed());
        rows.extend(more);
        let Some(next) = next else { break };
        page = Page::after(ROWS, next);
    }
    let due: Vec<Row> = asked.due(filled, below).into_iter().take(rows_max).collect();
    rows.truncate(rows_max);
    assert!(rows == due, "{asked}: {} rows, {} are due", rows.len(), due.len());
    walked
}

async fn run(kind: &dyn Kind, store: &str) {
    let (count, is_walked_whole) = size();
    let since = Instant::now();
    let filled = Filled::new(kind, count).await;
    println!("{store}: {count} events, filled in {:.1?}", since.elapsed());
    println!("{:44} {:>5} {:>12} {:>9} {:>9}", "list", "from", "pages to 50", "slowest", "in all");
    let rows_max = if is_walked_whole { usize::MAX } else { ROWS as usize };
    for asked in asked::all(&filled) {
        for (from, below) in [("top", None), ("mid", Some(filled.ids[count / 2]))] {
            let Walked { pages, slowest, in_all } = walk(&filled, &asked, below, rows_max).await;
            println!("{:44} {from:>5} {pages:>12} {slowest:>9.1?} {in_all:>9.1?}", asked.to_string());
        }
    }
    let store = &filled.lab.store;
    for wanted in [EventRef::Id(filled.ids[count / 2]), EventRef::SvixId(filled::svix_id(0))] {
        let since = Instant::now();
        store.event(wanted.clone()).await.unwrap();
        println!("{:44} {:>5} {:>12} {:>9.1?}", format!("{wanted:?}"), "", "", since.elapsed());
    }
    let since = Instant::now();
    store.overview().await.unwrap();
    println!("{:44} {:>5} {:>12} {:>9.1?}", "overview", "", "", since.elapsed());
}

#[tokio::test]
async fn every_list_in_sqlite_shows_what_is_due() {
    run(&OnSqlite, "SQLite").await;
}

#[tokio::test]
async fn every_list_in_redis_shows_what_is_due() {
    run(&OnRedis, "Redis").await;
}
