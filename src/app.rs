//! The relay put together: everything is built here once, and stopped here in a written order. Holds no state of its
//! own beyond the handles; two relays can run in one process.

mod recall;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::clock::{Clock, Timestamp};
use crate::config::{Config, RedisUrl, StoreUrl};
use crate::delivery::send::{Sender, SenderError};
use crate::lifecycle::MAX_WAIT_DEFAULT;
use crate::shutdown::Shutdown;
use crate::store::job::asking::JobBell;
use crate::store::measured::Measured;
use crate::store::query::Durability;
use crate::store::readiness::{Identity, Readiness};
use crate::store::redis;
use crate::store::sqlite::{self, Memory, OpenError};
use crate::store::{Store, StoreError, TargetSpec};
use crate::telemetry::Telemetry;
use crate::telemetry::feed::Feed;
use crate::telemetry::level::LogLevel;
use crate::{admin, delivery, ingress, jobs, upkeep};

/// After an abort the flows get this long to settle what they let go of.
const ABORT_GRACE: Duration = Duration::from_secs(5);

/// What the configuration file does not say.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether the store may lie in memory: only `dev` allows it.
    pub memory: Memory,
    /// The wall clock.
    pub clock: Clock,
    /// The level of this process's log.
    pub log: LogLevel,
}

/// Why the relay does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {addr} for {what}")]
    Bind {
        /// `webhooks` or `the admin API`.
        what: &'static str,
        /// The address of the configuration.
        addr: SocketAddr,
        /// Why: in use, not ours, not allowed.
        #[source]
        source: std::io::Error,
    },
    /// The store cannot be opened.
    #[error("cannot open the store")]
    Open(#[from] OpenError),
    /// The store in Redis cannot be opened.
    #[error("cannot open the store at {url}")]
    OpenRedis {
        /// Its address, without a login.
        url: RedisUrl,
        /// Why: not reached, not durable, too old.
        #[source]
        source: redis::OpenError,
    },
    /// The store does not take the targets.
    #[error("cannot declare the targets in the store")]
    Declare(#[from] StoreError),
    /// A target cannot be sent to.
    #[error(transparent)]
    Sender(#[from] SenderError),
}

/// How a stop went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Everything under way was finished within the grace.
    Gracefully,
    /// The grace ran out: attempts were cut short and went back uncounted.
    Interrupted,
    /// Something did not end even then; what it held is taken over at the next start.
    Abandoned,
}

/// A relay that runs.
pub struct Running {
    /// Where ingress really listens (port 0 is filled in).
    pub ingress_addr: SocketAddr,
    /// Where the admin API really listens.
    pub admin_addr: SocketAddr,
    /// The store, for looking on.
    pub store: Arc<dyn Store>,
    /// What happens, live and counted; the counts of ingress are told at the end.
    pub telemetry: Telemetry,
    /// Stamps what is handed to the store at the end.
    clock: Clock,
    /// Makes `/health/ready` say no while a stop waits for load balancers.
    leaving: CancellationToken,
    shutdown: Shutdown,
    /// One task per flow, named; ended by `shutdown` alone.
    flows: JoinSet<&'static str>,
    /// Resolves when the store has written everything and let go of it.
    store_closed: Closed,
    delay: Duration,
    grace: Duration,
}

/// Opens the store, listens, and starts every flow.
///
/// # Errors
/// [`StartError`]; nothing is left running.
pub async fn start(config: Config, options: Options) -> Result<Running, StartError> {
    let ingress_listener = bind("webhooks", config.listen).await?;
    let admin_listener = bind("the admin API", config.admin.listen).await?;
    let ingress_addr = ingress_listener.local_addr().unwrap_or(config.listen);
    let admin_addr = admin_listener.local_addr().unwrap_or(config.admin.listen);
    let senders: Vec<Sender> =
        config.targets.iter().map(AsRef::as_ref).map(Sender::new).collect::<Result<_, _>>()?;
    let telemetry = Telemetry { log: options.log.clone(), ..Telemetry::default() };
    let (store, store_closed) = open_store(&config, &options, &telemetry).await?;
    declare(&config, &*store).await?;
    recall::recall(&config, &*store, &telemetry).await;
    warn_of_durability(store.overview().await?.durability);

    let (clock, shutdown) = (options.clock, Shutdown::new());
    let mut flows = JoinSet::new();
    for (target, sender) in config.targets.iter().cloned().zip(senders) {
        let (store, clock, telemetry) = (store.clone(), clock.clone(), telemetry.clone());
        let deps = delivery::Deps { target, store, clock, sender, telemetry };
        flows.spawn(named("delivery", delivery::run(deps, shutdown.clone())));
    }
    let deps = upkeep::Deps {
        targets: config.targets.clone(),
        store: store.clone(),
        clock: clock.clone(),
        telemetry: telemetry.clone(),
    };
    flows.spawn(named("upkeep", upkeep::run(deps, shutdown.clone())));
    let job_bell = do_jobs(&mut flows, &store, &shutdown);
    let leaving = CancellationToken::new();
    let readiness = Arc::new(Readiness::new(store.clone(), leaving.clone(), identity(&config, clock.now())));
    let deps = admin::Deps {
        store: store.clone(),
        clock: clock.clone(),
        tokens: config.admin.tokens.clone().into(),
        readiness: readiness.clone(),
        telemetry: telemetry.clone(),
        job_bell,
    };
    flows.spawn(named("admin", admin::run(admin_listener, deps, shutdown.clone())));
    let (delay, grace) = (config.shutdown_delay, config.shutdown_grace);
    let deps = ingress::Deps {
        sources: config.sources,
        targets: config.targets,
        limits: config.limits,
        trusted_proxies: config.trusted_proxies,
        timing: ingress::Timing { idle: config.idle_timeout, ..ingress::Timing::default() },
        store: store.clone(),
        clock: clock.clone(),
        readiness,
        telemetry: telemetry.clone(),
    };
    flows.spawn(named("ingress", ingress::run(ingress_listener, deps, shutdown.clone())));
    Ok(Running {
        ingress_addr,
        admin_addr,
        store,
        telemetry,
        clock,
        leaving,
        shutdown,
        flows,
        store_closed,
        delay,
        grace,
    })
}

impl Running {
    /// Resolves when a flow ends although nobody stopped it: a defect. The relay should then be stopped.
    pub async fn failed(&mut self) {
        match self.flows.join_next().await {
            Some(Ok(flow)) => error!(flow, "a flow ended by itself"),
            Some(Err(error)) => error!(%error, "a flow panicked"),
            None => error!("no flow runs"),
        }
    }

    /// Stops in order: go on for `shutdown_delay`; take nothing new and finish what is under way for at most
    /// `shutdown_grace`; then cut attempts short, uncounted; then close the store.
    pub async fn stop(mut self) -> Stopped {
        self.leaving.cancel();
        tokio::time::sleep(self.delay).await;
        self.shutdown.stop.cancel();
        let mut stopped = Stopped::Gracefully;
        if timeout(self.grace, drain(&mut self.flows)).await.is_err() {
            warn!(
                grace_ms = self.grace.as_millis() as u64,
                "the grace is over: attempts under way are cut short"
            );
            stopped = Stopped::Interrupted;
            self.shutdown.abort.cancel();
            if timeout(ABORT_GRACE, drain(&mut self.flows)).await.is_err() {
                stopped = Stopped::Abandoned;
                self.flows.shutdown().await;
            }
        }
        info!(counts = %self.telemetry.meters.ingress(), "ingress.counted");
        upkeep::hand_over(&*self.store, &self.telemetry.meters, self.clock.now()).await;
        drop(self.store);
        if timeout(ABORT_GRACE, self.store_closed).await.is_err() {
            stopped = Stopped::Abandoned;
        }
        stopped
    }
}

/// Starts the flow that does jobs; the bell is for whoever starts one.
fn do_jobs(flows: &mut JoinSet<&'static str>, store: &Arc<dyn Store>, shutdown: &Shutdown) -> JobBell {
    let bell = JobBell::default();
    let deps = jobs::Deps::new(store.clone(), bell.clone());
    flows.spawn(named("jobs", jobs::run(deps, shutdown.clone())));
    bell
}

async fn named(name: &'static str, flow: impl Future) -> &'static str {
    flow.await;
    name
}

async fn drain(flows: &mut JoinSet<&'static str>) {
    while let Some(ended) = flows.join_next().await {
        if let Err(error) = ended {
            error!(%error, "a flow panicked");
        }
    }
}

async fn bind(what: &'static str, addr: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(addr).await.map_err(|source| StartError::Bind { what, addr, source })
}

/// Resolves when a store is closed.
type Closed = Pin<Box<dyn Future<Output = ()> + Send>>;

async fn open_store(
    config: &Config, options: &Options, telemetry: &Telemetry,
) -> Result<(Arc<dyn Store>, Closed), StartError> {
    let (store, closed): (Arc<dyn Store>, Closed) = match &config.store.url {
        StoreUrl::Sqlite(path) => {
            let (store, closed) = sqlite::open(store_options(config, path.clone(), options))?;
            (Arc::new(store), Box::pin(closed.wait()))
        }
        StoreUrl::Redis(url) => {
            let opened = redis::open(redis_options(config, url.clone(), options, &telemetry.feed)).await;
            let (store, closed) =
                opened.map_err(|source| StartError::OpenRedis { url: url.clone(), source })?;
            (Arc::new(store), Box::pin(closed.wait()))
        }
    };
    Ok((Arc::new(Measured::new(store, telemetry.meters.clone())), closed))
}

fn identity(config: &Config, now: Timestamp) -> Identity {
    let fingerprint = config.fingerprint.clone();
    Identity { version: env!("CARGO_PKG_VERSION"), fingerprint, started_at: now }
}

/// How the configured store is opened, at `url`.
pub fn redis_options(config: &Config, url: RedisUrl, options: &Options, feed: &Feed) -> redis::Options {
    let longest = config.targets.iter().map(|target| target.policy.max_wait).max();
    redis::Options {
        config: config.store.clone(),
        url,
        size_max_bytes: config.limits.store_size_bytes,
        wait_max: longest.unwrap_or_default().max(MAX_WAIT_DEFAULT),
        feed: feed.clone(),
        clock: options.clock.clone(),
    }
}

/// How the configured store is opened, at `path`.
pub fn store_options(config: &Config, path: PathBuf, options: &Options) -> sqlite::Options {
    sqlite::Options {
        path,
        retention: config.store.retention,
        dead_letter_retention: config.store.dead_letter_retention,
        dedupe: config.store.dedupe,
        size_max_bytes: config.limits.store_size_bytes,
        memory: options.memory,
        clock: options.clock.clone(),
        max_page_count: None,
    }
}

fn warn_of_durability(durability: Durability) {
    match durability {
        Durability::Proven => {}
        Durability::Overlay => {
            warn!(
                "store.overlay: the store lies on a container's own layer and is GONE with the container: mount a volume"
            );
        }
        Durability::Memory => {
            warn!("store.memory: the store lies in memory and is gone with this machine's next start")
        }
        Durability::Declared => info!("store.declared: Redis is declared durable, not verified to be"),
        Durability::Relaxed => {
            warn!(
                "store.relaxed: what was answered may be LOST when Redis crashes; wanted so by `durability: relaxed`"
            )
        }
    }
}

/// The first 16 hex digits of the SHA-256 of `text`.
fn digest(text: &str) -> String {
    let hash = Sha256::digest(text.as_bytes());
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

async fn declare(config: &Config, store: &dyn Store) -> Result<(), StoreError> {
    let specs: Vec<TargetSpec> = config
        .targets
        .iter()
        .map(|target| TargetSpec {
            name: target.name.clone(),
            start: target.start,
            url_digest: digest(target.url.as_str()),
        })
        .collect();
    for change in store.declare(&specs).await? {
        upkeep::tell(&change);
    }
    Ok(())
}
