//! Why a request of the API is not done, and how it is told: always `{"error":{"code","message"}}`, whatever layer
//! found it. The code is for programs and stays; the message is for people.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::store::StoreError;

/// Why a request of the API is not done.
#[derive(Debug)]
pub enum Problem {
    /// A parameter or a part of the path that cannot be understood, or that does not apply.
    BadRequest(String),
    /// No token that is known.
    Unauthorized,
    /// The token may not do this.
    ReadOnly,
    /// There are no tokens, and this does not come from this machine.
    NotLocal,
    /// There is no such thing.
    NotFound(&'static str),
    /// There is such a path, but not for this method.
    MethodNotAllowed,
    /// It is there, but not so that this can be done.
    Conflict(String),
    /// Nobody more can listen.
    TooManyListeners,
    /// The store cannot do it now.
    Store(StoreError),
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let is_unauthorized = matches!(self, Self::Unauthorized);
        let (status, code, message) = match self {
            Self::BadRequest(message) => (StatusCode::BAD_REQUEST, "bad_request", message),
            Self::Unauthorized => (
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "send Authorization: Bearer with an admin token".to_owned(),
            ),
            Self::ReadOnly => (StatusCode::FORBIDDEN, "read_only", "this token may only look".to_owned()),
            Self::NotLocal => (
                StatusCode::FORBIDDEN,
                "not_local",
                "without admin.tokens only a loopback Host and no foreign Origin is answered".to_owned(),
            ),
            Self::NotFound(message) => (StatusCode::NOT_FOUND, "not_found", message.to_owned()),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "this path does not take this method; `Allow` names those it takes".to_owned(),
            ),
            Self::Conflict(message) => (StatusCode::CONFLICT, "conflict", message),
            Self::TooManyListeners => (
                StatusCode::SERVICE_UNAVAILABLE,
                "too_many_listeners",
                "as many listen as can: end another stream, or try again later".to_owned(),
            ),
            Self::Store(error) => (StatusCode::SERVICE_UNAVAILABLE, "store", error.to_string()),
        };
        let body = Json(json!({ "error": { "code": code, "message": message } }));
        let mut response = (status, body).into_response();
        if is_unauthorized {
            // RFC 9110, section 15.5.2: a 401 names the scheme.
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
