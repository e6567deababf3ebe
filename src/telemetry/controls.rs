//! What is told when a target is paused, resumed, or its breaker turned: one line of the log, one count and one piece of
//! news, whoever did it. A function for each, so that no teller forgets one of the three.

use std::time::Duration;

use tracing::{error, info, warn};

use super::Telemetry;
use super::feed::News;
use crate::clock::Timestamp;
use crate::event::TargetName;

/// Who turned something about a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By<'a> {
    /// The relay itself, for this reason.
    Relay(&'static str),
    /// The holder of the admin token of this name.
    Operator(&'a str),
}

impl By<'_> {
    /// The reason, in one word.
    const fn reason(self) -> &'static str {
        match self {
            Self::Relay(reason) => reason,
            Self::Operator(_) => "operator",
        }
    }

    const fn actor(&self) -> Option<&str> {
        match self {
            Self::Relay(_) => None,
            Self::Operator(name) => Some(name),
        }
    }
}

/// A target was paused.
pub fn paused(telemetry: &Telemetry, at: Timestamp, target: &TargetName, by: By<'_>) {
    let (reason, actor) = (by.reason(), by.actor());
    match by {
        By::Relay(_) => {
            error!(%target, reason, "target.paused: resume it when it takes events again");
        }
        By::Operator(_) => info!(%target, reason, actor, "target.paused"),
    }
    telemetry
        .feed
        .tell(|| News { state: Some("paused".into()), ..news("target.paused", at, target, reason) });
}

/// A target was resumed.
pub fn resumed(telemetry: &Telemetry, at: Timestamp, target: &TargetName, by: By<'_>) {
    let (reason, actor) = (by.reason(), by.actor());
    info!(%target, reason, actor, "target.resumed");
    telemetry
        .feed
        .tell(|| News { state: Some("active".into()), ..news("target.resumed", at, target, reason) });
}

/// Why a breaker opened.
#[derive(Debug, Clone, Copy)]
pub struct Opened {
    /// Which rule opened it.
    pub reason: &'static str,
    /// Failures noted by then.
    pub failures: usize,
    /// The status of the last of them, where a reply came.
    pub status: Option<u16>,
    /// Its error class.
    pub error: Option<&'static str>,
    /// Until the first probe.
    pub next_probe: Duration,
}

/// A target's breaker was opened.
pub fn breaker_opened(telemetry: &Telemetry, at: Timestamp, target: &TargetName, opened: Opened) {
    let Opened { reason, failures, status, error, next_probe } = opened;
    let next_probe_ms = next_probe.as_millis() as u64;
    warn!(%target, reason, failures, status, error, next_probe_ms, "breaker.opened");
    telemetry.meters.target(target).breaker("opened");
    telemetry.feed.tell(|| News {
        state: Some("open".into()),
        status,
        error: error.map(Into::into),
        delay_ms: Some(next_probe_ms),
        ..news("breaker.opened", at, target, reason)
    });
}

/// How long a breaker was open that was closed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Closed {
    /// Since it opened, where that is known.
    pub open_for: Option<Duration>,
    /// Probes that failed meanwhile.
    pub failed_probes: Option<u32>,
}

/// A target's breaker was closed.
pub fn breaker_closed(telemetry: &Telemetry, at: Timestamp, target: &TargetName, by: By<'_>, closed: Closed) {
    let (reason, actor) = (by.reason(), by.actor());
    let open_ms = closed.open_for.map(|open| open.as_millis() as u64);
    info!(%target, reason, actor, open_ms, failed_probes = closed.failed_probes, "breaker.closed");
    telemetry.meters.target(target).breaker("closed");
    telemetry.feed.tell(|| News {
        state: Some("closed".into()),
        took_ms: open_ms,
        ..news("breaker.closed", at, target, reason)
    });
}

fn news(name: &str, at: Timestamp, target: &TargetName, reason: &'static str) -> News {
    News { target: Some(target.to_string()), reason: Some(reason.into()), ..News::new(name, at) }
}
