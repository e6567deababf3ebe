//! The connections to Redis: one for each kind of work, so that none waits behind another; scripts by their digests;
//! what goes wrong, classed by what helps. Knows no key and no script by name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value};

use crate::config::RedisUrl;
use crate::config::redis_url::Transport;

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

/// The connections; clones share them.
#[derive(Clone)]
pub struct Link {
    client: redis::Client,
    lanes: Arc<Mutex<HashMap<Lane, MultiplexedConnection>>>,
}

impl Link {
    /// Calls a script by its digest, and loads it where the server does not have it.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn call(
        &self, lane: Lane, script: &Script, keys: &[Vec<u8>], args: &[Vec<u8>],
    ) -> Result<Value, LinkError> {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&script.digest).arg(keys.len()).arg(keys).arg(args);
        match self.command(lane, &command).await {
            Err(LinkError::Refused(error))
                if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) =>
            {
                self.command(lane, redis::cmd("SCRIPT").arg("LOAD").arg(&script.text)).await?;
                self.command(lane, &command).await
            }
            other => other,
        }
    }

    /// The same for a write that must reach the replicas that `wait_replicas` asks for before it counts.
    ///
    /// # Errors
    /// [`LinkError`]; [`LinkError::Replicas`] where too few have it.
    pub async fn call_durably(
        &self, lane: Lane, script: &Script, keys: &[Vec<u8>], args: &[Vec<u8>],
    ) -> Result<Value, LinkError> {
        self.call(lane, script, keys, args).await
    }

    /// Sends one command.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn command(&self, lane: Lane, command: &Cmd) -> Result<Value, LinkError> {
        let mut connection = self.connection(lane).await?;
        connection.send_packed_command(command).await.map_err(classed)
    }

    /// Sends several commands at once; the first that fails is the error.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn pipeline(&self, lane: Lane, pipeline: &Pipeline) -> Result<Vec<Value>, LinkError> {
        let mut connection = self.connection(lane).await?;
        pipeline.query_async(&mut connection).await.map_err(classed)
    }

    /// The connections to `url`; nothing is sent yet.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn new(url: &RedisUrl) -> Result<Self, LinkError> {
        let text = match &url.transport {
            Transport::Tcp(nodes) | Transport::Tls(nodes) => {
                nodes.first().map(|(host, port)| format!("redis://{host}:{port}/")).unwrap_or_default()
            }
            Transport::Unix(path) => format!("redis+unix://{}", path.display()),
        };
        let client = redis::Client::open(text).map_err(classed)?;
        Ok(Self { client, lanes: Arc::default() })
    }

    async fn connection(&self, lane: Lane) -> Result<MultiplexedConnection, LinkError> {
        let known = self.lanes.lock().unwrap_or_else(PoisonError::into_inner).get(&lane).cloned();
        if let Some(connection) = known {
            return Ok(connection);
        }
        let connection = self.client.get_multiplexed_async_connection().await.map_err(classed)?;
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).insert(lane, connection.clone());
        Ok(connection)
    }
}

fn classed(error: RedisError) -> LinkError {
    match error.kind() {
        ErrorKind::Server(ServerErrorKind::ResponseError) if error.code() == Some("OOM") => LinkError::Full,
        ErrorKind::Server(_) | ErrorKind::Extension => LinkError::Refused(Arc::new(error)),
        _ => LinkError::Unavailable(Arc::new(error)),
    }
}

/// What another relay rings.
pub struct Subscription(redis::aio::PubSub);

impl Subscription {
    /// The next message; `None` when the connection has ended.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        use futures_util::StreamExt as _;
        let message = self.0.on_message().next().await?;
        Some(message.get_payload_bytes().to_vec())
    }
}

impl Link {
    /// Subscribes to a channel.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn subscribe(&self, channel: &[u8]) -> Result<Subscription, LinkError> {
        let mut subscription = self.client.get_async_pubsub().await.map_err(classed)?;
        subscription.subscribe(channel).await.map_err(classed)?;
        Ok(Subscription(subscription))
    }
}
