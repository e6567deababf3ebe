//! Whether a Redis keeps what it has answered: what its settings say, what the configuration wants, and the lines that
//! cure what is amiss. Knows no key; changes nothing.
//!
//! In a cluster this speaks of the primary that holds our slot, behind Sentinels of the present master: another may
//! take its place, and a server may be restarted with other settings. So it is asked again whenever
//! [`Link::connections`] has grown. It costs one round trip for `INFO` and one for `CONFIG GET`.

mod facts;

use std::fmt;
use std::sync::Arc;

use redis::RedisError;

use super::link::{Lane, Link, LinkError};
use crate::config::DurabilityWanted;
use crate::config::redis_url::Topology;
use crate::store::query::Durability;

use facts::{Facts, Mode};

pub use facts::{Memory, Server};

/// What a server's settings say.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// It loses nothing that it has answered.
    Proven,
    /// It may.
    Unsafe(Vec<Finding>),
    /// Something decisive is not shown, and nothing that is shown is amiss.
    CannotTell(Vec<Hidden>),
}

/// A setting that may lose what was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which.
    pub setting: Setting,
    /// What it is set to.
    pub found: String,
}

/// A setting that is not shown.
#[derive(Debug, Clone)]
pub struct Hidden {
    /// Which.
    pub setting: Setting,
    /// What the server said, where it said anything.
    pub why: Option<Arc<RedisError>>,
}

/// The settings that decide whether Redis keeps what it has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setting {
    /// Writes are logged to a file at all.
    AppendOnly,
    /// The file is on the disk before the answer is out.
    AppendFsync,
    /// That holds while the file is rewritten, too.
    NoFsyncOnRewrite,
    /// A server at its limit refuses instead of forgetting.
    MaxMemoryPolicy,
}

impl Setting {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::AppendOnly, Self::AppendFsync, Self::NoFsyncOnRewrite, Self::MaxMemoryPolicy];

    /// Its name in the server's configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AppendOnly => "appendonly",
            Self::AppendFsync => "appendfsync",
            Self::NoFsyncOnRewrite => "no-appendfsync-on-rewrite",
            Self::MaxMemoryPolicy => "maxmemory-policy",
        }
    }

    /// The one value that loses nothing.
    pub const fn needed(self) -> &'static str {
        match self {
            Self::AppendOnly => "yes",
            Self::AppendFsync => "always",
            Self::NoFsyncOnRewrite => "no",
            Self::MaxMemoryPolicy => "noeviction",
        }
    }

    /// What any other value risks.
    const fn risk(self) -> &'static str {
        match self {
            Self::AppendOnly => "a restart forgets events that were answered",
            Self::AppendFsync => "a crash loses the events that were answered last",
            Self::NoFsyncOnRewrite => "a crash while the file is rewritten loses events that were answered",
            Self::MaxMemoryPolicy => "at its memory limit it drops events that were answered",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, needed) = (self.setting.name(), self.setting.needed());
        write!(f, "`{name}` is `{}`: {}. ", self.found, self.setting.risk())?;
        write!(f, "Cure: `CONFIG SET {name} {needed}`, and `{name} {needed}` in the server's file")
    }
}

impl fmt::Display for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not shown; it must be `{}`", self.setting.name(), self.setting.needed())?;
        match &self.why {
            Some(why) => write!(f, " ({why})"),
            None => Ok(()),
        }
    }
}

/// What a check found and what follows.
#[derive(Debug, Clone)]
pub struct Checked {
    /// How sure it is that what was answered survives.
    pub durability: Durability,
    /// What the settings say.
    pub verdict: Verdict,
    /// Which server answers, where it tells.
    pub server: Option<Server>,
    /// Its memory, where it tells.
    pub memory: Option<Memory>,
}

/// Why a relay must not use a Redis.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// It could not be asked.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// It lacks what the store's scripts need, whatever is wanted of it.
    #[error("{0} is too old: the store needs Redis 7.0 or Valkey 7.2, or newer")]
    TooOld(Server),
    /// The address leads to a cluster's node or to a Sentinel, as if that were a plain server.
    #[error("the address leads to {0}")]
    Misplaced(Misplaced),
    /// Its settings may lose what was answered.
    #[error("this Redis may lose events that were answered:{}", lines(.0))]
    Unsafe(Vec<Finding>),
    /// It does not show its settings, and nobody declared that they are right.
    #[error(
        "this Redis does not show whether it keeps events that were answered:{}\n  Where you know that it does, \
         declare it with `durability: managed`",
        lines(.0)
    )]
    CannotTell(Vec<Hidden>),
}

/// What an address leads to in place of a plain server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misplaced {
    /// A cluster's node.
    Cluster,
    /// A Sentinel.
    Sentinel,
}

impl fmt::Display for Misplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "a node of a cluster: use `redis+cluster://` or `rediss+cluster://`",
            Self::Sentinel => "a Sentinel: use `redis+sentinel://HOST:PORT/MASTER`",
        })
    }
}

/// Asks the server for its settings and holds them against what is wanted.
///
/// # Errors
/// [`CheckError`]. With [`DurabilityWanted::Relaxed`] never because of the settings.
pub async fn check(link: &Link, wanted: DurabilityWanted) -> Result<Checked, CheckError> {
    let facts = facts::read(link).await?;
    let misplaced = match (link.topology(), facts.mode) {
        (Topology::Standalone, Mode::Cluster) => Some(Misplaced::Cluster),
        (Topology::Standalone | Topology::Cluster, Mode::Sentinel) => Some(Misplaced::Sentinel),
        (_, Mode::Sentinel | Mode::Cluster | Mode::Other) => None,
    };
    if let Some(misplaced) = misplaced {
        return Err(CheckError::Misplaced(misplaced));
    }
    if let Some(server) = facts.server.filter(|server| server.is_too_old()) {
        return Err(CheckError::TooOld(server));
    }
    let verdict = judge(&facts);
    let durability = accept(&verdict, wanted)?;
    Ok(Checked { durability, verdict, server: facts.server, memory: facts.memory })
}

/// What the server uses of its memory; `None` where it does not tell.
///
/// # Errors
/// [`LinkError`], but not where the server refuses to tell.
pub async fn used_memory(link: &Link) -> Result<Option<Memory>, LinkError> {
    match link.command(Lane::Admin, redis::cmd("INFO").arg("memory")).await {
        Ok(reply) => Ok(facts::memory(&facts::text(reply))),
        Err(LinkError::Refused(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn judge(facts: &Facts) -> Verdict {
    let (mut amiss, mut hidden) = (Vec::new(), Vec::new());
    for setting in Setting::ALL {
        match facts.value(setting) {
            Ok(value) if value == setting.needed() => {}
            Ok(value) => amiss.push(Finding { setting, found: value.to_owned() }),
            Err(why) => hidden.push(Hidden { setting, why }),
        }
    }
    match (amiss.is_empty(), hidden.is_empty()) {
        (false, _) => Verdict::Unsafe(amiss),
        (true, false) => Verdict::CannotTell(hidden),
        (true, true) => Verdict::Proven,
    }
}

fn accept(verdict: &Verdict, wanted: DurabilityWanted) -> Result<Durability, CheckError> {
    match (verdict, wanted) {
        (Verdict::Proven, _) => Ok(Durability::Proven),
        (Verdict::Unsafe(_) | Verdict::CannotTell(_), DurabilityWanted::Relaxed) => Ok(Durability::Relaxed),
        (Verdict::Unsafe(found), DurabilityWanted::Strict | DurabilityWanted::Managed) => {
            Err(CheckError::Unsafe(found.clone()))
        }
        (Verdict::CannotTell(_), DurabilityWanted::Managed) => Ok(Durability::Declared),
        (Verdict::CannotTell(hidden), DurabilityWanted::Strict) => {
            Err(CheckError::CannotTell(hidden.clone()))
        }
    }
}

fn lines<T: fmt::Display>(of: &[T]) -> String {
    of.iter().map(|line| format!("\n  {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amiss() -> Verdict {
        Verdict::Unsafe(vec![Finding { setting: Setting::AppendFsync, found: "everysec".to_owned() }])
    }

    fn hidden() -> Verdict {
        Verdict::CannotTell(vec![Hidden { setting: Setting::AppendFsync, why: None }])
    }

    #[test]
    fn every_verdict_has_its_answer_to_every_wish() {
        use DurabilityWanted::{Managed, Relaxed, Strict};
        for wanted in [Strict, Managed, Relaxed] {
            assert_eq!(accept(&Verdict::Proven, wanted).unwrap(), Durability::Proven);
        }
        assert!(matches!(accept(&amiss(), Strict), Err(CheckError::Unsafe(_))));
        assert!(matches!(accept(&amiss(), Managed), Err(CheckError::Unsafe(_))));
        assert_eq!(accept(&amiss(), Relaxed).unwrap(), Durability::Relaxed);
        assert!(matches!(accept(&hidden(), Strict), Err(CheckError::CannotTell(_))));
        assert_eq!(accept(&hidden(), Managed).unwrap(), Durability::Declared);
        assert_eq!(accept(&hidden(), Relaxed).unwrap(), Durability::Relaxed);
    }

    #[test]
    fn a_refusal_names_the_lines_that_cure() {
        let text = accept(&amiss(), DurabilityWanted::Strict).unwrap_err().to_string();
        assert!(text.contains("\n  `appendfsync` is `everysec`"), "{text}");
        assert!(text.contains("`CONFIG SET appendfsync always`"), "{text}");
        let text = accept(&hidden(), DurabilityWanted::Strict).unwrap_err().to_string();
        assert!(text.contains("`durability: managed`"), "{text}");
    }
}
