//! An event: one accepted webhook, its names and the facts kept beside its untouched body.
//!
//! Knows nothing of HTTP, signatures, stores or targets. Invariant: `body` is, byte for byte, what the sender posted;
//! everything else was read from it or from the request around it.

pub mod catalog;
pub mod frame;
pub mod ksuid;
pub mod payload;
pub mod redaction;
pub mod scan;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::clock::Timestamp;
use crate::secret::SecretId;

/// The longest source or target name, in characters. Names become parts of store keys and metric labels.
pub const NAME_CHARS_MAX: usize = 40;

/// A name is not `[a-z0-9_-]{1,40}`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a name is 1 to {NAME_CHARS_MAX} characters of a-z, 0-9, _ and -")]
pub struct BadName;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = BadName;

            fn from_str(text: &str) -> Result<Self, BadName> {
                if is_name(text) { Ok(Self(text.into())) } else { Err(BadName) }
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;

            fn try_from(text: String) -> Result<Self, BadName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The name of a source: a Clerk endpoint that posts to us.
    SourceName
);
name!(
    /// The name of a target, which is also its identity: an app that gets events.
    TargetName
);

fn is_name(text: &str) -> bool {
    (1..=NAME_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

/// The identity of an event: made by the store, opaque to people, ordered by acceptance.
///
/// Shown as `evt_` and 20 hex digits (12 of milliseconds since 1970, 8 of a sequence), so that text sorts as time does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// Milliseconds since 1970 by the store's clock, never going back.
    pub ms: u64,
    /// Tells events of one millisecond apart.
    pub seq: u32,
}

impl EventId {
    /// Fixed-width text that compares like the id; what `Relay-Sequence` carries.
    pub fn sequence(&self) -> String {
        format!("{:012x}{:08x}", self.ms, self.seq)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "evt_{:012x}{:08x}", self.ms, self.seq)
    }
}

/// Text that is no event id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an event id is evt_ and 20 hex digits")]
pub struct BadEventId;

impl FromStr for EventId {
    type Err = BadEventId;

    fn from_str(text: &str) -> Result<Self, BadEventId> {
        let hex = text.strip_prefix("evt_").ok_or(BadEventId)?;
        if hex.len() != 20 || !hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(BadEventId);
        }
        let (ms, seq) = hex.split_at(12);
        Ok(Self {
            ms: u64::from_str_radix(ms, 16).map_err(|_| BadEventId)?,
            seq: u32::from_str_radix(seq, 16).map_err(|_| BadEventId)?,
        })
    }
}

/// The user or organization an event is about; what ordering and look-ups go by.
///
/// An e-mail address is never kept as a subject: it is replaced by a digest that equal addresses share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subject(Arc<str>);

/// Empty text is no subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a subject is not empty")]
pub struct NoSubject;

impl TryFrom<String> for Subject {
    type Error = NoSubject;

    fn try_from(text: String) -> Result<Self, NoSubject> {
        Self::of(&text).ok_or(NoSubject)
    }
}

impl From<Subject> for String {
    fn from(subject: Subject) -> Self {
        subject.as_str().to_owned()
    }
}

impl Subject {
    /// Longer texts are not ids; they are digested like addresses, so that keys stay short.
    const CHARS_MAX: usize = 128;

    /// The subject for an id found in a payload; empty text is no subject.
    pub fn of(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        if text.contains('@') || text.len() > Self::CHARS_MAX {
            let digest = Sha256::digest(text.trim().to_lowercase().as_bytes());
            let mut head = [0; 16];
            head.copy_from_slice(&digest[..16]);
            return Some(Self(format!("sha256:{:032x}", u128::from_be_bytes(head)).into()));
        }
        Some(Self(text.into()))
    }

    /// The subject as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The first 8 bytes of the body's SHA-256: tells whether the same id came with another body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyHash(pub [u8; 8]);

impl BodyHash {
    /// The hash of `body`.
    pub fn of(body: &[u8]) -> Self {
        let digest = Sha256::digest(body);
        let mut head = [0; 8];
        head.copy_from_slice(&digest[..8]);
        Self(head)
    }
}

/// One accepted webhook. Built by `signature::verify` from a request, or read back from a stored frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The source it came through.
    pub source: SourceName,
    /// The sender's id for it, unique per source only.
    pub svix_id: Arc<str>,
    /// Clerk's type such as `user.created`, or `unknown` where the body does not tell.
    pub event_type: Arc<str>,
    /// Who it is about, where the payload tells.
    pub subject: Option<Subject>,
    /// The Clerk instance that sent it (`ins_…`), where the payload tells.
    pub instance_id: Option<Arc<str>>,
    /// `Content-Type` as received, copied to the target.
    pub content_type: Option<Arc<str>>,
    /// When the relay had the whole request.
    pub received_at: Timestamp,
    /// The signed `svix-timestamp`: when this attempt of the sender was made.
    pub signed_at: Timestamp,
    /// Which of the source's secrets matched.
    pub secret_id: SecretId,
    /// The sender's address as text, after `trusted_proxies`.
    pub remote: Option<Arc<str>>,
    /// The sender's `User-Agent`, cut to 200 characters.
    pub user_agent: Option<Arc<str>>,
    /// Tells bodies apart without reading them.
    pub body_hash: BodyHash,
    /// The bytes as received.
    pub body: Bytes,
}

impl Event {
    /// When the sender made the event: the second inside a KSUID `svix-id`, but never later than receipt.
    pub fn born_at(&self) -> Timestamp {
        ksuid::born_at(&self.svix_id).map_or(self.received_at, |born| born.min(self.received_at))
    }
}
