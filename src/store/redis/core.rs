//! What every part of the store works with: the connections, the keys, the rules, who we are. One for each open store.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redis::Value;
use tokio::sync::watch;

use crate::clock::{Clock, Timestamp};
use crate::event::TargetName;
use crate::store::{StoreError, TargetSpec};

use super::Options;
use super::assurance::Assurance;
use super::codes::{self, Token};
use super::fullness::Fullness;
use super::held::Held;
use super::keys::Keys;
use super::link::{Link, LinkError};
use super::news::Audience;
use super::reply::{self, Odd};
use super::scripts::Scripts;

/// What every part of the store works with.
pub struct Core {
    /// The connections.
    pub link: Link,
    /// Where things are.
    pub keys: Keys,
    /// How they are changed.
    pub scripts: Scripts,
    /// Retention and windows.
    pub rules: Rules,
    /// Its offset moves the server's clock, in tests.
    pub clock: Clock,
    /// The leases that somebody in this process holds.
    pub held: Held,
    /// How full the server is.
    pub fullness: Fullness,
    /// Whether the server keeps what it answers.
    pub assurance: Assurance,
    /// Whether anybody listens at other relays.
    pub audience: Audience,
    /// What this relay declared last: declared again when the store has lost it, or others have changed.
    pub declared: Mutex<Declared>,
    /// Tells the flows of this process that there may be work; the other ends are those of [`super::Store::bell`].
    bell: watch::Sender<u64>,
    /// Our lease; changes when ours was taken over.
    lease: AtomicU32,
    /// Relays that are alive, as of the last beat.
    relays: AtomicU32,
    /// Held by the one beat that is under way, so that several that find our lease dead take one new lease, not several.
    pub beating: tokio::sync::Mutex<()>,
    /// Claims so far; a claim's number tells its leases from those of other claims.
    claims: AtomicU32,
    /// Targets with claims whose outcome is unknown, or whose caller had gone.
    unsure: Mutex<BTreeSet<TargetName>>,
    /// For each target, what must not happen at the same time.
    gates: Mutex<HashMap<TargetName, Arc<tokio::sync::Mutex<Gate>>>>,
}

/// Retention and windows, in ms.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Events are kept for this long.
    pub retention_ms: i64,
    /// Dead letters are kept for this long.
    pub dead_letter_retention_ms: i64,
    /// The same `svix-id` is a duplicate for this long.
    pub dedupe_ms: i64,
    /// A mark lives for this long: at least as long as its event may be unfinished, so that it is found by its `svix-id`.
    pub mark_life_ms: i64,
    /// A list of events lives for this long after its last event: until none of them can be needed any more.
    pub list_life_ms: i64,
    /// A relay's lease.
    pub lease_ms: i64,
    /// Replicas that must have an event.
    pub wait_replicas: u32,
}

impl Rules {
    /// The rules of these options.
    pub fn new(options: &Options) -> Self {
        let config = &options.config;
        let dedupe = config.dedupe.max(config.retention);
        Self {
            retention_ms: codes::millis(config.retention),
            dead_letter_retention_ms: codes::millis(config.dead_letter_retention),
            dedupe_ms: codes::millis(dedupe),
            mark_life_ms: codes::millis(dedupe.max(options.wait_max)),
            list_life_ms: codes::millis(
                options.wait_max.max(config.retention).saturating_add(config.dead_letter_retention),
            ),
            lease_ms: codes::millis(config.lease),
            wait_replicas: config.wait_replicas,
        }
    }
}

/// What was declared last.
#[derive(Debug, Default)]
pub struct Declared {
    /// The targets; `None` before the first declaration.
    pub specs: Option<Vec<TargetSpec>>,
    /// The number of our declaration; the store gives them in order.
    pub number: Option<u64>,
    /// The lease that we declared under: under another one nothing is declared yet.
    pub lease: u32,
    /// The revision of what all relays declare, as of the last beat.
    pub revision: u64,
    /// Targets that we have called disputed already.
    pub disputed: Vec<TargetName>,
}

/// What a target's claims share. Whoever holds it is the only one of this process who claims or audits the target.
#[derive(Debug, Default)]
pub struct Gate {
    /// Which kind the next claim takes first.
    pub first: First,
    /// A claim's outcome is unknown: an audit comes before the next claim, and some more follow, because a server that
    /// was stopped may carry a claim out long after we gave it up.
    pub audits_left: u8,
    /// The largest frame that was claimed lately, in bytes; 0: none yet.
    pub largest_bytes: usize,
    /// The last entry of the log that the target's group has taken, as far as we know.
    pub cursor: Option<String>,
}

/// Which kind of delivery a claim takes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum First {
    /// What the cursor has not reached.
    #[default]
    New,
    /// What is due.
    Due,
}

impl First {
    /// The word for it in the script.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Due => "due",
        }
    }

    /// The other one.
    pub const fn other(self) -> Self {
        match self {
            Self::New => Self::Due,
            Self::Due => Self::New,
        }
    }
}

impl Core {
    /// A store of these options behind `link`, under `keys`; nothing is asked yet.
    pub fn new(link: Link, keys: Keys, options: &Options) -> Self {
        Self {
            link,
            keys,
            scripts: Scripts::new(),
            rules: Rules::new(options),
            clock: options.clock.clone(),
            held: Held::default(),
            fullness: Fullness::new(options.size_max_bytes),
            assurance: Assurance::new(options.config.durability),
            audience: Audience::default(),
            declared: Mutex::default(),
            bell: watch::Sender::new(0),
            lease: AtomicU32::new(0),
            relays: AtomicU32::new(1),
            beating: tokio::sync::Mutex::default(),
            claims: AtomicU32::new(0),
            unsure: Mutex::default(),
            gates: Mutex::default(),
        }
    }

    /// Our lease.
    pub fn lease(&self) -> u32 {
        self.lease.load(Ordering::Acquire)
    }

    /// We have another lease from now on.
    pub fn set_lease(&self, lease: u32) {
        self.lease.store(lease, Ordering::Release);
    }

    /// Relays that are alive, this one included.
    pub fn relays(&self) -> u32 {
        self.relays.load(Ordering::Acquire).max(1)
    }

    /// So many were alive at the last beat.
    pub fn set_relays(&self, relays: u32) {
        self.relays.store(relays, Ordering::Release);
    }

    /// A token that no claim of ours had before. Number 0 is that of what is pending in a group.
    pub fn next_token(&self) -> Token {
        let claim = self.claims.fetch_add(1, Ordering::Relaxed) % u32::MAX + 1;
        Token { lease: self.lease(), claim }
    }

    /// The gate of `target`.
    pub fn gate(&self, target: &TargetName) -> Arc<tokio::sync::Mutex<Gate>> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(gates.entry(target.clone()).or_default())
    }

    /// A claim for `target` may have leased what nobody holds.
    pub fn note_unsure(&self, target: &TargetName) {
        self.unsure.lock().unwrap_or_else(PoisonError::into_inner).insert(target.clone());
    }

    /// The targets that must be audited.
    pub fn unsure(&self) -> Vec<TargetName> {
        self.unsure.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The target was audited often enough.
    pub fn is_sure(&self, target: &TargetName) {
        self.unsure.lock().unwrap_or_else(PoisonError::into_inner).remove(target);
    }

    /// The arguments that every script for one target begins with: the clock's offset, the target (its group), our lease.
    pub fn opening(&self, target: &TargetName) -> Vec<Vec<u8>> {
        vec![codes::arg(self.clock.offset_ms()), codes::arg(target), codes::arg(self.lease())]
    }

    /// The store's present, from the server's answer to `TIME`.
    ///
    /// # Errors
    /// Where it is no such answer.
    pub fn time(&self, reply: Value) -> Result<Timestamp, Odd> {
        const WHAT: &str = "the time";
        let Ok([secs, micros]) = <[Value; 2]>::try_from(reply::array(reply, WHAT)?) else {
            return Err(Odd(WHAT));
        };
        let (secs, micros): (i64, i64) = (reply::number(secs, WHAT)?, reply::number(micros, WHAT)?);
        Ok(Timestamp::from_ms(secs * 1000 + micros / 1000 + self.clock.offset_ms()))
    }

    /// Rings the bell in this process.
    pub fn ring(&self) {
        self.bell.send_modify(|rings| *rings = rings.wrapping_add(1));
    }

    /// The bell.
    pub fn bell(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }

    /// The same error for each member of a batch.
    pub fn for_each<T>(&self, error: StoreError, count: usize) -> Vec<Result<T, StoreError>> {
        let shared = Arc::new(error);
        (0..count).map(|_| Err(again(&shared))).collect()
    }
}

/// An error of a whole batch, as each of its members gets it.
#[derive(Debug, thiserror::Error)]
#[error("a batch failed")]
struct OfBatch(#[source] Arc<StoreError>);

fn again(error: &Arc<StoreError>) -> StoreError {
    let source = || Some(Box::new(OfBatch(Arc::clone(error))) as Box<dyn std::error::Error + Send + Sync>);
    match &**error {
        StoreError::Unavailable(_) => StoreError::Unavailable(source()),
        StoreError::Full => StoreError::Full,
        StoreError::Corrupt(_) => StoreError::Corrupt(source()),
    }
}

impl From<LinkError> for StoreError {
    fn from(error: LinkError) -> Self {
        match error {
            LinkError::Full => Self::Full,
            // A refusal may pass as well: rights and settings are changed by people.
            LinkError::Unavailable(_) | LinkError::Replicas { .. } | LinkError::Refused(_) => {
                Self::Unavailable(Some(Box::new(error)))
            }
        }
    }
}
