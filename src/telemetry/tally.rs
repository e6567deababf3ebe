//! Small counts, minute by minute: what came in at each source and went out to each target. Kept for people who want to
//! see the last hour at a glance; metrics proper are scraped, not kept.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::event::{SourceName, TargetName};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Counter {
    /// Events stored (of a source).
    Received,
    /// Known events that came again (of a source).
    Duplicates,
    /// Requests that were not accepted (of a source).
    Refused,
    /// Attempts that delivered (of a target).
    Delivered,
    /// Attempts that failed (of a target).
    Failed,
    /// Deliveries given up (of a target).
    Dead,
    /// The sum of all attempts' durations in ms (of a target).
    TookMs,
    /// Attempts that took at most 10 ms; the following ones: longer than the one before, at most this long.
    TookUpTo10Ms,
    /// 30 ms.
    TookUpTo30Ms,
    /// 100 ms.
    TookUpTo100Ms,
    /// 300 ms.
    TookUpTo300Ms,
    /// 1 s.
    TookUpTo1S,
    /// 3 s.
    TookUpTo3S,
    /// 10 s.
    TookUpTo10S,
    /// Longer.
    TookLonger,
}

/// The bounds of the durations' classes.
pub const TOOK: [(Counter, Duration); 8] = [
    (Counter::TookUpTo10Ms, Duration::from_millis(10)),
    (Counter::TookUpTo30Ms, Duration::from_millis(30)),
    (Counter::TookUpTo100Ms, Duration::from_millis(100)),
    (Counter::TookUpTo300Ms, Duration::from_millis(300)),
    (Counter::TookUpTo1S, Duration::from_secs(1)),
    (Counter::TookUpTo3S, Duration::from_secs(3)),
    (Counter::TookUpTo10S, Duration::from_secs(10)),
    (Counter::TookLonger, Duration::MAX),
];

impl Counter {
    /// Every counter.
    pub const ALL: [Self; 15] = [
        Self::Received,
        Self::Duplicates,
        Self::Refused,
        Self::Delivered,
        Self::Failed,
        Self::Dead,
        Self::TookMs,
        Self::TookUpTo10Ms,
        Self::TookUpTo30Ms,
        Self::TookUpTo100Ms,
        Self::TookUpTo300Ms,
        Self::TookUpTo1S,
        Self::TookUpTo3S,
        Self::TookUpTo10S,
        Self::TookLonger,
    ];

    /// The class of an attempt's duration.
    pub fn took(took: Duration) -> Self {
        TOOK.iter().find(|(_, bound)| took <= *bound).map_or(Self::TookLonger, |(counter, _)| *counter)
    }

    /// The word for it in stores.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Duplicates => "duplicates",
            Self::Refused => "refused",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::TookMs => "took_ms",
            Self::TookUpTo10Ms => "took_10ms",
            Self::TookUpTo30Ms => "took_30ms",
            Self::TookUpTo100Ms => "took_100ms",
            Self::TookUpTo300Ms => "took_300ms",
            Self::TookUpTo1S => "took_1s",
            Self::TookUpTo3S => "took_3s",
            Self::TookUpTo10S => "took_10s",
            Self::TookLonger => "took_longer",
        }
    }
}

/// Text that names no counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such counter")]
pub struct UnknownCounter;

impl FromStr for Counter {
    type Err = UnknownCounter;

    fn from_str(text: &str) -> Result<Self, UnknownCounter> {
        Self::ALL.into_iter().find(|counter| counter.as_str() == text).ok_or(UnknownCounter)
    }
}

/// Of whom something is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Counted {
    /// A source.
    Source(SourceName),
    /// A target.
    Target(TargetName),
}

impl fmt::Display for Counted {
    /// The word for it in stores: `s:<source>` or `t:<target>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(name) => write!(f, "s:{name}"),
            Self::Target(name) => write!(f, "t:{name}"),
        }
    }
}

/// Text that names neither a source nor a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this names nobody of whom something is counted")]
pub struct UnknownCounted;

impl FromStr for Counted {
    type Err = UnknownCounted;

    fn from_str(text: &str) -> Result<Self, UnknownCounted> {
        let (kind, name) = text.split_once(':').ok_or(UnknownCounted)?;
        match kind {
            "s" => Ok(Self::Source(name.parse().map_err(|_| UnknownCounted)?)),
            "t" => Ok(Self::Target(name.parse().map_err(|_| UnknownCounted)?)),
            _ => Err(UnknownCounted),
        }
    }
}

/// The beginning of the minute that `at` is in.
pub fn minute_of(at: Timestamp) -> Timestamp {
    Timestamp::from_secs(at.as_secs().div_euclid(60).saturating_mul(60))
}

/// One count of one minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// The minute's beginning.
    pub minute: Timestamp,
    /// Of whom.
    pub of: Counted,
    /// Of what.
    pub counter: Counter,
    /// How many, or how much.
    pub count: u64,
}
