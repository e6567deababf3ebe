//! Logs: one line per decision, as text for people or JSON for machines. Which fields a line has is decided where it
//! is written; this module only sets the output up, once per process. In the folder beside it: what is counted, and what
//! is told live.

pub mod controls;
pub mod feed;
pub mod level;
pub mod meters;
pub mod tally;

use std::io::{self, IsTerminal};

use tracing::Level;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use level::LogLevel;

/// Where the flows tell what happens, beside the log. A clone is another handle.
#[derive(Debug, Clone, Default)]
pub struct Telemetry {
    /// Told live.
    pub feed: feed::Feed,
    /// Counted.
    pub meters: std::sync::Arc<meters::Meters>,
    /// How much is logged.
    pub log: LogLevel,
}

/// The form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Sends log lines of `level` and above to standard error, and returns the handle on that level. Without `format`: text
/// on a terminal, else JSON.
///
/// # Errors
/// Where the process already has a subscriber.
pub fn init(format: Option<LogFormat>, level: Level) -> Result<LogLevel, TryInitError> {
    let is_terminal = io::stderr().is_terminal();
    let format = format.unwrap_or(if is_terminal { LogFormat::Text } else { LogFormat::Json });
    let (filter, log) = LogLevel::filter(level);
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false);
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => registry.with(lines.with_ansi(is_terminal)).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    }?;
    Ok(log)
}

/// An error and its causes on one line, outermost first.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
