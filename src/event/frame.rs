//! The stored form of an event, the same in every store: one version byte, the length of the facts (4 bytes, big
//! endian), the facts as JSON, the body's bytes. A release writes what the one before it can read: facts may gain
//! fields (readers ignore what they do not know) before anything relies on them; another version byte is a new form.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{BodyHash, Event, SourceName, Subject};
use crate::clock::Timestamp;
use crate::secret::SecretId;

/// The form that this release writes and reads.
const VERSION: u8 = 1;
/// Version byte and length.
const HEAD_BYTES: usize = 5;

/// A frame that this release cannot read: that one delivery ends `unreadable`, its neighbours go on.
#[derive(Debug, thiserror::Error)]
pub enum BadFrame {
    /// Cut short.
    #[error("the frame is cut short")]
    Short,
    /// Written by a release with another form.
    #[error("the frame has version {0}; this release reads {VERSION}")]
    Version(u8),
    /// The facts are not what they should be.
    #[error("the frame's facts cannot be read")]
    Facts(#[from] serde_json::Error),
    /// A source name that no configuration allows.
    #[error("the frame's source name is not a name")]
    Source(#[from] super::BadName),
}

#[derive(Serialize, Deserialize)]
struct Facts<'a> {
    source: &'a str,
    #[serde(borrow)]
    svix_id: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    event_type: Cow<'a, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    subject: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    instance_id: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    content_type: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    remote: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    user_agent: Option<Cow<'a, str>>,
    received_ms: i64,
    signed_ms: i64,
    secret: [u8; 4],
    body_hash: [u8; 8],
}

/// The bytes to store for `event`.
pub fn encode(event: &Event) -> Vec<u8> {
    let facts = Facts {
        source: event.source.as_str(),
        svix_id: (&*event.svix_id).into(),
        event_type: (&*event.event_type).into(),
        subject: event.subject.as_ref().map(|s| s.as_str().into()),
        instance_id: event.instance_id.as_deref().map(Into::into),
        content_type: event.content_type.as_deref().map(Into::into),
        remote: event.remote.as_deref().map(Into::into),
        user_agent: event.user_agent.as_deref().map(Into::into),
        received_ms: event.received_at.as_ms(),
        signed_ms: event.signed_at.as_ms(),
        secret: event.secret_id.0,
        body_hash: event.body_hash.0,
    };
    let mut frame = Vec::with_capacity(HEAD_BYTES + 512 + event.body.len());
    frame.extend_from_slice(&[VERSION, 0, 0, 0, 0]);
    serde_json::to_writer(&mut frame, &facts).expect("text and numbers always serialize into memory");
    let facts_bytes = u32::try_from(frame.len() - HEAD_BYTES).expect("headers are limited far below 4 GiB");
    frame[1..HEAD_BYTES].copy_from_slice(&facts_bytes.to_be_bytes());
    frame.extend_from_slice(&event.body);
    frame
}

/// The body in `frame`, where its form is ours; the facts are not read.
pub fn body(frame: &[u8]) -> Option<&[u8]> {
    let (version, rest) = frame.split_first()?;
    let length = rest.first_chunk::<4>()?;
    (*version == VERSION).then_some(())?;
    frame.get(HEAD_BYTES + u32::from_be_bytes(*length) as usize..)
}

/// The event in `frame`; its body shares the frame's memory.
///
/// # Errors
/// [`BadFrame`] where the bytes are not a frame of this release.
pub fn decode(frame: &Bytes) -> Result<Event, BadFrame> {
    let (&version, rest) = frame.split_first().ok_or(BadFrame::Short)?;
    if version != VERSION {
        return Err(BadFrame::Version(version));
    }
    let length = rest.first_chunk::<4>().ok_or(BadFrame::Short)?;
    let body_at = HEAD_BYTES + u32::from_be_bytes(*length) as usize;
    let facts: Facts<'_> = serde_json::from_slice(frame.get(HEAD_BYTES..body_at).ok_or(BadFrame::Short)?)?;
    let shared = |text: Option<Cow<'_, str>>| text.map(|text| Arc::from(&*text));
    Ok(Event {
        source: facts.source.parse::<SourceName>()?,
        svix_id: Arc::from(&*facts.svix_id),
        event_type: Arc::from(&*facts.event_type),
        subject: facts.subject.as_deref().and_then(Subject::of),
        instance_id: shared(facts.instance_id),
        content_type: shared(facts.content_type),
        received_at: Timestamp::from_ms(facts.received_ms),
        signed_at: Timestamp::from_ms(facts.signed_ms),
        secret_id: SecretId(facts.secret),
        remote: shared(facts.remote),
        user_agent: shared(facts.user_agent),
        body_hash: BodyHash(facts.body_hash),
        body: frame.slice(body_at..),
    })
}
