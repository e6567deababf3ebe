//! The likely cause of a refusal, in words for the person who must cure it. Only they read it: the sender gets the dull
//! message of `answer`.

use std::sync::Arc;

use hyper::header::CONTENT_ENCODING;

use super::answer::Refused;
use super::{Call, gate};
use crate::config::Source;
use crate::event::SourceName;
use crate::http::body::BodyError;
use crate::signature::{self, Envelope};
use crate::store::StoreError;
use crate::telemetry::causes;

/// Larger bodies are not tried with the secrets of other sources: forged requests must not cost many times their own.
const TRIED_BYTES_MAX: usize = 64 * 1024;
/// The longest foreign text quoted in a cause, in characters.
const QUOTED_CHARS_MAX: usize = 60;

/// The other source whose secret made the signature: then the request came to the wrong path. Only asked where none of
/// the source's own secrets matched.
pub(super) fn other_source(
    call: &Call<'_>, refused: &signature::Refused, body: &[u8], sources: &[Arc<Source>],
) -> Option<SourceName> {
    if *refused != signature::Refused::NoMatch || body.len() > TRIED_BYTES_MAX {
        return None;
    }
    let envelope = Envelope::read(&call.head.headers).ok()?;
    let made_by = |source: &&Arc<Source>| {
        source.name != call.source.name
            && source.signing_secrets.iter().any(|secret| envelope.made_by(secret, body))
    };
    sources.iter().find(made_by).map(|source| source.name.clone())
}

/// The likely cause of `refused`.
pub(super) fn of(call: &Call<'_>, refused: &Refused) -> String {
    match refused {
        Refused::Method => {
            format!(
                "{} instead of POST: a browser, a health check, or a redirect on the way",
                quoted(call.head.method.as_str())
            )
        }
        Refused::Sender => format!(
            "{} is not in the source's allow_from; behind a proxy, list the proxy in trusted_proxies",
            call.sender
        ),
        Refused::Busy(gate::Full::Requests) => "limits.in_flight requests are under way".to_owned(),
        Refused::Busy(gate::Full::Bytes) => {
            "limits.in_flight_bytes are taken by requests under way".to_owned()
        }
        Refused::Body(error) => of_body(error),
        Refused::Signature { refused, meant_for } => of_signature(call, refused, meant_for.as_ref()),
        Refused::Instance { theirs } => format!(
            "signed, but of Clerk instance {} where the source's instance_id is {}: an endpoint of another environment posts here",
            theirs.as_deref().map_or_else(|| "unknown".to_owned(), quoted),
            call.source.instance_id.as_deref().unwrap_or("not set"),
        ),
        Refused::Store(StoreError::Full) => "the store is full: limits.store_size or the disk".to_owned(),
        Refused::Store(error) => causes(error),
        Refused::StoreSlow => {
            "the store did not answer in time; if it kept the event, the next try is a duplicate".to_owned()
        }
    }
}

fn of_body(error: &BodyError) -> String {
    match error {
        BodyError::TooLarge { bytes, bytes_max } => {
            format!("the body has {bytes} bytes or more; the source's body_max is {bytes_max}")
        }
        BodyError::TooSlow { bytes } => {
            format!("only {bytes} bytes of the body came in time: a slow network or an attack")
        }
        BodyError::Broken { bytes, .. } => format!("the sender broke off after {bytes} bytes of the body"),
    }
}

fn of_signature(call: &Call<'_>, refused: &signature::Refused, meant_for: Option<&SourceName>) -> String {
    match refused {
        signature::Refused::MissingHeaders(names) if names.len() == 3 => {
            "no signature headers at all: not sent by Clerk, or a proxy on the way drops them".to_owned()
        }
        signature::Refused::MissingHeaders(names) => {
            format!("missing or blank: {}; a proxy on the way may drop headers", names.join(", "))
        }
        signature::Refused::Stale { skew_s } if *skew_s > 0 => format!(
            "the signature is right but {skew_s} s old: a captured request sent again, or this machine's clock is ahead"
        ),
        signature::Refused::Stale { skew_s } => format!(
            "the signature is right but {} s in the future: this machine's clock is behind",
            skew_s.unsigned_abs()
        ),
        signature::Refused::NoMatch => match (meant_for, call.head.headers.get(CONTENT_ENCODING)) {
            (Some(other), _) => {
                format!("signed with a secret of source {other}, whose path is another: the endpoint's URL is wrong")
            }
            (None, Some(_)) => {
                "no secret of this source matches, and the body came encoded: a proxy on the way compresses it".to_owned()
            }
            (None, None) => "no secret matches: another environment's secret, a rotated one, or a body \
                             that was changed on the way"
                .to_owned(),
        },
        signature::Refused::BadId | signature::Refused::BadTimestamp | signature::Refused::NoSignature => {
            format!("{refused}: not sent by Clerk, or changed on the way")
        }
    }
}

fn quoted(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(QUOTED_CHARS_MAX).collect()
}
