//! The headers that a request to an app carries besides its body: signed anew each time, in both header families. The
//! same for a delivery and for an event that is forwarded to a developer's machine. Knows no target and no lease.

use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue};

use crate::clock::Timestamp;
use crate::event::EventId;
use crate::secret::SigningSecret;
use crate::signature;

/// What of an event is told in headers.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// Its id.
    pub event_id: EventId,
    /// The sender's id of it.
    pub svix_id: &'a str,
    /// Its source.
    pub source: &'a str,
    /// When it was received.
    pub received_at: Timestamp,
    /// Its content type; absent: JSON.
    pub content_type: Option<&'a str>,
    /// Its body, for the signature.
    pub body: &'a [u8],
}

/// Which sending of an event it is.
#[derive(Debug, Clone, Copy)]
pub enum Sending {
    /// The attempt of this number.
    Attempt(u32),
    /// The same, after somebody asked for it once more.
    Replay(u32),
}

/// Adds to `headers`, over what is there, everything that an unchanged Clerk app expects. Both header families carry the
/// same fresh values; nothing of the inbound request goes on but its content type.
///
/// # Errors
/// Where a value cannot stand in a header.
pub fn add(
    headers: &mut HeaderMap, told: Told<'_>, secrets: &[SigningSecret], at: Timestamp, sending: Sending,
) -> Result<(), InvalidHeaderValue> {
    let signed = HeaderValue::try_from(signature::sign(secrets, told.svix_id, at, told.body))?;
    let id = HeaderValue::try_from(told.svix_id)?;
    let timestamp = HeaderValue::from(at.as_secs());
    let content_type = told.content_type.unwrap_or("application/json");
    headers.insert(CONTENT_TYPE, HeaderValue::try_from(content_type)?);
    // Never text/html: an auth middleware would take the request for a page and redirect it to a sign-in.
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    for family in signature::FAMILIES {
        for (name, value) in family.into_iter().zip([&id, &timestamp, &signed]) {
            headers.insert(HeaderName::from_static(name), value.clone());
        }
    }
    let (Sending::Attempt(number) | Sending::Replay(number)) = sending;
    headers.insert("relay-attempt", HeaderValue::from(number));
    headers.insert("relay-source", HeaderValue::try_from(told.source)?);
    headers.insert("relay-received-at", HeaderValue::try_from(told.received_at.to_string())?);
    headers.insert("relay-sequence", HeaderValue::try_from(told.event_id.sequence())?);
    if let Sending::Replay(_) = sending {
        headers.insert("relay-replay", HeaderValue::from_static("true"));
    }
    Ok(())
}
