//! The store for many relays: one Redis Stream as the log, a consumer group for each target, explicit records only for
//! what is no plain success.
//!
//! A claim reads the group and a settle acknowledges; only what failed, was parked, or was asked for by hand has a record
//! before it ends. Every change of more than one key is a script ([`scripts`]); this side batches, adopts what a lost reply
//! left ([`audit`]) and takes over what dead relays left ([`leases`]). The server's clock judges everything.

mod assurance;
mod audit;
mod batch;
mod bell;
mod capped;
mod claim;
mod codes;
mod core;
pub mod durability;
mod entries;
mod fullness;
mod held;
mod ingest;
mod jobs;
mod keys;
mod leases;
pub mod link;
mod ledger;
mod listed;
mod lists;
mod look;
mod memo;
mod news;
mod overview;
mod record;
mod redrive;
mod refusals;
mod reply;
mod scripts;
mod select;
mod settle;
mod sweep;
mod tallies;
mod targets;
mod walk;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::StoreConfig;
use crate::event::{Event, TargetName};
use crate::signature::Verified;
use crate::telemetry::feed::Feed;

use super::query::{
    DeliveryQuery, DeliveryView, Erase, Erased, EventLookup, EventMeta, EventQuery, EventRef, Overview, Page,
    Paged, Redrive, Redriven,
};
use super::{
    ClaimWanted, Claimed, Control, Controlled, Ingested, Settle, Settled, Store, StoreError, Swept,
    TargetChange, TargetSpec, Ticked,
};

use self::batch::Batcher;
use self::core::Core;
use self::durability::CheckError;
use self::ingest::Incoming;
use self::keys::Keys;
use self::leases::Ticks;
use self::link::{Lane, Link, LinkOptions};
use self::settle::Outgoing;

/// How to open a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it is, how its keys begin, how long what is kept, how durable it must be.
    pub config: StoreConfig,
    /// Its address; `config.url` may name another store.
    pub url: crate::config::RedisUrl,
    /// Ingest answers [`StoreError::Full`] above this many bytes, or above the server's own limit.
    pub size_max_bytes: u64,
    /// The longest that an unfinished delivery may wait: a mark is kept at least as long.
    pub wait_max: Duration,
    /// Where relays on the same store hear what others tell.
    pub feed: Feed,
    /// Moves the server's clock, in tests. Only its offset is used.
    pub clock: Clock,
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address or a file for TLS cannot be used.
    #[error(transparent)]
    Link(#[from] link::OpenError),
    /// The server is too old, or may lose what it answers, or does not tell.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// It failed while its state was read.
    #[error("the store in Redis cannot be read")]
    Store(#[from] StoreError),
    /// Written by a newer release.
    #[error("the store has form {found}, this release knows an older one: run a newer release")]
    TooNew {
        /// The store's form.
        found: u32,
    },
}

/// The store. A clone is another handle; when the last one is dropped, [`Closed`] resolves.
#[derive(Clone)]
pub struct RedisStore {
    core: Arc<Core>,
    ingests: Batcher<Incoming, Result<Ingested, StoreError>>,
    /// One for each target; made at its first settle.
    settles: Arc<Mutex<HashMap<TargetName, Settles>>>,
    tasks: TaskTracker,
    /// What beats have found; shared with the task that keeps the lease.
    ticks: Arc<tokio::sync::Mutex<Ticks>>,
    /// Where the next sweep goes on among what was kept aside.
    swept: Arc<AtomicU64>,
    /// Ends the background tasks with the last handle.
    _open: Arc<DropGuard>,
}

type Settles = Batcher<Outgoing, Result<Settled, StoreError>>;

/// Resolves when the last handle is gone, everything on its way has arrived, and our lease is given back.
#[derive(Debug)]
pub struct Closed(oneshot::Receiver<()>);

impl Closed {
    /// Waits for that.
    pub async fn wait(self) {
        let _ = self.0.await; // an error means that the task is gone, which is the same
    }
}

/// What a look from outside finds: the server is asked, and nothing is joined or changed.
///
/// # Errors
/// [`OpenError`].
pub async fn look(options: &Options) -> Result<Overview, OpenError> {
    let link = Link::open(LinkOptions::new(options.url.clone(), &options.config))?;
    let core = Core::new(link, Keys::new(&options.config.prefix), options);
    core.assurance.check(&core).await?;
    Ok(overview::overview(&core).await?)
}

/// Opens a store of its own beside the one that `options` mean, in the same slot and under the same rights, for a check;
/// [`RedisStore::erase`] removes it again.
///
/// # Errors
/// [`OpenError`].
pub async fn open_aside(options: Options, name: &str) -> Result<(RedisStore, Closed), OpenError> {
    let keys = Keys::aside(&options.config.prefix, name);
    open_with(options, keys).await
}

/// Opens the store: checks what the server promises, joins the other relays, and takes over what dead ones left.
///
/// # Errors
/// [`OpenError`].
pub async fn open(options: Options) -> Result<(RedisStore, Closed), OpenError> {
    let keys = Keys::new(&options.config.prefix);
    open_with(options, keys).await
}

async fn open_with(options: Options, keys: Keys) -> Result<(RedisStore, Closed), OpenError> {
    let link = Link::open(LinkOptions::new(options.url.clone(), &options.config))?;
    let core = Arc::new(Core::new(link, keys, &options));
    // The connection that events will be kept by is made now: what is found holds for it.
    core.link.command(Lane::Ingest, &::redis::cmd("PING")).await.map_err(StoreError::from)?;
    core.assurance.check(&core).await?;
    if let Err(found) = leases::check_form(&core).await? {
        return Err(OpenError::TooNew { found });
    }
    for dead in leases::beat(&core).await?.expired {
        leases::take_over(&core, dead).await?;
    }
    let (tasks, stop, ticks) = (TaskTracker::new(), CancellationToken::new(), Arc::default());
    tasks.spawn(leases::keep(Arc::clone(&core), Arc::clone(&ticks), stop.clone()));
    tasks.spawn(bell::listen(Arc::clone(&core), stop.clone()));
    tasks.spawn(bell::look(Arc::clone(&core), stop.clone()));
    tasks.spawn(news::hear(Arc::clone(&core), options.feed.clone(), stop.clone()));
    tasks.spawn(news::tell(Arc::clone(&core), options.feed.clone(), stop.clone()));
    let keeper = Arc::clone(&core);
    let ingests =
        Batcher::start(&tasks, ingest::BOUNDS, move |batch| ingest::keep(Arc::clone(&keeper), batch));
    let (closed, is_closed) = oneshot::channel();
    // Ends the store: after the last handle is dropped and the tasks above have ended.
    tokio::spawn(close(Arc::clone(&core), tasks.clone(), stop.clone(), closed));
    let store = RedisStore {
        core,
        ingests,
        settles: Arc::default(),
        tasks,
        ticks,
        swept: Arc::default(),
        _open: Arc::new(stop.drop_guard()),
    };
    Ok((store, Closed(is_closed)))
}

async fn close(core: Arc<Core>, tasks: TaskTracker, stop: CancellationToken, closed: oneshot::Sender<()>) {
    stop.cancelled().await;
    tasks.close();
    tasks.wait().await;
    leases::farewell(&core).await;
    let _ = closed.send(()); // whoever waited may have gone
}

impl RedisStore {
    /// Removes a store that was opened by [`open_aside`] and has taken no more than `event`.
    ///
    /// # Errors
    /// Where Redis cannot be reached.
    pub async fn erase(&self, event: &Event) -> Result<(), StoreError> {
        let keys = &self.core.keys;
        let mut command = ::redis::cmd("DEL");
        for key in [keys.log(), keys.meta(), keys.relays(), keys.declared(), keys.targets(), keys.sources()] {
            command.arg(key);
        }
        command.arg(keys.refusals()).arg(keys.audit()).arg(keys.jobs()); // tallies run out by themselves
        command.arg(keys.mark(&event.source, &event.svix_id));
        command.arg(keys.of_source(&event.source)).arg(keys.of_type(&event.event_type));
        command.arg(event.subject.as_ref().map(|subject| keys.subject(subject.as_str())));
        self.core.link.command(Lane::Admin, &command).await?;
        Ok(())
    }

    fn settles(&self, target: &TargetName) -> Settles {
        let mut settles = self.settles.lock().unwrap_or_else(PoisonError::into_inner);
        let batcher = settles.entry(target.clone()).or_insert_with(|| {
            let (core, target) = (Arc::clone(&self.core), target.clone());
            Batcher::start(&self.tasks, settle::BOUNDS, move |batch| {
                settle::apply(Arc::clone(&core), target.clone(), batch)
            })
        });
        batcher.clone()
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn declare(&self, targets: &[TargetSpec]) -> Result<Vec<TargetChange>, StoreError> {
        targets::declare(&self.core, targets).await
    }

    async fn ingest(&self, event: Verified) -> Result<Ingested, StoreError> {
        let incoming = Incoming::new(&self.core, &event); // here, not on the one task that batches
        let bytes = incoming.bytes();
        self.ingests.give(incoming, bytes).await.unwrap_or(Err(StoreError::Unavailable(None)))
    }

    async fn claim(&self, wanted: ClaimWanted) -> Result<Claimed, StoreError> {
        claim::claim(&self.core, wanted).await
    }

    async fn settle(&self, settle: Settle) -> Result<Settled, StoreError> {
        let outgoing = Outgoing::new(&self.core, &settle);
        let bytes = outgoing.bytes();
        let batcher = self.settles(settle.lease.target());
        batcher.give(outgoing, bytes).await.unwrap_or(Err(StoreError::Unavailable(None)))
    }

    fn bell(&self) -> watch::Receiver<u64> {
        self.core.bell()
    }

    async fn tick(&self) -> Result<Ticked, StoreError> {
        leases::tick(&self.core, &self.ticks).await
    }

    async fn control(&self, target: &TargetName, control: Control) -> Result<Controlled, StoreError> {
        targets::control(&self.core, target, control).await
    }

    async fn redrive(&self, redrive: Redrive) -> Result<Redriven, StoreError> {
        redrive::redrive(&self.core, &redrive).await
    }

    async fn events(&self, query: EventQuery, page: Page) -> Result<Paged<EventMeta>, StoreError> {
        lists::events(&self.core, &query, &page).await
    }

    async fn event(&self, wanted: EventRef) -> Result<EventLookup, StoreError> {
        lists::event(&self.core, &wanted).await
    }

    async fn deliveries(&self, query: DeliveryQuery, page: Page) -> Result<Paged<DeliveryView>, StoreError> {
        lists::deliveries(&self.core, &query, &page).await
    }

    async fn overview(&self) -> Result<Overview, StoreError> {
        overview::overview(&self.core).await
    }

    async fn erase(&self, _: Erase) -> Result<Erased, StoreError> {
        Err(StoreError::Unavailable(None))
    }

    async fn sweep(&self, max: u32) -> Result<Swept, StoreError> {
        sweep::sweep(&self.core, max, &self.swept).await
    }
}
