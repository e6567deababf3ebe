//! The connections to Redis: one for each kind of work, so that none waits behind another; scripts by their digests;
//! what goes wrong, classed by what helps. Knows no key and no script by name.
//!
//! A call is sent once (a cluster's client may send it again after it lost a node): an error never says whether it was
//! done, so whatever is called must be harmless twice. A connection that fails is dropped, and the next call makes a
//! new one, for which names and Sentinels are asked again. In a cluster every call goes to the primary that holds the
//! slot of our hash tag, so that a cluster looks like one server.

mod address;
mod connect;
mod fault;
mod line;
mod subscription;

use std::sync::Arc;
use std::time::Duration;

use redis::{Cmd, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value};

use crate::config::redis_url::Topology;
use crate::config::{RedisUrl, StoreConfig, StoreTls};

use fault::classed;
use line::{Held, Line};

pub use address::OpenError;
pub use subscription::Subscription;

/// Which connection a call goes by: work of one kind never waits behind work of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Keeping events.
    Ingest,
    /// Claiming.
    Claim,
    /// Settling.
    Settle,
    /// Everything else: leases, upkeep, people.
    Admin,
}

/// What went wrong with a call, classed by what helps.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LinkError {
    /// No server that takes writes can be reached, or it did not answer in time; whether the call was done is unknown.
    #[error("Redis is not available")]
    Unavailable(#[source] Arc<RedisError>),
    /// The server is at its memory limit; the call was refused whole.
    #[error("Redis is at its memory limit")]
    Full,
    /// Fewer replicas than `wait_replicas` have the write.
    #[error("only {have} of {wanted} replicas have it")]
    Replicas {
        /// How many have it.
        have: u32,
        /// How many must.
        wanted: u32,
    },
    /// The server refuses the call itself: a defect, a wrong type under a key, a missing right.
    #[error("Redis refuses a command")]
    Refused(#[source] Arc<RedisError>),
}

/// A script and its digest.
#[derive(Debug)]
pub struct Script {
    /// Its text, shebang first.
    pub text: String,
    /// Its SHA-1 in hex, by which the server calls it.
    pub digest: String,
}

impl Script {
    /// The script with this text.
    pub fn new(text: String) -> Self {
        let digest = redis::Script::new(&text).get_hash().to_owned();
        Self { text, digest }
    }
}

/// The deadlines of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Of one connection, name lookup, TLS and login included. Finding a master or a cluster's map may take two.
    pub connect: Duration,
    /// Of a call on [`Lane::Ingest`].
    pub ingest: Duration,
    /// Of a call on any other lane.
    pub other: Duration,
    /// A connection that carried nothing for this long may have died unnoticed: it is asked before it is used. One that
    /// has calls under way is not: their own deadlines tell.
    pub idle: Duration,
}

impl Default for Timeouts {
    /// Ingest stays below the 15 s after which Svix gives a request up: 2 s until a connection that was idle is given
    /// up, at most 4 s until there is a new one, 8 s for the call, slow disks included. The store is looked at once a
    /// second by a connection that is never idle for that.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            ingest: Duration::from_secs(8),
            other: Duration::from_secs(5),
            idle: Duration::from_secs(3),
        }
    }
}

/// What a link connects to, and how.
#[derive(Debug, Clone)]
pub struct LinkOptions {
    /// Where Redis is.
    pub url: RedisUrl,
    /// Files for TLS.
    pub tls: StoreTls,
    /// The hash tag of every key, without its braces: in a cluster it decides which primary is ours.
    pub prefix: String,
    /// Replicas that must have what [`Link::call_durably`] writes.
    pub wait_replicas: u32,
    /// The deadlines.
    pub timeouts: Timeouts,
}

impl LinkOptions {
    /// As the configuration says, with the default deadlines.
    pub fn new(url: RedisUrl, config: &StoreConfig) -> Self {
        Self {
            url,
            tls: config.tls.clone(),
            prefix: config.prefix.clone(),
            wait_replicas: config.wait_replicas,
            timeouts: Timeouts::default(),
        }
    }
}

/// The connections; clones share them.
#[derive(Clone)]
pub struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    options: LinkOptions,
    ingest: Line,
    claim: Line,
    settle: Line,
    admin: Line,
}

impl Link {
    /// The connections that `options` ask for; nothing is sent yet.
    ///
    /// # Errors
    /// [`OpenError`] where the address or a file cannot be used.
    pub fn open(options: LinkOptions) -> Result<Self, OpenError> {
        address::infos(&options.url, &options.tls)?;
        let Timeouts { ingest, other, .. } = options.timeouts;
        let (ingest, claim) = (Line::new(ingest), Line::new(other));
        let (settle, admin) = (Line::new(other), Line::new(other));
        Ok(Self { shared: Arc::new(Shared { options, ingest, claim, settle, admin }) })
    }

    /// Calls a script by its digest, or by its text where the server does not have it.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn call(
        &self, lane: Lane, script: &Script, keys: &[Vec<u8>], args: &[Vec<u8>],
    ) -> Result<Value, LinkError> {
        match self.command(lane, &eval(By::Digest(script), keys, args)).await {
            Err(error) if is_unknown_script(&error) => {
                self.command(lane, &eval(By::Text(script), keys, args)).await
            }
            other => other,
        }
    }

    /// The same for a write that must reach the replicas that `wait_replicas` asks for before it counts. The script
    /// writes something in any case: the server waits for what this connection wrote last.
    ///
    /// # Errors
    /// [`LinkError`]; [`LinkError::Replicas`] where too few have it in time.
    pub async fn call_durably(
        &self, lane: Lane, script: &Script, keys: &[Vec<u8>], args: &[Vec<u8>],
    ) -> Result<Value, LinkError> {
        if self.shared.options.wait_replicas == 0 {
            return self.call(lane, script, keys, args).await;
        }
        match self.write_and_wait(lane, eval(By::Digest(script), keys, args)).await {
            Err(error) if is_unknown_script(&error) => {
                self.write_and_wait(lane, eval(By::Text(script), keys, args)).await
            }
            other => other,
        }
    }

    /// Sends one command.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn command(&self, lane: Lane, command: &Cmd) -> Result<Value, LinkError> {
        let mut held = self.line(lane).hold(&self.shared.options).await?;
        let reply = held.connection.command(command).await;
        self.judge(lane, &held, reply)
    }

    /// Sends several commands at once; the first that fails is the error.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn pipeline(&self, lane: Lane, pipeline: &Pipeline) -> Result<Vec<Value>, LinkError> {
        let mut held = self.line(lane).hold(&self.shared.options).await?;
        let replies = held.connection.pipeline(pipeline).await;
        let replies = replies.and_then(|replies| replies.into_iter().map(Value::extract_error).collect());
        self.judge(lane, &held, replies)
    }

    /// Listens to a channel by a connection of its own.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn subscribe(&self, channel: &[u8]) -> Result<Subscription, LinkError> {
        subscription::subscribe(&self.shared.options, channel).await
    }

    /// How many connections a lane has had. Where it has grown, another server may answer, or the same with other
    /// settings.
    pub fn connections(&self, lane: Lane) -> u64 {
        self.line(lane).generation()
    }

    /// How the servers are arranged.
    pub fn topology(&self) -> &Topology {
        &self.shared.options.url.topology
    }

    async fn write_and_wait(&self, lane: Lane, write: Cmd) -> Result<Value, LinkError> {
        let wanted = self.shared.options.wait_replicas;
        // Half the call's deadline: the other half is for the write.
        let wait_ms = u64::try_from(self.response(lane).as_millis() / 2).unwrap_or(u64::MAX).max(1);
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.add_command(write).cmd("WAIT").arg(wanted).arg(wait_ms);
        let mut replies = self.pipeline(lane, &pipeline).await?.into_iter();
        let (written, waited) = (replies.next(), replies.next());
        match (written, waited) {
            (Some(written), Some(Value::Int(have))) => {
                let have = u32::try_from(have).unwrap_or(0);
                if have < wanted { Err(LinkError::Replicas { have, wanted }) } else { Ok(written) }
            }
            (_, _) => {
                let error = RedisError::from((ErrorKind::UnexpectedReturnType, "WAIT gave no number"));
                Err(LinkError::Refused(Arc::new(error)))
            }
        }
    }

    fn judge<T>(&self, lane: Lane, held: &Held, outcome: Result<T, RedisError>) -> Result<T, LinkError> {
        let line = self.line(lane);
        match outcome {
            Ok(reply) => {
                line.answered(held.generation);
                Ok(reply)
            }
            Err(error) => {
                let (error, remedy) = classed(error);
                line.failed(held.generation, &error, remedy);
                Err(error)
            }
        }
    }

    fn line(&self, lane: Lane) -> &Line {
        match lane {
            Lane::Ingest => &self.shared.ingest,
            Lane::Claim => &self.shared.claim,
            Lane::Settle => &self.shared.settle,
            Lane::Admin => &self.shared.admin,
        }
    }

    fn response(&self, lane: Lane) -> Duration {
        match lane {
            Lane::Ingest => self.shared.options.timeouts.ingest,
            Lane::Claim | Lane::Settle | Lane::Admin => self.shared.options.timeouts.other,
        }
    }
}

/// How a script is named to the server.
enum By<'a> {
    /// As one that it knows.
    Digest(&'a Script),
    /// In full: it runs it and knows it from then on.
    Text(&'a Script),
}

fn eval(script: By<'_>, keys: &[Vec<u8>], args: &[Vec<u8>]) -> Cmd {
    let (name, text) = match script {
        By::Digest(script) => ("EVALSHA", &script.digest),
        By::Text(script) => ("EVAL", &script.text),
    };
    let mut command = redis::cmd(name);
    command.arg(text).arg(keys.len()).arg(keys).arg(args);
    command
}

/// Whether the server does not know the script, so that nothing was run.
fn is_unknown_script(error: &LinkError) -> bool {
    matches!(error, LinkError::Refused(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript))
}
