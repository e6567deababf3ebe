//! What a server tells of itself by `INFO` and `CONFIG GET`, read into values. Judges nothing but its own age.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use redis::{Pipeline, RedisError, Value};

use super::Setting;
use crate::store::redis::link::{Lane, Link, LinkError};

/// Which server answers, and its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Server {
    /// Whose it is.
    pub kind: ServerKind,
    /// The first and the second number of its version.
    pub version: (u32, u32),
}

/// The servers that the store knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerKind {
    /// Redis, or what passes for it.
    Redis,
    /// Valkey.
    Valkey,
}

impl Server {
    /// Whether it lacks what the store's scripts need: shebang lines, and `CONFIG` and `XAUTOCLAIM` as of Redis 7.0.
    /// Valkey begins with 7.2.
    pub(super) fn is_too_old(self) -> bool {
        match self.kind {
            ServerKind::Redis => self.version < (7, 0),
            ServerKind::Valkey => self.version < (7, 2),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.kind {
            ServerKind::Redis => "Redis",
            ServerKind::Valkey => "Valkey",
        };
        write!(f, "{name} {}.{}", self.version.0, self.version.1)
    }
}

/// A server's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// What it uses, in bytes.
    pub used_bytes: u64,
    /// Its limit, where it has one.
    pub max_bytes: Option<u64>,
}

impl Memory {
    /// The limit that counts: the server's own or the configured one, whichever is reached first.
    pub fn limit(self, configured_bytes: u64) -> u64 {
        self.max_bytes.map_or(configured_bytes, |max| max.min(configured_bytes))
    }
}

/// What kind of process answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// A cluster's node.
    Cluster,
    /// A Sentinel.
    Sentinel,
    /// A plain server, or it does not tell.
    Other,
}

/// What a server tells.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) server: Option<Server>,
    pub(super) mode: Mode,
    pub(super) memory: Option<Memory>,
    settings: HashMap<&'static str, String>,
    /// Why `INFO` gave nothing.
    info_hidden: Option<Arc<RedisError>>,
    /// Why `CONFIG GET` gave nothing.
    config_hidden: Option<Arc<RedisError>>,
}

impl Facts {
    /// A setting's value; where it is not shown, what the server said.
    pub(super) fn value(&self, setting: Setting) -> Result<&str, Option<Arc<RedisError>>> {
        self.settings.get(setting.name()).map(String::as_str).ok_or_else(|| match setting {
            Setting::AppendOnly => self.info_hidden.clone(),
            Setting::AppendFsync | Setting::NoFsyncOnRewrite | Setting::MaxMemoryPolicy => {
                self.config_hidden.clone()
            }
        })
    }
}

/// Asks for all of it.
///
/// # Errors
/// [`LinkError`], but not where the server refuses to tell.
pub(super) async fn read(link: &Link) -> Result<Facts, LinkError> {
    let (info, info_hidden) = match link.command(Lane::Admin, &redis::cmd("INFO")).await {
        Ok(reply) => (text(reply), None),
        Err(LinkError::Refused(why)) => (String::new(), Some(why)),
        Err(error) => return Err(error),
    };
    let mut settings = HashMap::new();
    // Whether the log is written counts, not whether it is wanted: `INFO` knows that.
    if let Some(enabled) = field(&info, "aof_enabled") {
        settings.insert(Setting::AppendOnly.name(), if enabled == "1" { "yes" } else { "no" }.to_owned());
    }
    if let Some(policy) = field(&info, "maxmemory_policy") {
        settings.insert(Setting::MaxMemoryPolicy.name(), policy.to_owned());
    }
    let asked = [Setting::AppendFsync, Setting::NoFsyncOnRewrite, Setting::MaxMemoryPolicy];
    let mut pipeline = Pipeline::new();
    for setting in asked {
        pipeline.cmd("CONFIG").arg("GET").arg(setting.name());
    }
    let config_hidden = match link.pipeline(Lane::Admin, &pipeline).await {
        Ok(replies) => {
            for (setting, reply) in asked.into_iter().zip(replies) {
                if let Some(value) = config_value(reply, setting.name()) {
                    settings.insert(setting.name(), value);
                }
            }
            None
        }
        Err(LinkError::Refused(why)) => Some(why),
        Err(error) => return Err(error),
    };
    Ok(Facts {
        server: server(&info),
        mode: mode(&info),
        memory: memory(&info),
        settings,
        info_hidden,
        config_hidden,
    })
}

/// A reply as text; empty where it is none.
pub(super) fn text(reply: Value) -> String {
    redis::from_redis_value(reply).unwrap_or_default()
}

/// The memory that `INFO` tells of.
pub(super) fn memory(info: &str) -> Option<Memory> {
    let used_bytes = field(info, "used_memory")?.parse().ok()?;
    let max = field(info, "maxmemory").and_then(|bytes| bytes.parse().ok());
    Some(Memory { used_bytes, max_bytes: max.filter(|bytes| *bytes > 0) })
}

fn server(info: &str) -> Option<Server> {
    // Valkey also tells the version of the Redis that it is compatible with.
    let valkey = field(info, "valkey_version").map(|version| (ServerKind::Valkey, version));
    let (kind, version) = valkey.or_else(|| Some((ServerKind::Redis, field(info, "redis_version")?)))?;
    let mut numbers = version.split('.').map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else { return None };
    Some(Server { kind, version: (major, minor) })
}

fn mode(info: &str) -> Mode {
    match field(info, "redis_mode").or_else(|| field(info, "server_mode")) {
        Some("cluster") => Mode::Cluster,
        Some("sentinel") => Mode::Sentinel,
        Some(_) | None => Mode::Other,
    }
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
}

/// The value in a reply of `CONFIG GET`: a list or a map of names and values, empty where it is not shown.
fn config_value(reply: Value, name: &str) -> Option<String> {
    let pairs: HashMap<String, String> = redis::from_redis_value(reply).ok()?;
    pairs.into_iter().find_map(|(key, value)| (key == name).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redis_is_too_old_below_7_0_and_valkey_below_7_2() {
        let of = |text: &str| server(text).unwrap();
        let redis = of("# Server\r\nredis_version:6.2.14\r\nredis_mode:standalone\r\n");
        assert!(redis.is_too_old() && redis.to_string() == "Redis 6.2");
        assert!(!of("redis_version:7.0.0\r\n").is_too_old());
        assert!(!of("redis_version:10.1.0\r\n").is_too_old());
        let valkey = of("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\n");
        assert_eq!((valkey.kind, valkey.version), (ServerKind::Valkey, (8, 0)));
        assert!(!valkey.is_too_old());
        assert!(of("redis_version:7.2.4\r\nvalkey_version:7.1.9\r\n").is_too_old());
        assert_eq!(server("redis_version:unstable\r\n"), None);
    }

    #[test]
    fn a_limit_of_zero_is_none_and_the_smaller_limit_counts() {
        let free = memory("used_memory:1024\r\nused_memory_human:1.00K\r\nmaxmemory:0\r\n").unwrap();
        assert_eq!(free, Memory { used_bytes: 1024, max_bytes: None });
        assert_eq!(free.limit(500), 500);
        let bound = memory("used_memory:1\r\nmaxmemory:100\r\n").unwrap();
        assert_eq!((bound.limit(500), bound.limit(50)), (100, 50));
        assert_eq!(memory("# Memory\r\n"), None);
    }
}
