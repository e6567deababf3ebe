//! The store in Redis under what may befall it: replies that never come, data that is gone, servers that die, other
//! relays. Each test has servers of its own.

mod costs;
mod losses;
mod news;
mod order;
mod places;
mod relays;
mod replies;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clerk_relay::clock::Clock;
use clerk_relay::config::RedisUrl;
use clerk_relay::config::redis_url::Topology;
use clerk_relay::store::redis::{self, Closed, Options};
use clerk_relay::store::{Store, StoreError};

use crate::contract::harness::{Kind, Lab, MINUTE, Place, Setup, redis_options};
use crate::support::proxy::Proxy;
use crate::support::redis::{RedisServer, tcp_url};

/// A lease that runs out soon: the least that the configuration allows.
const SHORT_LEASE: Duration = Duration::from_secs(1);

/// A store on a server that somebody else started.
struct At(Options);

struct Opened {
    options: Options,
    closed: Option<Closed>,
}

impl Kind for At {
    fn place(&self, _: Setup) -> Box<dyn Place> {
        Box::new(Opened { options: self.0.clone(), closed: None })
    }
}

#[async_trait]
impl Place for Opened {
    async fn open(&mut self, clock: &Clock) -> Arc<dyn Store> {
        let options = Options { clock: clock.clone(), ..self.options.clone() };
        let (store, closed) = redis::open(options).await.unwrap();
        self.closed = Some(closed);
        Arc::new(store)
    }

    async fn closed(&mut self) {
        let closed = self.closed.take().expect("it was opened");
        tokio::time::timeout(MINUTE, closed.wait()).await.expect("a dropped store closes");
    }
}

fn options(server: &RedisServer) -> Options {
    redis_options(server, Setup::default(), &Clock::system())
}

fn options_at(server: &RedisServer, url: RedisUrl) -> Options {
    Options { url, ..options(server) }
}

/// Options of a relay whose lease runs out soon.
fn short_lived(server: &RedisServer) -> Options {
    let mut options = options(server);
    options.config.lease = SHORT_LEASE;
    options
}

/// A store on `server` with these targets, which begin now.
async fn lab_on(server: &RedisServer, targets: &[&str]) -> Lab {
    lab_with(options(server), targets).await
}

async fn lab_with(options: Options, targets: &[&str]) -> Lab {
    let lab = Lab::new(&At(options)).await;
    lab.declare(targets).await;
    lab
}

/// The same through a proxy.
async fn lab_through(proxy: &Proxy, server: &RedisServer, targets: &[&str]) -> Lab {
    lab_with(options_at(server, tcp_url(&[proxy.port()], Topology::Standalone)), targets).await
}

#[track_caller]
fn assert_unavailable<T: std::fmt::Debug>(outcome: Result<T, StoreError>) {
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
}
