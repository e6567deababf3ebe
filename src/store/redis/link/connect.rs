//! Making one connection: to a server, to the node of a cluster that holds our keys, or to the master that Sentinels
//! know at present. Names are looked up and Sentinels asked anew each time; every step has a deadline.

use std::io;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, ErrorKind, Pipeline, RedisError, RedisResult, Role,
    Value,
};

use super::LinkOptions;
use super::address::{self, OpenError, Wire};
use crate::config::redis_url::Topology;

/// Commands that may wait to be written; a caller beyond waits for room.
const QUEUED_MAX: usize = 1024;
/// Bytes gathered before they are written: a batch of events goes out whole.
const GATHERED_MAX_BYTES: usize = 256 * 1024;
/// A cluster's client tries a call so often again after a redirection or a lost node; all under the call's deadline.
const CLUSTER_RETRIES: u32 = 3;
/// Between those, in milliseconds: at least and at most.
const CLUSTER_RETRY_MS: (u64, u64) = (50, 500);
/// Finding the way (Sentinels, a cluster's map) takes several connections: so many times the deadline of one.
const DETOUR: u32 = 2;

/// A connection; clones share it.
#[derive(Clone)]
pub(super) enum Connection {
    /// To one server.
    Server(MultiplexedConnection),
    /// To the primary that holds our slot, wherever that is.
    Cluster(ClusterConnection, Route),
}

impl Connection {
    /// Sends one command.
    ///
    /// # Errors
    /// Whatever the client or the server says.
    pub(super) async fn command(&mut self, command: &Cmd) -> RedisResult<Value> {
        let reply = match self {
            Self::Server(connection) => connection.send_packed_command(command).await,
            Self::Cluster(connection, route) => {
                let routing = RoutingInfo::SingleNode(SingleNodeRoutingInfo::SpecificNode(*route));
                connection.route_command(command.clone(), routing).await
            }
        };
        reply?.extract_error()
    }

    /// Sends several commands at once. What the server refuses comes back as [`Value::ServerError`] in its place.
    ///
    /// # Errors
    /// Whatever the client says.
    pub(super) async fn pipeline(&mut self, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
        let (offset, count) =
            if pipeline.is_transaction() { (pipeline.len() + 1, 1) } else { (0, pipeline.len()) };
        let replies = match self {
            Self::Server(connection) => connection.send_packed_commands(pipeline, offset, count).await?,
            Self::Cluster(connection, route) => {
                let routing = SingleNodeRoutingInfo::SpecificNode(*route);
                connection.route_pipeline(pipeline.clone(), offset, count, routing).await?
            }
        };
        if !pipeline.is_transaction() {
            return Ok(replies);
        }
        match replies.into_iter().next() {
            Some(Value::Array(replies)) => Ok(replies),
            Some(other) => Ok(vec![other]),
            None => Ok(Vec::new()),
        }
    }
}

/// Why no connection was made.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// The files have become unusable since they were first read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Nobody serves there.
    #[error(transparent)]
    Redis(#[from] RedisError),
}

impl ConnectError {
    /// As the client's error, which all callers of a link know.
    pub(super) fn into_redis(self) -> RedisError {
        match self {
            Self::Redis(error) => error,
            Self::Open(error) => io::Error::other(error).into(),
        }
    }
}

/// A new connection whose calls may take `response`.
///
/// # Errors
/// [`ConnectError`], within a few times the deadline for connecting.
pub(super) async fn connect(options: &LinkOptions, response: Duration) -> Result<Connection, ConnectError> {
    if options.url.topology == Topology::Cluster {
        return cluster(options, response).await;
    }
    let config = config(options, response);
    let open = move |info| {
        let config = config.clone();
        async move { Ok(Client::open(info)?.get_multiplexed_async_connection_with_config(&config).await?) }
            .boxed()
    };
    let connection = place(options, &open).await?;
    Ok(Connection::Server(connection))
}

/// Opens something to one server.
pub(super) type Open<'a, T> =
    dyn Fn(ConnectionInfo) -> BoxFuture<'static, Result<T, ConnectError>> + Send + Sync + 'a;

/// Finds a server that takes writes (in a cluster: any node) and opens something to it.
///
/// # Errors
/// [`ConnectError`]: that of the last place tried.
pub(super) async fn place<T>(options: &LinkOptions, open: &Open<'_, T>) -> Result<T, ConnectError> {
    let within = options.timeouts.connect * DETOUR;
    bounded(within, async {
        if let Topology::Sentinel { master } = &options.url.topology {
            return sentinel(options, master, open).await;
        }
        let mut last = None;
        for info in address::infos(&options.url, &options.tls)? {
            match open(info).await {
                Ok(opened) => return Ok(opened),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| unreachable("the address names no server")))
    })
    .await
}

/// Fails with a timeout where `work` takes longer than `within`.
pub(super) async fn bounded<T>(
    within: Duration, work: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    let elapsed = |_| ConnectError::Redis(io::Error::from(io::ErrorKind::TimedOut).into());
    tokio::time::timeout(within, work).await.map_err(elapsed)?
}

fn config(options: &LinkOptions, response: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(options.timeouts.connect))
        .set_response_timeout(Some(response))
        .set_pipeline_buffer_size(QUEUED_MAX)
        .set_write_backpressure_boundary(GATHERED_MAX_BYTES)
}

async fn cluster(options: &LinkOptions, response: Duration) -> Result<Connection, ConnectError> {
    let (wait_min_ms, wait_max_ms) = CLUSTER_RETRY_MS;
    let mut builder = ClusterClientBuilder::new(address::infos(&options.url, &options.tls)?)
        // All nodes are called twice, and one that is dead is waited for each time.
        .connection_timeout(options.timeouts.connect / 2)
        .response_timeout(response)
        .overall_response_timeout(Some(response))
        .retries(CLUSTER_RETRIES)
        .min_retry_wait(wait_min_ms)
        .max_retry_wait(wait_max_ms)
        .tcp_settings(address::tcp_settings())
        .write_backpressure_boundary(GATHERED_MAX_BYTES);
    if let Wire::Tls(certificates) = address::wire(&options.url, &options.tls)? {
        builder = builder.certs(certificates);
    }
    let client = builder.build()?;
    let route = Route::with_key(format!("{{{}}}", options.prefix), SlotAddr::Master);
    bounded(options.timeouts.connect * DETOUR, async {
        Ok(Connection::Cluster(client.get_async_connection().await?, route))
    })
    .await
}

/// Asks all Sentinels at once and opens the first address that is a master indeed: a Sentinel that was cut off may
/// still tell of the last one.
async fn sentinel<T>(options: &LinkOptions, master: &str, open: &Open<'_, T>) -> Result<T, ConnectError> {
    let wire = address::wire(&options.url, &options.tls)?;
    let mut asked = FuturesUnordered::new();
    for info in address::infos(&options.url, &options.tls)? {
        asked.push(master_by(options, info, master));
    }
    let (mut tried, mut last) = (Vec::new(), None);
    while let Some(answer) = asked.next().await {
        let found = match answer {
            Ok(place) if tried.contains(&place) => continue,
            Ok((host, port)) => {
                let info = address::info(&wire, &host, port, &address::login(&options.url))?;
                tried.push((host, port));
                match assert_master(options, &info).await {
                    Ok(()) => open(info).await,
                    Err(error) => Err(error),
                }
            }
            Err(error) => Err(error),
        };
        match found {
            Ok(opened) => return Ok(opened),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| unreachable("the address names no Sentinel")))
}

/// Where one Sentinel believes the master to be. Sentinels have logins of their own: where ours is not theirs, they
/// are asked without.
async fn master_by(
    options: &LinkOptions, info: ConnectionInfo, master: &str,
) -> Result<(String, u16), ConnectError> {
    let config = config(options, options.timeouts.connect);
    let with_login = info.redis_settings().clone().set_db(0);
    let known = info.clone().set_redis_settings(with_login);
    let known = Client::open(known)?.get_multiplexed_async_connection_with_config(&config).await;
    let mut connection = match known {
        Err(error) if error.kind() == ErrorKind::AuthenticationFailed && options.url.password.is_some() => {
            let nobody = info.set_redis_settings(address::anonymous());
            Client::open(nobody)?.get_multiplexed_async_connection_with_config(&config).await?
        }
        other => other?,
    };
    let found: Option<(String, u16)> = redis::cmd("SENTINEL")
        .arg("get-master-addr-by-name")
        .arg(master)
        .query_async(&mut connection)
        .await?;
    found.ok_or_else(|| {
        let text = "a Sentinel does not know a master of this name";
        ConnectError::Redis(RedisError::from((ErrorKind::MasterNameNotFoundBySentinel, text)))
    })
}

async fn assert_master(options: &LinkOptions, info: &ConnectionInfo) -> Result<(), ConnectError> {
    let config = config(options, options.timeouts.connect);
    let client = Client::open(info.clone())?;
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    match redis::cmd("ROLE").query_async::<Role>(&mut connection).await {
        Ok(Role::Primary { .. }) => Ok(()),
        Ok(_) => Err(unreachable("a Sentinel names a server that is no master (any more)")),
        // A login without the right to ask says nothing against the master.
        Err(error) if error.code().is_some() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn unreachable(text: &'static str) -> ConnectError {
    ConnectError::Redis(RedisError::from((ErrorKind::Io, text)))
}
