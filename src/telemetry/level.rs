//! The level of the log while the process runs. There is one log in a process, so relays in one process share it.

use std::sync::{Arc, Mutex, PoisonError};

use tracing::Level;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::reload::{self, Handle};

/// The words for levels, the quietest first: those of `log.level`.
pub const LEVELS: [(&str, Level); 5] = [
    ("error", Level::ERROR),
    ("warn", Level::WARN),
    ("info", Level::INFO),
    ("debug", Level::DEBUG),
    ("trace", Level::TRACE),
];

/// Text that names no level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a level is one of error, warn, info, debug, trace")]
pub struct UnknownLevel;

/// The level that a word of [`LEVELS`] names.
///
/// # Errors
/// [`UnknownLevel`] for any other text.
pub fn parse(text: &str) -> Result<Level, UnknownLevel> {
    LEVELS.iter().find(|(word, _)| *word == text).map(|(_, level)| *level).ok_or(UnknownLevel)
}

/// The word for a level.
pub fn word(level: Level) -> &'static str {
    LEVELS.iter().find(|(_, known)| *known == level).map_or("trace", |(word, _)| word)
}

/// The log of this process is not ours to turn: it was set up elsewhere, or is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log of this process cannot be changed")]
pub struct NotOurLog;

/// The handle on the log's level. A clone is another handle; the default one leads to no log.
#[derive(Debug, Clone, Default)]
pub struct LogLevel(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    handle: Handle<Targets, Registry>,
    /// What was last set; locked for a moment.
    level: Mutex<Level>,
}

impl LogLevel {
    /// A filter for this level and the handle on it.
    pub(super) fn filter(level: Level) -> (reload::Layer<Targets, Registry>, Self) {
        let (layer, handle) = reload::Layer::new(targets(level));
        (layer, Self(Some(Arc::new(Inner { handle, level: Mutex::new(level) }))))
    }

    /// The least severe level that is logged; `None` where the log is not ours.
    pub fn get(&self) -> Option<Level> {
        self.0.as_ref().map(|inner| *inner.level.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Logs `level` and above from now on, and returns the level before.
    ///
    /// # Errors
    /// [`NotOurLog`]; then nothing is changed.
    pub fn set(&self, level: Level) -> Result<Level, NotOurLog> {
        let inner = self.0.as_ref().ok_or(NotOurLog)?;
        let mut current = inner.level.lock().unwrap_or_else(PoisonError::into_inner);
        inner.handle.reload(targets(level)).map_err(|_| NotOurLog)?;
        Ok(std::mem::replace(&mut *current, level))
    }
}

/// Libraries below us only speak up when something is wrong: they know nothing of events.
fn targets(level: Level) -> Targets {
    Targets::new().with_default(LevelFilter::WARN).with_target("clerk_relay", level)
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn every_level_has_a_word_that_leads_back_to_it() {
        for (text, level) in LEVELS {
            assert_eq!((parse(text), word(level)), (Ok(level), text));
        }
        assert_eq!(parse("loud"), Err(UnknownLevel));
    }

    #[test]
    fn what_is_logged_changes_with_the_level_and_only_for_us() {
        let (layer, log) = LogLevel::filter(Level::INFO);
        let subscriber = tracing_subscriber::registry().with(layer);
        let enabled = || {
            let ours = tracing::enabled!(target: "clerk_relay::ingress", Level::DEBUG);
            (ours, tracing::enabled!(target: "hyper::proto", Level::DEBUG))
        };
        tracing::subscriber::with_default(subscriber, || {
            assert_eq!(enabled(), (false, false));
            log.set(Level::DEBUG).unwrap();
            assert_eq!(enabled(), (true, false), "libraries stay quiet");
            log.set(Level::WARN).unwrap();
            assert_eq!(enabled(), (false, false));
        });
    }

    #[test]
    fn a_level_that_is_set_holds_for_every_handle() {
        let (layer, log) = LogLevel::filter(Level::INFO);
        let subscriber = tracing_subscriber::registry().with(layer);
        let other = log.clone();
        assert_eq!(log.set(Level::DEBUG), Ok(Level::INFO));
        assert_eq!(other.get(), Some(Level::DEBUG));
        drop(subscriber);
        assert_eq!(other.set(Level::WARN), Err(NotOurLog));
        assert_eq!(log.get(), Some(Level::DEBUG), "what could not be set is not claimed");
        assert_eq!(LogLevel::default().set(Level::WARN), Err(NotOurLog));
    }
}
