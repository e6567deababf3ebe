//! The address of a Redis store: which servers, how they are arranged, who we are there. Never shows its user or its
//! password.
//!
//! Knows nothing of connections. Invariant, of every address that was parsed: what is shown of it parses to the same
//! address without its login.

mod parse;

use std::fmt;
use std::path::PathBuf;

/// Where a Redis listens when nothing else is said.
pub const PORT_SERVER: u16 = 6379;
/// Where a Sentinel listens when nothing else is said.
pub const PORT_SENTINEL: u16 = 26379;

/// Where a Redis store is.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// How its servers are arranged.
    pub topology: Topology,
    /// How they are reached.
    pub transport: Transport,
    /// Whom to log in as; `None`: the default user.
    pub username: Option<String>,
    /// With what; `None`: no login.
    pub password: Option<String>,
    /// The database's number; always 0 in a cluster.
    pub database: u32,
}

/// How the servers of a Redis store are arranged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topology {
    /// One server, or a name that always leads to the one that takes writes.
    Standalone,
    /// A cluster; any of its nodes tell of the others.
    Cluster,
    /// Sentinels, which know the present master of this name.
    Sentinel {
        /// The master's name.
        master: String,
    },
}

/// How the servers of a Redis store are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// TCP, to any of these, each a host (an IPv6 address without its brackets) and a port; never empty.
    Tcp(Vec<(String, u16)>),
    /// TLS, likewise.
    Tls(Vec<(String, u16)>),
    /// A Unix socket.
    Unix(PathBuf),
}

impl RedisUrl {
    /// Whether all that is sent is encrypted.
    pub fn has_tls(&self) -> bool {
        matches!(self.transport, Transport::Tls(_))
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for RedisUrl {
    /// The address without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, places) = match &self.transport {
            Transport::Tcp(nodes) => ("redis", nodes),
            Transport::Tls(nodes) => ("rediss", nodes),
            Transport::Unix(path) => {
                write!(f, "redis+unix://{}", path.display())?;
                return if self.database == 0 { Ok(()) } else { write!(f, "?db={}", self.database) };
            }
        };
        let arrangement = match &self.topology {
            Topology::Standalone => "",
            Topology::Cluster => "+cluster",
            Topology::Sentinel { .. } => "+sentinel",
        };
        let places: Vec<String> = places.iter().map(shown_place).collect();
        write!(f, "{scheme}{arrangement}://{}", places.join(","))?;
        if let Topology::Sentinel { master } = &self.topology {
            write!(f, "/{master}")?;
        }
        if self.database == 0 { Ok(()) } else { write!(f, "/{}", self.database) }
    }
}

fn shown_place((host, port): &(String, u16)) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Why a text is not the address of a Redis store. Reads on after the key's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRedisUrl {
    /// A scheme like `redis…` that there is not.
    #[error("begins with a scheme that the relay does not know")]
    Scheme,
    /// `redis:host`.
    #[error("has no `//` after its scheme: it is `redis://HOST`")]
    NoSlashes,
    /// A character with a meaning of its own stands in the user or the password as it is.
    #[error(
        "has a special character as it is in its user or password: there, `@` is written `%40`, `/` `%2F`, `?` `%3F`, `#` `%23`, a space `%20`, and so is what a variable fills in"
    )]
    Unencoded,
    /// A `%` that encodes nothing.
    #[error(
        "has a `%` without two hex digits in its user or password: there, `%` itself is written `%25`, also in what a variable fills in"
    )]
    Percent,
    /// Percent-encoded bytes that are no UTF-8.
    #[error("has a user or password that is not UTF-8")]
    NotText,
    /// A user without a password.
    #[error("has a user and no password: it is `USER:PASSWORD@`, or `:PASSWORD@` for the default user")]
    NoPassword,
    /// No host, or an empty one in the list.
    #[error("has no host")]
    NoHost,
    /// Characters that the name of a host does not have.
    #[error("has a host with characters that the name of a host cannot have")]
    Host,
    /// An IPv6 address without brackets, or something else in them.
    #[error("has an IPv6 address that is not written as in `[::1]:6379`")]
    Ipv6,
    /// No port from 1 to 65535 after the colon.
    #[error("has a port that is not a number from 1 to 65535")]
    Port,
    /// A list of hosts for a single server.
    #[error(
        "names several hosts: a list is for `redis+cluster://` and `redis+sentinel://`, and `redis://` takes one"
    )]
    SeveralHosts,
    /// Not `/N`.
    #[error("has something after `/` that is not the number of a database")]
    Database,
    /// A cluster has database 0 only.
    #[error("names a database, and a cluster has only database 0: leave it out")]
    ClusterDatabase,
    /// Sentinels without the name of a master.
    #[error("names no master: it is `redis+sentinel://HOST,HOST/MASTER`")]
    NoMaster,
    /// Characters that Sentinel does not take in the name of a master.
    #[error("has a master whose name is not of letters, digits, `.`, `-` and `_`")]
    Master,
    /// More than `/MASTER/N`.
    #[error("has more after its hosts than `/MASTER/DATABASE`")]
    TooManyParts,
    /// `?…`.
    #[error(
        "has parameters after `?`, and there are none: TLS is `rediss://`, and everything else is a key of `store`"
    )]
    Parameters,
    /// `?…` of a Unix socket, other than `db`.
    #[error("has parameters after `?` other than `db=N`, the number of a database")]
    SocketParameters,
    /// `#…`.
    #[error(
        "has a part after `#`, which means nothing here: certificates are always verified, by `store.tls.ca_file` where it is given"
    )]
    Fragment,
    /// A host before the path of a socket.
    #[error("has a host before the socket's path: it is `redis+unix:///PATH`, with three slashes")]
    SocketHost,
    /// No path of a socket, or the path of a folder.
    #[error("has no path of a socket: it is `redis+unix:///PATH`")]
    NoSocket,
}
