//! The relay itself, whole: configuration, listeners, store on disk, delivery. In this process, so that it shares the
//! cores with its load exactly as its ceilings do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use clerk_relay::app::{self, Options, Running};
use clerk_relay::config;
use http_body_util::BodyExt as _;
use tokio::sync::Notify;

use crate::bare;
use crate::load::{Load, Measured, post_all};

/// Attempts under way at once, the relay's default.
pub const CONCURRENCY: usize = 16;
const PATH: &str = "/webhooks/clerk";

/// A folder on the disk that the build uses.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// The running Redis to measure on, where one is named.
pub fn redis_url() -> Option<String> {
    std::env::var("CLERK_RELAY_BENCH_REDIS").ok()
}

/// Where the relay of one measurement keeps its events.
pub enum Place {
    /// A file in a folder of its own.
    Sqlite(tempfile::TempDir),
    /// A running Redis, under keys of its own.
    Redis { url: String, prefix: String },
}

impl Place {
    /// The Redis that `CLERK_RELAY_BENCH_REDIS` names, else a new file.
    fn new() -> Self {
        match redis_url() {
            Some(url) => Self::Redis { url, prefix: format!("bench-{:08x}", rand::random::<u32>()) },
            None => Self::Sqlite(folder()),
        }
    }

    fn store(&self) -> serde_json::Value {
        match self {
            Self::Sqlite(folder) => {
                serde_json::json!({ "url": format!("sqlite:{}", folder.path().join("relay.db").display()) })
            }
            Self::Redis { url, prefix } => serde_json::json!({ "url": url, "prefix": prefix }),
        }
    }
}

async fn start(load: &Load, place: &Place, targets: serde_json::Value) -> Running {
    let text = serde_json::json!({
        "listen": "127.0.0.1:0",
        "admin": { "listen": "127.0.0.1:0" },
        "sources": { "clerk": { "signing_secrets": [load.secret.expose()], "path": PATH } },
        "targets": targets,
        "store": place.store(),
    });
    let (config, _) = config::load(&text.to_string(), "bench", &|_| None).unwrap();
    app::start(config, Options::default()).await.unwrap()
}

/// From the request to the 200, durable, nothing delivered.
pub async fn ingest(load: &Load, connections: usize) -> Measured {
    let place = Place::new();
    let running = start(load, &place, serde_json::json!({})).await;
    let measured = post_all(load, running.ingress_addr, PATH, connections).await;
    running.stop().await;
    measured
}

/// A store with every event and no target yet.
pub async fn fill(load: &Load) -> Place {
    let place = Place::new();
    let filling = start(load, &place, serde_json::json!({})).await;
    post_all(load, filling.ingress_addr, PATH, 64).await;
    filling.stop().await;
    place
}

/// A backlog of every event, from the start of the target to the last request at the receiver.
pub async fn delivery(load: &Load) -> Measured {
    let place = fill(load).await;
    deliver(load, &place, 1).await
}

/// Delivers what `place` holds to this many new targets, all at one receiver.
pub async fn deliver(load: &Load, place: &Place, targets: usize) -> Measured {
    let (received, all) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (counter, done, count) = (received.clone(), all.clone(), load.events.len() * targets);
    let receiver = bare::serve(move |request| {
        let (counter, done) = (counter.clone(), done.clone());
        async move {
            request.into_body().collect().await.unwrap();
            if counter.fetch_add(1, Ordering::Relaxed) + 1 == count {
                done.notify_one();
            }
        }
    })
    .await;
    let target = serde_json::json!({
        "url": format!("http://{}/", receiver.addr), "start": "beginning", "concurrency": CONCURRENCY,
    });
    let targets: serde_json::Map<_, _> =
        (0..targets).map(|number| (format!("app-{number}"), target.clone())).collect();
    let began = Instant::now();
    let running = start(load, place, targets.into()).await;
    all.notified().await;
    let took = began.elapsed();
    running.stop().await;
    Measured { events: count, took, latencies: Vec::new() }
}
