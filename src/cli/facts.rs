//! What the API tells, as far as commands look at it. Fields that another version has besides are passed over; what is
//! printed as JSON is the API's own answer.

use serde::Deserialize;
use serde_json::Value;

use super::moment;
use crate::clock::Timestamp;

/// An event, and how it came in.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Event {
    /// The store's id.
    pub id: String,
    /// When it was accepted.
    pub accepted_at: String,
    /// Its source.
    pub source: String,
    /// The sender's id.
    pub svix_id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Whom it is about.
    pub subject: Option<String>,
    /// The body's size.
    pub body_bytes: u64,
    /// When it was received.
    pub received_at: Option<String>,
    /// How long after its birth.
    pub late_ms: Option<u64>,
    /// Which secret matched, as its fingerprint.
    pub secret: Option<String>,
    /// Who sent it.
    pub remote: Option<String>,
    /// What it called itself.
    pub user_agent: Option<String>,
    /// Its deliveries, where one event was asked for.
    pub deliveries: Vec<Delivery>,
    /// Its payload.
    pub payload: Option<Value>,
    /// What became of the payload before it is shown: `redacted`, `revealed`, `erased`, `unreadable`, `not_json`.
    pub payload_state: Option<String>,
}

/// A delivery, with its attempts where one event was asked for.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Delivery {
    /// Its event.
    pub event_id: String,
    /// Its target.
    pub target: String,
    /// The event's type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// Whom the event is about.
    pub subject: Option<String>,
    /// Where it is.
    pub state: String,
    /// Why it ended there.
    pub reason: Option<String>,
    /// Counted attempts.
    pub attempts: u32,
    /// The last reply's status.
    pub last_status: Option<u16>,
    /// What kept the last attempt from success.
    pub last_error: Option<String>,
    /// Why, in words, where it is known.
    pub last_hint: Option<Hint>,
    /// When the next attempt is due.
    pub due_at: Option<String>,
    /// When its state last changed.
    pub updated_at: String,
    /// The newest attempts, oldest first.
    pub attempts_kept: Vec<Attempt>,
}

impl Delivery {
    /// What the last attempt came to, in a few characters: a status, else an error class.
    pub fn last(&self) -> String {
        match (self.last_status, &self.last_error) {
            (Some(status), _) => status.to_string(),
            (None, Some(error)) => error.clone(),
            (None, None) => String::new(),
        }
    }

    /// When the next attempt is due, where one is.
    pub fn due(&self) -> Option<Timestamp> {
        self.due_at.as_deref().and_then(moment::of_api)
    }
}

/// One attempt.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Attempt {
    /// Its number, from 1.
    pub number: u32,
    /// When.
    pub at: String,
    /// How long.
    pub took_ms: u64,
    /// The reply's status.
    pub status: Option<u16>,
    /// What kept it from success.
    pub error: Option<String>,
    /// The start of the reply.
    pub reply: Option<String>,
    /// The likely cause.
    pub hint: Option<Hint>,
}

/// A likely cause, in words.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Hint {
    /// With its code.
    Coded {
        /// The word for it, as in the documentation.
        code: String,
        /// The words.
        text: String,
    },
    /// The words alone.
    Text(String),
}

impl Hint {
    /// The words.
    pub fn text(&self) -> &str {
        match self {
            Self::Coded { text, .. } | Self::Text(text) => text,
        }
    }

    /// A word or a few, for a list.
    pub fn short(&self) -> &str {
        match self {
            Self::Coded { code, .. } => code,
            Self::Text(text) => text,
        }
    }
}

/// A job.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Job {
    /// Its number.
    pub id: Value,
    /// What it does.
    pub action: String,
    /// To what.
    pub filter: Value,
    /// Whether it only counts.
    pub dry_run: bool,
    /// Who started it.
    pub by: String,
    /// `running`, `done`, `cancelled`.
    pub state: String,
    /// When it was started.
    pub created_at: String,
    /// When it last changed.
    pub updated_at: String,
    /// How much it did or counted.
    pub moved: u64,
    /// How much there is to do, where that is known.
    pub total: Option<u64>,
}

impl Job {
    /// Its number as text.
    pub fn number(&self) -> String {
        self.id.as_str().map_or_else(|| self.id.to_string(), str::to_owned)
    }

    /// Whether it is still under way.
    pub fn is_running(&self) -> bool {
        self.state == "running"
    }

    /// Its filter as `name=value` pairs.
    pub fn filter_text(&self) -> String {
        let Some(filter) = self.filter.as_object() else { return String::new() };
        let text = |value: &Value| match value {
            Value::Null => None,
            Value::Array(values) if values.is_empty() => None,
            Value::Array(values) => {
                Some(values.iter().map(|value| value.as_str().unwrap_or("?")).collect::<Vec<_>>().join(","))
            }
            Value::String(text) => Some(text.clone()),
            Value::Bool(_) | Value::Number(_) | Value::Object(_) => Some(value.to_string()),
        };
        let pairs: Vec<String> =
            filter.iter().filter_map(|(name, value)| Some(format!("{name}={}", text(value)?))).collect();
        pairs.join(" ")
    }
}
