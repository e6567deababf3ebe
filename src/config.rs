//! The configuration as the relay uses it: every value checked, every default filled in, every secret read.
//!
//! Built only by [`load`]: YAML text → [`raw`] nodes with their places in the text → this. All mistakes are collected
//! and shown at once. Knows nothing of files being watched, of stores or of sockets.

pub mod check;
pub mod fingerprint;
pub mod keys;
pub mod mistakes;
pub mod raw;
pub mod read;
pub mod redact;
pub mod redis_url;
pub mod schema;
pub mod text;
pub mod values;
pub mod vars;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use globset::GlobSet;
use hyper::header::{HeaderMap, HeaderValue};
use ipnet::IpNet;
use url::Url;

use crate::event::{Event, SourceName, TargetName};
use crate::lifecycle::breaker::BreakerPolicy;
use crate::lifecycle::{Ordering, Policy, SkipReason, Start};
use crate::secret::{AdminSecret, SigningSecret, TokenDigest};

pub use check::load;
pub use mistakes::{Mistakes, Paint, Warning};
pub use redis_url::RedisUrl;

/// A whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where ingress listens.
    pub listen: SocketAddr,
    /// The sources, each with a path of its own.
    pub sources: Vec<Arc<Source>>,
    /// The targets; none is a legal shadow mode.
    pub targets: Vec<Arc<Target>>,
    /// Where events are kept.
    pub store: StoreConfig,
    /// The admin listener.
    pub admin: Admin,
    /// How logs look.
    pub log: Log,
    /// The bounds on everything that comes in.
    pub limits: Limits,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// An idle connection is closed after this.
    pub idle_timeout: Duration,
    /// How long a stop may wait for what is under way.
    pub shutdown_grace: Duration,
    /// How long a stop goes on accepting, so that a load balancer notices.
    pub shutdown_delay: Duration,
    /// Tells which configuration runs; see [`fingerprint::of`].
    pub fingerprint: String,
}

/// A Clerk endpoint that posts to us.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its name.
    pub name: SourceName,
    /// The path it posts to.
    pub path: String,
    /// Any of these may have signed; the first is the newest.
    pub signing_secrets: Vec<SigningSecret>,
    /// How far the sender's clock may be off.
    pub tolerance: Duration,
    /// Larger bodies are refused, in bytes.
    pub body_max: usize,
    /// Only these addresses may post; empty: anyone.
    pub allow_from: Vec<IpNet>,
    /// Only events of this Clerk instance; `None`: of any.
    pub instance_id: Option<String>,
    /// What a replay from Clerk's dashboard does.
    pub on_replay: OnReplay,
    /// Types that are answered 2xx, counted and never stored.
    pub drop: TypeFilter,
}

impl Source {
    /// Whether `ip` may post.
    pub fn allows(&self, ip: IpAddr) -> bool {
        self.allow_from.is_empty() || self.allow_from.iter().any(|net| net.contains(&ip))
    }
}

/// What happens when a known event comes again long after it was stored: somebody replayed it by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnReplay {
    /// The targets where it is dead get it again.
    #[default]
    RetryDead,
    /// Every target gets it again.
    Redeliver,
    /// Nothing.
    Ignore,
}

/// Patterns on event types, such as `user.*`. A pattern's `*` does not cross a dot; `*` alone matches all types.
#[derive(Debug, Clone)]
pub enum TypeFilter {
    /// Every type.
    All,
    /// Types that match one of these.
    Some(Patterns),
}

/// Patterns, ready to be matched.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    /// As they stand in the file.
    texts: Vec<String>,
    /// The same, with `.` written as `/`.
    set: GlobSet,
}

impl Patterns {
    /// As they stand in the file, in its order.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }
}

impl TypeFilter {
    /// No type at all.
    pub fn none() -> Self {
        Self::Some(Patterns::default())
    }

    /// Whether `event_type` matches.
    pub fn matches(&self, event_type: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(Patterns { set, .. }) => !set.is_empty() && set.is_match(event_type.replace('.', "/")),
        }
    }
}

/// An app that gets events.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its name and identity.
    pub name: TargetName,
    /// Where it is.
    pub url: Url,
    /// The types it wants.
    pub events: TypeFilter,
    /// The sources it wants; empty: all.
    pub sources: Vec<SourceName>,
    /// What to sign with, for each source that it is fed by: its own secrets, or the source's.
    pub signing_secrets: BTreeMap<SourceName, Vec<SigningSecret>>,
    /// Static headers sent with every attempt.
    pub headers: HeaderMap,
    /// `User-Agent` of every attempt.
    pub user_agent: HeaderValue,
    /// The deadline of a whole attempt.
    pub timeout: Duration,
    /// Attempts under way at once.
    pub concurrency: usize,
    /// When to retry and when to give up.
    pub policy: Policy,
    /// When attempts stop because the target is down; `None`: never.
    pub breaker: Option<BreakerPolicy>,
    /// Whether events of one subject go one after the other.
    pub ordering: Ordering,
    /// Where the target begins when the store does not know it.
    pub start: Start,
    /// Certificates to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// A proxy to go through.
    pub proxy: Option<Url>,
}

impl Target {
    /// Why the target does not want `event`, or `None` where it does.
    pub fn skips(&self, event: &Event) -> Option<SkipReason> {
        if !self.sources.is_empty() && !self.sources.contains(&event.source) {
            return Some(SkipReason::Source);
        }
        (!self.events.matches(&event.event_type)).then_some(SkipReason::EventType)
    }
}

/// Where and how long events are kept.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Which store.
    pub url: StoreUrl,
    /// Ended events are kept for this long from acceptance.
    pub retention: Duration,
    /// Dead letters are kept for this long from their death.
    pub dead_letter_retention: Duration,
    /// The window in which the same `svix-id` counts as a duplicate; never less than `retention`.
    pub dedupe: Duration,
    /// What Redis must prove.
    pub durability: DurabilityWanted,
    /// Replicas of Redis that must have an event before it is answered.
    pub wait_replicas: u32,
    /// What every key in Redis begins with, in braces.
    pub prefix: String,
    /// TLS to Redis.
    pub tls: StoreTls,
    /// A relay that Redis has not heard of for so long is dead, and the others take its deliveries over.
    pub lease: Duration,
}

/// The kinds of stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// `sqlite:PATH`, relative to the working directory.
    Sqlite(PathBuf),
    /// `redis://…` and its relatives.
    Redis(RedisUrl),
}

/// How sure the relay must be that Redis keeps what it has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DurabilityWanted {
    /// Proven by the server's own settings, or the relay does not start.
    #[default]
    Strict,
    /// The operator declares it, where the server does not show its settings.
    Managed,
    /// Not at all: losses are accepted.
    Relaxed,
}

impl fmt::Display for DurabilityWanted {
    /// The word of the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strict => "strict",
            Self::Managed => "managed",
            Self::Relaxed => "relaxed",
        })
    }
}

/// Files for TLS to Redis, each PEM.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreTls {
    /// Certificates to trust in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate, where the server asks for one; never without its key.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
}

/// The admin listener.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Where it listens; without tokens always a loopback address.
    pub listen: SocketAddr,
    /// Who may use it; empty: whoever reaches the loopback address.
    pub tokens: Vec<AdminToken>,
}

/// One admin token.
#[derive(Debug, Clone)]
pub struct AdminToken {
    /// Its name in the audit.
    pub name: String,
    /// Its digest.
    pub digest: TokenDigest,
    /// The token itself, where the configuration holds it: what commands on this machine use.
    pub secret: Option<AdminSecret>,
    /// What it may do.
    pub can: Scope,
}

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Scrape `/metrics`, and nothing else.
    Metrics,
    /// Look.
    Read,
    /// Look and change.
    Write,
}

/// How logs look.
#[derive(Debug, Clone)]
pub struct Log {
    /// Their form; `None`: text on a terminal, else JSON.
    pub format: Option<LogFormat>,
    /// The least severe level that is logged.
    pub level: tracing::Level,
}

pub use crate::telemetry::LogFormat;

/// The bounds on everything that comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// Requests under way; more are answered 503.
    pub in_flight: usize,
    /// Body bytes under way; more are answered 503.
    pub in_flight_bytes: usize,
    /// Bytes the store may use.
    pub store_size_bytes: u64,
}
