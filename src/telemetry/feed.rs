//! The feed: what happens, told live to whoever listens. Costs nothing while nobody does; a listener that is too slow
//! misses the oldest and is told how many. Not a record: what matters is in the store.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, watch};

use crate::clock::Timestamp;

/// What is held for a slow listener.
const HELD_MAX: usize = 4_096;

/// Something that happened: the fields of its log line, where they apply. Never a body, a secret or a signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
pub struct News {
    /// The log line's name, such as `event.received` or `delivery.attempted`.
    pub name: String,
    /// When, in ms since 1970.
    pub at_ms: i64,
    /// The event's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// The sender's id of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub svix_id: Option<String>,
    /// The source's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The target's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The event's type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// Whom it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The delivery's state, or the target's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Why: of a refusal its code, of a dead letter its reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The attempt's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The status of the reply, or of our answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The attempt's error class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The code of what the attempt looks like, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// How long it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<u64>,
    /// Until the next attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
}

impl News {
    /// News with nothing but its name and time.
    pub fn new(name: &str, at: Timestamp) -> Self {
        Self { name: name.to_owned(), at_ms: at.as_ms(), ..Self::default() }
    }
}

/// Where news comes from: here, or another relay on the same store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This relay.
    Here,
    /// Another one.
    Elsewhere,
}

/// The feed. A clone is another handle.
#[derive(Debug, Clone)]
pub struct Feed {
    /// Receivers are listeners of the admin API and the bridge to other relays.
    news: broadcast::Sender<(Origin, Arc<News>)>,
    /// How many listen to everything; a bridge waits for it to leave 0 before it fetches news from elsewhere.
    listeners: Arc<watch::Sender<usize>>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { news: broadcast::Sender::new(HELD_MAX), listeners: Arc::default() }
    }
}

impl Feed {
    /// Tells what `news` makes, where anybody listens.
    pub fn tell(&self, news: impl FnOnce() -> News) {
        if self.news.receiver_count() > 0 {
            let _ = self.news.send((Origin::Here, Arc::new(news()))); // the last listener may just have left
        }
    }

    /// Passes on what another relay told.
    pub fn pass_on(&self, news: News) {
        let _ = self.news.send((Origin::Elsewhere, Arc::new(news))); // nobody may listen any more
    }

    /// Listens to everything, from now on, until dropped.
    pub fn listen(&self) -> Listener {
        let news = self.news.subscribe();
        self.listeners.send_modify(|count| *count += 1);
        Listener { news, listeners: self.listeners.clone() }
    }

    /// What this relay tells, for a bridge; does not count as a listener.
    pub fn bridge(&self) -> broadcast::Receiver<(Origin, Arc<News>)> {
        self.news.subscribe()
    }

    /// How many listen, now and whenever that changes.
    pub fn listeners(&self) -> watch::Receiver<usize> {
        self.listeners.subscribe()
    }
}

/// One who listens.
#[derive(Debug)]
pub struct Listener {
    news: broadcast::Receiver<(Origin, Arc<News>)>,
    listeners: Arc<watch::Sender<usize>>,
}

/// What a listener hears next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// This.
    News(Arc<News>),
    /// It was too slow, and this many were lost.
    Missed(u64),
}

impl Listener {
    /// The next; `None` once the feed is gone.
    pub async fn next(&mut self) -> Option<Heard> {
        match self.news.recv().await {
            Ok((_, news)) => Some(Heard::News(news)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Heard::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.listeners.send_modify(|count| *count = count.saturating_sub(1));
    }
}
