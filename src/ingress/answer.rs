//! What ingress decides and how it says so: short, dull JSON, for the sender keeps and shows what we answer.

use http_body_util::Full;
use hyper::body::{Body, Bytes};
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Request, Response, StatusCode};

use super::gate;
use crate::event::{Event, EventId, SourceName};
use crate::http::body::BodyError;
use crate::signature;
use crate::store::StoreError;

/// The code of an answer to a path that is no source's. A command that looks for the admin API knows by it that it asks the
/// wrong listener.
pub const NO_SUCH_PATH: &str = "no_such_path";
/// When a sender should come back after something passing, in seconds. Svix waits at least its own 5 s.
const RETRY_SOON_S: u64 = 5;
/// When it should come back to a full store: somebody must make room first.
const RETRY_FULL_S: u64 = 60;

/// An event that is answered 2xx.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) event: Event,
    pub(super) kept: Kept,
}

/// What became of an accepted event.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kept {
    /// It is on disk.
    New(EventId),
    /// It was already.
    Before(Repeated),
    /// The source's `drop` says no.
    Dropped,
}

/// A known event that came again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Repeated {
    /// The one that was kept.
    pub(super) id: EventId,
    /// For how many targets a replay by hand made it due again; `None` where it was no replay.
    pub(super) rearmed: Option<u64>,
}

impl Accepted {
    pub(super) fn stored(id: EventId, event: Event) -> Self {
        Self { event, kept: Kept::New(id) }
    }

    pub(super) fn duplicate(event: Event, repeated: Repeated) -> Self {
        Self { event, kept: Kept::Before(repeated) }
    }

    pub(super) fn dropped(event: &Event) -> Self {
        Self { event: event.clone(), kept: Kept::Dropped }
    }
}

/// Why a request on a source's path is not answered 2xx. The likely cause, in words, is `cause`'s to tell.
#[derive(Debug)]
pub(super) enum Refused {
    /// Not a POST.
    Method,
    /// `allow_from` does not name the sender's address.
    Sender,
    /// Too much is under way.
    Busy(gate::Full),
    /// The body is too large, too slow or broken.
    Body(BodyError),
    /// The signature's headers are missing or do not prove anything.
    Signature {
        /// Why.
        refused: signature::Refused,
        /// The source whose secret did make the signature.
        meant_for: Option<SourceName>,
    },
    /// Signed, but of another Clerk instance than the source's.
    Instance {
        /// Which, where the payload tells.
        theirs: Option<String>,
    },
    /// The store could not take it.
    Store(StoreError),
    /// The store did not answer in time: it may have taken it.
    StoreSlow,
}

impl From<BodyError> for Refused {
    fn from(error: BodyError) -> Self {
        Self::Body(error)
    }
}

impl From<gate::Full> for Refused {
    fn from(full: gate::Full) -> Self {
        Self::Busy(full)
    }
}

/// Whether a request's body was left in the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    /// Nothing was: the connection can be used again.
    Nothing,
    /// Some of it: the connection must end.
    Some,
}

impl Refused {
    /// Whether it was refused before its body was read to the end.
    pub(super) fn unread(&self) -> Unread {
        match self {
            Self::Method | Self::Sender | Self::Busy(_) | Self::Body(_) => Unread::Some,
            Self::Signature { .. } | Self::Instance { .. } | Self::Store(_) | Self::StoreSlow => {
                Unread::Nothing
            }
        }
    }

    /// The answer's status.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Sender | Self::Instance { .. } => StatusCode::FORBIDDEN,
            Self::Body(BodyError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Body(BodyError::TooSlow { .. }) => StatusCode::REQUEST_TIMEOUT,
            Self::Body(BodyError::Broken { .. }) => StatusCode::BAD_REQUEST,
            Self::Signature { refused: signature::Refused::MissingHeaders(_), .. } => StatusCode::BAD_REQUEST,
            Self::Signature { .. } => StatusCode::UNAUTHORIZED,
            Self::Busy(_) | Self::Store(_) | Self::StoreSlow => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The answer's code, which also names the refusal.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Method => "method_not_allowed",
            Self::Sender => "sender_not_allowed",
            Self::Busy(_) => "too_busy",
            Self::Body(BodyError::TooLarge { .. }) => "body_too_large",
            Self::Body(BodyError::TooSlow { .. }) => "body_too_slow",
            Self::Body(BodyError::Broken { .. }) => "body_broken",
            Self::Signature { refused, .. } => match refused {
                signature::Refused::MissingHeaders(_) => "missing_headers",
                signature::Refused::Stale { .. } => "stale_timestamp",
                signature::Refused::BadId
                | signature::Refused::BadTimestamp
                | signature::Refused::NoSignature
                | signature::Refused::NoMatch => "invalid_signature",
            },
            Self::Instance { .. } => "wrong_instance",
            Self::Store(StoreError::Full) => "store_full",
            Self::Store(StoreError::Unavailable(_) | StoreError::Corrupt(_)) => "store_unavailable",
            Self::StoreSlow => "store_slow",
        }
    }

    /// What the sender is told: nothing that it did not know.
    fn message(&self) -> &'static str {
        match self {
            Self::Method => "only POST is accepted here",
            Self::Sender => "this sender is not allowed",
            Self::Busy(_) => "too much is under way, try again later",
            Self::Body(BodyError::TooLarge { .. }) => "the body is too large",
            Self::Body(BodyError::TooSlow { .. }) => "the body did not come in time",
            Self::Body(BodyError::Broken { .. }) => "the body broke off",
            Self::Signature { refused, .. } => match refused {
                signature::Refused::MissingHeaders(_) => "signature headers are missing",
                signature::Refused::Stale { .. } => "the timestamp is too far off",
                signature::Refused::BadId
                | signature::Refused::BadTimestamp
                | signature::Refused::NoSignature
                | signature::Refused::NoMatch => "the signature is not valid",
            },
            Self::Instance { .. } => "this instance is not accepted here",
            Self::Store(_) | Self::StoreSlow => "not stored, try again later",
        }
    }

    fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Store(StoreError::Full) => Some(RETRY_FULL_S),
            Self::Busy(_) | Self::Store(_) | Self::StoreSlow => Some(RETRY_SOON_S),
            Self::Method | Self::Sender | Self::Body(_) | Self::Signature { .. } | Self::Instance { .. } => {
                None
            }
        }
    }
}

/// The answer to an accepted event.
pub(super) fn accepted(accepted: &Accepted) -> Response<Full<Bytes>> {
    json(
        StatusCode::OK,
        match accepted.kept {
            Kept::New(_) | Kept::Dropped => r#"{"received":true}"#.into(),
            Kept::Before(_) => r#"{"received":true,"duplicate":true}"#.into(),
        },
    )
}

/// The answer to a refused request.
pub(super) fn refused(refused: &Refused, unread: Unread) -> Response<Full<Bytes>> {
    let mut response = error(refused.status(), refused.code(), refused.message(), unread);
    if let Some(seconds) = refused.retry_after_s() {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    if matches!(refused, Refused::Method) {
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
    }
    response
}

/// The answer on a path that leads nowhere.
pub(super) fn not_found<B: Body>(request: &Request<B>) -> Response<Full<Bytes>> {
    error(StatusCode::NOT_FOUND, NO_SUCH_PATH, "no such path", unread(request))
}

/// The answer to a method that a health path does not know.
pub(super) fn only_get<B: Body>(request: &Request<B>) -> Response<Full<Bytes>> {
    let mut response = error(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        "only GET is accepted here",
        unread(request),
    );
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

fn unread<B: Body>(request: &Request<B>) -> Unread {
    if request.body().is_end_stream() { Unread::Nothing } else { Unread::Some }
}

fn error(status: StatusCode, code: &str, message: &str, unread: Unread) -> Response<Full<Bytes>> {
    // Codes and messages are ours and hold nothing that JSON would escape.
    let mut response =
        json(status, format!(r#"{{"error":{{"code":"{code}","message":"{message}"}}}}"#).into());
    match unread {
        Unread::Nothing => {}
        Unread::Some => {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
    response
}

fn json(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
