//! The stored form of an event, the same in every store: one version byte, the length of the facts (4 bytes, big
//! endian), the facts as JSON, the body's bytes. A release writes what the one before it can read: facts may gain
//! fields (readers ignore what they do not know) before anything relies on them; another version byte is a new form.
//!
//! An erased event has a version byte of its own and no body: a release that does not know it cannot send what is left.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{BodyHash, Event, SourceName, Subject};
use crate::clock::Timestamp;
use crate::secret::SecretId;

/// The form that this release writes and reads.
const VERSION: u8 = 1;
/// The form of an event whose payload was erased: facts that name nobody but the subject, and no body.
const ERASED: u8 = 2;
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
    /// Its payload was erased: there is nothing to send.
    #[error("the event was erased")]
    Erased,
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
    write(VERSION, &facts, &event.body)
}

/// What is kept in place of `frame` once its event is erased: what it was, whom it was about and when it came, without
/// body, sender and instance. Of a frame that cannot be read nothing is kept but that it was erased.
pub fn erase(frame: &Bytes) -> Vec<u8> {
    let Ok(event) = facts(frame) else { return vec![ERASED, 0, 0, 0, 0] };
    let facts = Facts {
        source: event.source.as_str(),
        svix_id: (&*event.svix_id).into(),
        event_type: (&*event.event_type).into(),
        subject: event.subject.as_ref().map(|s| s.as_str().into()),
        instance_id: None,
        content_type: None,
        remote: None,
        user_agent: None,
        received_ms: event.received_at.as_ms(),
        signed_ms: event.signed_at.as_ms(),
        secret: event.secret_id.0,
        body_hash: [0; 8],
    };
    write(ERASED, &facts, &[])
}

/// Whether the event in `frame` was erased.
pub fn is_erased(frame: &[u8]) -> bool {
    frame.first() == Some(&ERASED)
}

fn write(version: u8, facts: &Facts<'_>, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(HEAD_BYTES + 512 + body.len());
    frame.extend_from_slice(&[version, 0, 0, 0, 0]);
    serde_json::to_writer(&mut frame, facts).expect("text and numbers always serialize into memory");
    let facts_bytes = u32::try_from(frame.len() - HEAD_BYTES).expect("headers are limited far below 4 GiB");
    frame[1..HEAD_BYTES].copy_from_slice(&facts_bytes.to_be_bytes());
    frame.extend_from_slice(body);
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
/// [`BadFrame`] where the bytes are not a frame of this release, or the event was erased.
pub fn decode(frame: &Bytes) -> Result<Event, BadFrame> {
    if is_erased(frame) { Err(BadFrame::Erased) } else { facts(frame) }
}

/// The same, of an erased event too: that has an empty body, and facts only as far as they were kept. For telling people
/// what it was; what is sent is [`decode`]d.
///
/// # Errors
/// [`BadFrame`] where the bytes are not a frame of this release.
pub fn facts(frame: &Bytes) -> Result<Event, BadFrame> {
    let (&version, rest) = frame.split_first().ok_or(BadFrame::Short)?;
    if version != VERSION && version != ERASED {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        let body = Bytes::from_static(br#"{"data":{"email":"jane@example.com"}}"#);
        Event {
            source: "clerk".parse().unwrap(),
            svix_id: "msg_1".into(),
            event_type: "user.created".into(),
            subject: Subject::of("user_1"),
            instance_id: Some("ins_1".into()),
            content_type: Some("application/json".into()),
            received_at: Timestamp::from_ms(1_784_000_000_123),
            signed_at: Timestamp::from_ms(1_784_000_000_000),
            secret_id: SecretId([1, 2, 3, 4]),
            remote: Some("192.0.2.7".into()),
            user_agent: Some("Svix-Webhooks/1".into()),
            body_hash: BodyHash::of(&body),
            body,
        }
    }

    #[test]
    fn an_erased_frame_names_nobody_but_the_subject_and_cannot_be_sent() {
        let (whole, event) = (Bytes::from(encode(&event())), event());
        assert_eq!(decode(&whole).unwrap(), event);
        let erased = Bytes::from(erase(&whole));
        assert!(is_erased(&erased) && !is_erased(&whole));
        assert!(matches!(decode(&erased), Err(BadFrame::Erased)));
        let expected = Event {
            instance_id: None,
            content_type: None,
            remote: None,
            user_agent: None,
            body_hash: BodyHash([0; 8]),
            body: Bytes::new(),
            ..event
        };
        assert_eq!(facts(&erased).unwrap(), expected);
        assert_eq!(erase(&erased), erased, "erasing again changes nothing");
    }

    #[test]
    fn what_cannot_be_read_is_erased_whole() {
        let erased = Bytes::from(erase(&Bytes::from_static(b"\x01\0\0\0\x09jane@example.com")));
        assert_eq!(&erased[..], [ERASED, 0, 0, 0, 0]);
        assert!(matches!(decode(&erased), Err(BadFrame::Erased)));
        assert!(facts(&erased).is_err());
    }
}
