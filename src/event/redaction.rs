//! What of a payload a person may see who was not given the whole of it: Clerk's events carry one-time codes, mails,
//! tickets and private metadata. Pure; knows no token and no page.
//!
//! Two ways. Of Clerk's known types everything stays but what looks secret, by its key or by its form. Of messages
//! (`email.*`, `sms.*`) and of types that nobody knows only what is known to be harmless stays: ids, kinds, states,
//! times, addresses and names. Whatever is shown is bounded.

mod look;

use serde_json::{Map, Value};

use super::catalog::KNOWN_TYPES;

pub use look::REDACTED;

/// Objects and arrays inside one another; deeper ones are left out.
const DEPTH_MAX: usize = 32;
/// Values in all; some ten times those of a full user. Further ones are left out.
const VALUES_MAX: usize = 5_000;
/// Characters of one text; longer ones are cut.
const TEXT_CHARS_MAX: usize = 1_000;
/// Stands for what the bounds leave out.
const LEFT_OUT: &str = "[left out]";
/// Ends a text that was cut.
const CUT: &str = "… [cut]";
/// Shorter texts are too common to be looked for in a reply: they would blacken its ordinary words.
const SECRET_CHARS_MIN: usize = 4;
/// Secrets of one payload that are looked for in a reply; of more, the reply is withheld.
const SECRETS_MAX: usize = 1_000;

/// A payload as it may be seen.
#[derive(Debug, Clone, PartialEq)]
pub enum Redacted {
    /// With its secrets replaced by [`REDACTED`].
    Json(Value),
    /// It is no JSON, so nothing tells what in it is secret: nothing is shown.
    NotJson,
}

/// The start of an app's reply as it may be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedactedReply {
    /// With what it repeats of the payload's secrets replaced by [`REDACTED`].
    Shown(String),
    /// The event is such that the reply could repeat anything of it.
    Withheld,
}

/// Which values stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    /// All but what looks secret.
    Unsuspicious,
    /// Only what is known to be harmless.
    Harmless,
    /// Of an app's reply: all but what looks secret. A `code` there is an error's.
    InReply,
}

impl Keep {
    fn of(event_type: &str) -> Self {
        let is_message = event_type.starts_with("email.") || event_type.starts_with("sms.");
        if !is_message && KNOWN_TYPES.binary_search(&event_type).is_ok() {
            Self::Unsuspicious
        } else {
            Self::Harmless
        }
    }
}

/// The payload of an event of this type without its secrets.
pub fn redact(event_type: &str, body: &[u8]) -> Redacted {
    match serde_json::from_slice(body) {
        Ok(payload) => Redacted::Json(redact_json(event_type, payload)),
        Err(_) => Redacted::NotJson,
    }
}

/// The same of a payload that was read already.
pub fn redact_json(event_type: &str, payload: Value) -> Value {
    Redaction::new(Keep::of(event_type)).of(payload)
}

/// The start of the reply that an app gave to an event of this type: apps repeat what they were sent. `body` is the
/// event's, where it is still there and can be read.
pub fn redact_reply(event_type: &str, body: Option<&[u8]>, reply: &[u8]) -> RedactedReply {
    if reply.is_empty() {
        return RedactedReply::Shown(String::new());
    }
    let payload = body.and_then(|body| serde_json::from_slice(body).ok());
    let (Keep::Unsuspicious, Some(payload)) = (Keep::of(event_type), payload) else {
        return RedactedReply::Withheld;
    };
    let mut redaction = Redaction::new(Keep::Unsuspicious);
    redaction.of(payload);
    if redaction.secrets.len() == SECRETS_MAX || redaction.values_left == 0 {
        return RedactedReply::Withheld;
    }
    // The longest first: a short one may be a part of it.
    redaction.secrets.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
    let mut text = String::from_utf8_lossy(reply).into_owned();
    if let Ok(value) = serde_json::from_str::<Value>(&text) {
        let redacted = Redaction::new(Keep::InReply).of(value.clone());
        if redacted != value {
            text = redacted.to_string();
        }
    }
    RedactedReply::Shown(look::without_secrets(&text, &redaction.secrets))
}

/// A walk through one payload.
struct Redaction {
    keep: Keep,
    values_left: usize,
    /// The texts that were replaced.
    secrets: Vec<String>,
}

impl Redaction {
    fn new(keep: Keep) -> Self {
        Self { keep, values_left: VALUES_MAX, secrets: Vec::new() }
    }

    fn of(&mut self, payload: Value) -> Value {
        self.value("", payload, 0)
    }

    /// The value under `key`; an array's elements stand under its own.
    fn value(&mut self, key: &str, value: Value, depth: usize) -> Value {
        if self.values_left == 0 || depth > DEPTH_MAX {
            return LEFT_OUT.into();
        }
        self.values_left -= 1;
        if look::is_secret(self.keep, key, &value) {
            return self.replaced(value);
        }
        match value {
            Value::Object(fields) => Value::Object(self.object(fields, depth)),
            Value::Array(elements) => {
                let mut kept = Vec::new();
                for element in elements {
                    kept.push(self.value(key, element, depth + 1));
                    if self.values_left == 0 {
                        break;
                    }
                }
                Value::Array(kept)
            }
            Value::String(text) => self.text(key, text),
            Value::Number(_) if self.keep == Keep::Harmless && !look::is_harmless(key) => {
                self.replaced(value)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => value,
        }
    }

    fn object(&mut self, fields: Map<String, Value>, depth: usize) -> Map<String, Value> {
        let is_invitation = fields.get("object").and_then(Value::as_str).is_some_and(|object| {
            object.ends_with("invitation") // its `url` holds the ticket
        });
        // What a wallet is asked to sign: a message with a nonce.
        let is_challenge = fields.contains_key("nonce");
        // Clerk's errors and its gateways': their code says what went wrong.
        let is_failure = fields.contains_key("long_message") || fields.contains_key("decline_code");
        let mut kept = Map::new();
        for (key, value) in fields {
            let is_ticket = is_invitation && key == "url" || is_challenge && key == "message";
            let shown = match (is_ticket, is_failure && key == "code") {
                (true, _) => self.replaced(value),
                (false, true) => self.value("error_code", value, depth + 1),
                (false, false) => self.value(&key, value, depth + 1),
            };
            kept.insert(look::cut(&key, TEXT_CHARS_MAX), shown);
            if self.values_left == 0 {
                kept.insert(LEFT_OUT.to_owned(), Value::Null);
                break;
            }
        }
        kept
    }

    fn text(&mut self, key: &str, text: String) -> Value {
        if self.keep == Keep::Harmless && !look::is_harmless(key) {
            return self.replaced(Value::String(text));
        }
        let scrubbed = look::scrubbed(&text);
        if scrubbed != text {
            self.note(text);
        }
        look::cut(&scrubbed, TEXT_CHARS_MAX).into()
    }

    /// [`REDACTED`] in place of a value; what is empty tells nothing and stays.
    fn replaced(&mut self, value: Value) -> Value {
        let is_empty = match &value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(elements) => elements.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            Value::Bool(_) | Value::Number(_) => false,
        };
        if is_empty {
            return value;
        }
        self.note_all(value);
        REDACTED.into()
    }

    fn note_all(&mut self, value: Value) {
        match value {
            Value::String(text) => self.note(text),
            Value::Number(number) => self.note(number.to_string()),
            Value::Array(elements) => elements.into_iter().for_each(|element| self.note_all(element)),
            Value::Object(fields) => fields.into_values().for_each(|field| self.note_all(field)),
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn note(&mut self, text: String) {
        if text.chars().count() >= SECRET_CHARS_MIN && self.secrets.len() < SECRETS_MAX {
            self.secrets.push(text);
        }
    }
}
