//! A request's body as JSON: bounded in bytes and time while it is read, declared as JSON, and with no field that is not
//! known.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize as _, Deserializer};
use serde_json::Value;
use tokio::time::Instant;

use crate::admin::problem::Problem;
use crate::http::body::{self, BodyError};

/// The largest body, in bytes; the largest that makes sense has a few hundred.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// A body must be whole within this; below the deadline of a whole request, so that the answer tells which it was.
const BODY_DEADLINE: Duration = Duration::from_secs(5);

/// A body that must be there.
pub struct Body<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = whole(body).await?;
        declared(&parts.headers)?;
        Ok(Self(json(&bytes)?))
    }
}

/// A body that may be left out (or be `null`).
pub struct BodyIfAny<T>(pub T);

impl<S: Sync, T: DeserializeOwned + Default> FromRequest<S> for BodyIfAny<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let bytes = whole(body).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        declared(&parts.headers)?;
        Ok(Self(json::<Option<T>>(&bytes)?.unwrap_or_default()))
    }
}

async fn whole(body: axum::body::Body) -> Result<Bytes, Problem> {
    body::read(body, BODY_BYTES_MAX, Instant::now() + BODY_DEADLINE).await.map_err(|error| match error {
        BodyError::TooLarge { bytes_max, .. } => Problem::TooLarge(bytes_max),
        BodyError::TooSlow { .. } | BodyError::Broken { .. } => Problem::TooSlow,
    })
}

fn declared(headers: &HeaderMap) -> Result<(), Problem> {
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") { Ok(()) } else { Err(Problem::NotJson) }
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let bad = |error: serde_json::Error| Problem::BadRequest(format!("the body: {error}"));
    let value: Value = serde_json::from_slice(bytes).map_err(bad)?;
    object(value).map_err(bad)
}

/// An object, or `null`, as `T`. Serde would also take an array for the fields of a struct in their order, and so an
/// empty one for a filter without conditions.
///
/// # Errors
/// Any other JSON, and fields that are not those of `T`.
pub fn object<'de, T: DeserializeOwned, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    match Value::deserialize(deserializer)? {
        value @ (Value::Object(_) | Value::Null) => T::deserialize(value).map_err(D::Error::custom),
        Value::Array(_) | Value::String(_) | Value::Number(_) | Value::Bool(_) => {
            Err(D::Error::custom("expected an object"))
        }
    }
}
