//! Signatures of Standard Webhooks in Svix' dialect: who may call an event verified, and how we sign onward.
//!
//! The signed content is `{id}.{timestamp}.{body}`, the MAC HMAC-SHA256, the header a list of `v1,<base64>` tokens.
//! This module is the only maker of [`Verified`]. It reads headers by its own rule, where the reference libraries
//! differ from each other, accepts bytes that are not UTF-8, and takes the clock as an argument; tests check it
//! against the svix crate wherever that crate can follow.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::Mac;
use hyper::HeaderMap;
use hyper::header::{CONTENT_TYPE, USER_AGENT};
use subtle::ConstantTimeEq;

use crate::clock::Timestamp;
use crate::event::{BodyHash, Event, SourceName, catalog, scan};
use crate::secret::{SecretId, SigningSecret};

/// The two header families (id, timestamp, signature), in the order of preference: a request must carry one of them
/// whole, and what we send carries both.
pub const FAMILIES: [[&str; 3]; 2] = [
    ["svix-id", "svix-timestamp", "svix-signature"],
    ["webhook-id", "webhook-timestamp", "webhook-signature"],
];
/// The longest id that is taken, in characters; Svix' own have 31.
const ID_CHARS_MAX: usize = 128;
/// The longest `User-Agent` kept, in characters.
const USER_AGENT_CHARS_MAX: usize = 200;
/// The longest `Content-Type` kept and passed on, in characters.
const CONTENT_TYPE_CHARS_MAX: usize = 200;

/// An event whose signature was checked. Only [`verify`] makes one.
#[derive(Debug, Clone)]
pub struct Verified(Event);

impl Verified {
    /// What was verified.
    pub fn event(&self) -> &Event {
        &self.0
    }
}

/// Why a request was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No family is complete; these are missing or blank in the one that more of came of.
    #[error("missing or blank: {}", .0.join(", "))]
    MissingHeaders(Vec<&'static str>),
    /// The id is not `[A-Za-z0-9_-]{1,128}`, as Svix makes it.
    #[error("svix-id has characters that no sender uses, or is too long")]
    BadId,
    /// The timestamp is not a number of seconds.
    #[error("svix-timestamp is not a number of seconds")]
    BadTimestamp,
    /// No `v1` token in the signature header.
    #[error("svix-signature holds no v1 signature")]
    NoSignature,
    /// None of the source's secrets made any of the signatures.
    #[error("none of the source's signing secrets made this signature")]
    NoMatch,
    /// The signature is right, but the timestamp is further off than the tolerance.
    #[error("the signature is right, but its timestamp is {} s {}", .skew_s.unsigned_abs(), if *.skew_s < 0 { "in the future" } else { "old" })]
    Stale {
        /// Our clock minus the timestamp, in seconds.
        skew_s: i64,
    },
}

/// A whole request, before anything in it is believed.
pub struct Received<'a> {
    /// The source whose path it was posted to.
    pub source: &'a SourceName,
    /// All its headers.
    pub headers: &'a HeaderMap,
    /// Its body, complete.
    pub body: Bytes,
    /// Who sent it, after `trusted_proxies`.
    pub remote: Option<IpAddr>,
    /// When the whole of it was there.
    pub at: Timestamp,
}

/// Checks the signature and, where it is right, builds the event. Any of `secrets` may have made it; the timestamp may
/// be up to `tolerance` away from `received.at`, either way, inclusive (Standard Webhooks: 5 minutes).
///
/// # Errors
/// [`Refused`], with the signature judged before the timestamp, so that a wrong clock is told from a wrong secret.
pub fn verify(
    received: Received<'_>, secrets: &[SigningSecret], tolerance: Duration,
) -> Result<Verified, Refused> {
    let envelope = Envelope::read(received.headers)?;
    let secret =
        secrets.iter().find(|secret| envelope.made_by(secret, &received.body)).ok_or(Refused::NoMatch)?;
    let skew_s = received.at.as_secs().saturating_sub(envelope.timestamp_s);
    if skew_s.unsigned_abs() > tolerance.as_secs() {
        return Err(Refused::Stale { skew_s });
    }
    let signed_at = Timestamp::from_secs(envelope.timestamp_s);
    let svix_id = Arc::from(envelope.id);
    Ok(Verified(event(received, svix_id, signed_at, secret.id())))
}

fn event(received: Received<'_>, svix_id: Arc<str>, signed_at: Timestamp, secret_id: SecretId) -> Event {
    let facts = scan::scan(&received.body);
    Event {
        source: received.source.clone(),
        svix_id,
        event_type: facts.event_type.map_or_else(|| catalog::UNKNOWN_TYPE.into(), Into::into),
        subject: facts.subject,
        instance_id: facts.instance_id.map(Into::into),
        content_type: text(received.headers, CONTENT_TYPE.as_str())
            .filter(|text| text.len() <= CONTENT_TYPE_CHARS_MAX)
            .map(Into::into),
        received_at: received.at,
        signed_at,
        secret_id,
        remote: received.remote.map(|ip| ip.to_string().into()),
        user_agent: text(received.headers, USER_AGENT.as_str())
            .map(|text| text.chars().take(USER_AGENT_CHARS_MAX).collect::<String>().into()),
        body_hash: BodyHash::of(&received.body),
        body: received.body,
    }
}

/// The signing headers of one request, well-formed but not yet believed.
#[derive(Debug)]
pub struct Envelope<'h> {
    id: &'h str,
    timestamp_s: i64,
    timestamp: &'h str,
    tokens: Vec<&'h [u8]>,
}

impl<'h> Envelope<'h> {
    /// Reads one complete family of signing headers, `svix-*` before `webhook-*`.
    ///
    /// # Errors
    /// [`Refused`] where none is complete, or one of its values cannot be a sender's.
    pub fn read(headers: &'h HeaderMap) -> Result<Self, Refused> {
        let filled = |family: &[&str; 3]| family.iter().filter(|name| is_filled(headers, name)).count();
        let Some(family) = FAMILIES.into_iter().find(|family| filled(family) == family.len()) else {
            let [svix, webhook] = FAMILIES;
            let meant = if filled(&webhook) > filled(&svix) { webhook } else { svix };
            return Err(Refused::MissingHeaders(
                meant.into_iter().filter(|name| !is_filled(headers, name)).collect(),
            ));
        };
        let id = text(headers, family[0]).ok_or(Refused::BadId)?;
        let is_id_byte = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if id.len() > ID_CHARS_MAX || !id.bytes().all(is_id_byte) {
            return Err(Refused::BadId);
        }
        let timestamp = text(headers, family[1]).ok_or(Refused::BadTimestamp)?;
        if !timestamp.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Refused::BadTimestamp);
        }
        let timestamp_s = timestamp.parse().map_err(|_| Refused::BadTimestamp)?;
        let tokens: Vec<&[u8]> = headers
            .get_all(family[2])
            .iter()
            .flat_map(|line| line.as_bytes().split(u8::is_ascii_whitespace))
            .filter_map(|token| token.strip_suffix(b",").unwrap_or(token).strip_prefix(b"v1,"))
            .collect();
        if tokens.is_empty() {
            return Err(Refused::NoSignature);
        }
        Ok(Self { id, timestamp_s, timestamp, tokens })
    }

    /// The sender's id.
    pub fn id(&self) -> &str {
        self.id
    }

    /// Whether `secret` made one of the signatures over `body`. Takes the same time whichever byte differs.
    pub fn made_by(&self, secret: &SigningSecret, body: &[u8]) -> bool {
        let expected = mac_text(secret, self.id, self.timestamp, body);
        self.tokens.iter().any(|token| bool::from(token.ct_eq(expected.as_bytes())))
    }
}

/// The value of `svix-signature` for `body`: one `v1` token for each secret, in their order.
pub fn sign(secrets: &[SigningSecret], id: &str, at: Timestamp, body: &[u8]) -> String {
    let timestamp = at.as_secs().to_string();
    let tokens: Vec<String> =
        secrets.iter().map(|secret| format!("v1,{}", mac_text(secret, id, &timestamp, body))).collect();
    tokens.join(" ")
}

fn mac_text(secret: &SigningSecret, id: &str, timestamp: &str, body: &[u8]) -> String {
    let mut mac = secret.mac();
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    STANDARD.encode(mac.finalize().into_bytes())
}

fn is_filled(headers: &HeaderMap, name: &str) -> bool {
    headers.get(name).is_some_and(|value| !value.as_bytes().trim_ascii().is_empty())
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}
