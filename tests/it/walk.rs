//! Seeded random walks of port operations over a store, step by step beside a model that is written for this test alone:
//! after each step every delivery, count and result must be what the model says. Each adapter walks by itself, because the
//! port leaves some choices to it; the model judges a choice and goes on from there:
//! - which of several ready deliveries a claim within bounds takes, and in which turn new and due ones come;
//! - whether a due delivery that its subject holds back is put off for half a second;
//! - how much of what may go one sweep removes.
//!
//! `CLERK_RELAY_SEED` walks one seed, `CLERK_RELAY_WALKS` so many of them, `CLERK_RELAY_STEPS` so far.

mod claims;
mod erasing;
mod model;
mod seen;
mod steps;

use clerk_relay::lifecycle::Start;
use clerk_relay::store::query::{EventQuery, Page};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use crate::contract::harness::{DAY, Kind, Lab, OnRedis, OnSqlite, Setup};

use self::model::{HALF, Model};
use self::steps::Walk;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

/// Whatever the model compares with the clock is half a minute away from every instant at which it looks.
fn setup() -> Setup {
    Setup {
        retention: 7 * DAY + HALF,
        dead_letter_retention: 30 * DAY + HALF,
        dedupe: 7 * DAY + HALF,
        ..Setup::default()
    }
}

async fn walk(kind: &dyn Kind, seed: u64, steps: u64) {
    let lab = Lab::with(kind, setup()).await;
    let random = SmallRng::seed_from_u64(seed);
    let mut walk = Walk {
        lab: Some(lab),
        model: Model::default(),
        random,
        held: Vec::new(),
        stale: Vec::new(),
        log: Vec::new(),
    };
    walk.declare(&["app", "web"], Start::Now).await;
    for _ in 0..steps {
        walk.step().await;
        walk.compare().await;
    }
    let page = Page::first(500);
    assert!(
        !walk.lab().store.events(EventQuery::default(), page).await.unwrap().rows.is_empty() || steps < 50
    );
}

fn walks(kind: &'static dyn Kind, name: &str) {
    let (walks, steps) =
        (number("CLERK_RELAY_WALKS").unwrap_or(12), number("CLERK_RELAY_STEPS").unwrap_or(120));
    let seeds = number("CLERK_RELAY_SEED").map_or(1..walks + 1, |seed| seed..seed + 1);
    for seed in seeds {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            runtime.block_on(walk(kind, seed, steps));
        }));
        if let Err(panic) = outcome {
            println!("on {name}, CLERK_RELAY_SEED={seed} CLERK_RELAY_STEPS={steps}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn sqlite_does_what_the_model_says() {
    walks(&OnSqlite, "SQLite");
}

#[test]
fn redis_does_what_the_model_says() {
    walks(&OnRedis, "Redis");
}
