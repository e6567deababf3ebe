//! The address of a Redis store: which servers, how they are arranged, who we are there. Never shows its password.

use std::fmt;
use std::path::PathBuf;

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
    /// TCP, to any of these, each a host and a port; never empty.
    Tcp(Vec<(String, u16)>),
    /// TLS, likewise.
    Tls(Vec<(String, u16)>),
    /// A Unix socket.
    Unix(PathBuf),
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
            Transport::Unix(path) => return write!(f, "redis+unix://{}", path.display()),
        };
        let arrangement = match &self.topology {
            Topology::Standalone => "",
            Topology::Cluster => "+cluster",
            Topology::Sentinel { .. } => "+sentinel",
        };
        let places: Vec<String> = places.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        write!(f, "{scheme}{arrangement}://{}", places.join(","))?;
        if let Topology::Sentinel { master } = &self.topology {
            write!(f, "/{master}")?;
        }
        Ok(())
    }
}
