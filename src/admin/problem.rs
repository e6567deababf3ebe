//! Why a request of the API is not done, and how it is told: always `{"error":{"code","message"}}`, whatever layer
//! found it. The code is for programs and stays; the message is for people. Never repeats a token or a payload.

pub mod answers;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::config::Scope;
use crate::store::StoreError;

/// Seconds after which a client may ask again where the store was away: it is usually back after a restart.
const RETRY_AFTER_S: &str = "5";

/// Why a request of the API is not done.
#[derive(Debug)]
pub enum Problem {
    /// A parameter, a part of the path or a body that cannot be understood, or that does not apply.
    BadRequest(String),
    /// No token that is known.
    Unauthorized,
    /// The token may not do this; what it would have to be allowed.
    Forbidden(Scope),
    /// There are no tokens, and this does not come from this machine.
    NotLocal,
    /// A browser sends it for a page of another site.
    ForeignOrigin,
    /// There is no such thing.
    NotFound(&'static str),
    /// There is such a path, but not for this method.
    MethodNotAllowed,
    /// It is there, but not so that this can be done: code and message.
    Conflict(&'static str, String),
    /// The body does not end in time.
    TooSlow,
    /// The body is larger than this many bytes.
    TooLarge(usize),
    /// The body is not declared to be JSON.
    NotJson,
    /// Too much of this is under way: code and message.
    Busy(&'static str, &'static str),
    /// The store cannot do it now.
    Store(StoreError),
    /// The store did not answer in time.
    StoreSlow,
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What an answer that is not 2xx holds.
#[derive(Serialize, ToSchema)]
pub struct ProblemJson {
    error: ErrorJson,
}

#[derive(Serialize, ToSchema)]
struct ErrorJson {
    /// For programs: stays as it is.
    #[schema(pattern = "^[a-z_]+$")]
    code: &'static str,
    /// For people.
    message: String,
}

impl Problem {
    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) | Self::NotLocal | Self::ForeignOrigin => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict(..) => StatusCode::CONFLICT,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotJson => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Busy(..) | Self::Store(_) | Self::StoreSlow => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "bad_request",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden(Scope::Write) => "read_only",
            Self::Forbidden(Scope::Read | Scope::Metrics) => "forbidden",
            Self::NotLocal => "not_local",
            Self::ForeignOrigin => "foreign_origin",
            Self::NotFound(_) => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Conflict(code, _) | Self::Busy(code, _) => code,
            Self::TooSlow => "too_slow",
            Self::TooLarge(_) => "too_large",
            Self::NotJson => "not_json",
            Self::Store(_) | Self::StoreSlow => "store",
        }
    }

    fn message(&self) -> String {
        let fixed = match self {
            Self::BadRequest(message) | Self::Conflict(_, message) => return message.clone(),
            Self::TooLarge(bytes_max) => return format!("a request's body is at most {bytes_max} bytes"),
            Self::Store(error) => return error.to_string(),
            Self::NotFound(message) | Self::Busy(_, message) => message,
            Self::Forbidden(Scope::Write) => "this token may only look; this takes one that can write",
            Self::Forbidden(Scope::Read | Scope::Metrics) => {
                "this token may not look; this takes one that can read"
            }
            Self::Unauthorized => "send Authorization: Bearer with an admin token",
            Self::NotLocal => "without admin.tokens only a loopback Host and no foreign Origin is answered",
            Self::ForeignOrigin => "a page of another site may not change anything here",
            Self::MethodNotAllowed => "this path does not take this method; `Allow` names those it takes",
            Self::TooSlow => "the body did not come in time, or broke off",
            Self::NotJson => "send Content-Type: application/json",
            Self::StoreSlow => "the store does not answer in time; whether anything was done is not known",
        };
        fixed.to_owned()
    }

    /// What the answer must say beside its body.
    fn header(&self) -> Option<(header::HeaderName, &'static str)> {
        match self {
            // RFC 9110, section 15.5.2: a 401 names the scheme.
            Self::Unauthorized => Some((header::WWW_AUTHENTICATE, "Bearer")),
            Self::Busy(..) | Self::Store(_) | Self::StoreSlow => Some((header::RETRY_AFTER, RETRY_AFTER_S)),
            Self::TooSlow | Self::TooLarge(_) => Some((header::CONNECTION, "close")), // the body is unread
            Self::BadRequest(_)
            | Self::Forbidden(_)
            | Self::NotLocal
            | Self::ForeignOrigin
            | Self::NotFound(_)
            | Self::MethodNotAllowed
            | Self::Conflict(..)
            | Self::NotJson => None,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let error = ErrorJson { code: self.code(), message: self.message() };
        let mut response = (self.status(), Json(ProblemJson { error })).into_response();
        if let Some((name, value)) = self.header() {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}
