//! What a request asks for: its parameters, the parts of its path and its body, read so that nothing is ignored. Each
//! route takes what applies to it and refuses anything else by its name. In the folder beside it: which conditions the
//! lists and the jobs take.

pub mod body;
pub mod filter;
pub mod lists;

use std::fmt::Display;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::problem::Problem;
use crate::clock::Timestamp;
use crate::event::Subject;
use crate::store::query::{Cursor, PAGE_ROWS_MAX, Page};

/// Rows of a page when none are asked for.
const PAGE_ROWS: u32 = 50;

/// The query string as `T`, or a [`Problem`].
pub struct Params<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Query(params) =
            Query::try_from_uri(&parts.uri).map_err(|error| Problem::BadRequest(error.body_text()))?;
        Ok(Self(params))
    }
}

/// The named parts of the path as `T`, or a [`Problem`].
pub struct Named<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Named<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(named) = Path::from_request_parts(parts, state)
            .await
            .map_err(|error| Problem::BadRequest(error.body_text()))?;
        Ok(Self(named))
    }
}

/// Of what takes no parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// `text` as the value of `name`.
pub fn parsed<T: FromStr<Err: Display>>(name: &str, text: &str) -> Result<T, Problem> {
    text.parse().map_err(|error| Problem::BadRequest(format!("`{name}`: {error}")))
}

/// `text`, where there is one, as the value of `name`.
pub fn optional<T: FromStr<Err: Display>>(name: &str, text: Option<String>) -> Result<Option<T>, Problem> {
    text.map(|text| parsed(name, &text)).transpose()
}

fn page(limit: Option<u32>, cursor: Option<String>, fits: impl Fn(&Cursor) -> bool) -> Result<Page, Problem> {
    let rows = limit.unwrap_or(PAGE_ROWS);
    if !(1..=PAGE_ROWS_MAX).contains(&rows) {
        return Err(Problem::BadRequest(format!("`limit` is 1 to {PAGE_ROWS_MAX}")));
    }
    match optional("cursor", cursor)? {
        None => Ok(Page::first(rows)),
        Some(cursor) if fits(&cursor) => Ok(Page::after(rows, cursor)),
        Some(_) => Err(Problem::BadRequest("`cursor`: another list gave it".to_owned())),
    }
}

/// A condition that is empty would hold for nothing or, worse, be passed over.
pub fn not_empty(name: &str, text: Option<String>) -> Result<Option<String>, Problem> {
    match text {
        Some(text) if text.is_empty() => Err(Problem::BadRequest(format!("`{name}` is empty"))),
        text => Ok(text),
    }
}

/// The subject with this id, or e-mail address.
pub fn subject(text: Option<String>) -> Result<Option<Subject>, Problem> {
    Ok(not_empty("subject", text)?.as_deref().and_then(Subject::of))
}

/// RFC 3339 text with its offset. Without one it would mean another instant on another machine.
fn instant(name: &str, text: Option<String>) -> Result<Option<Timestamp>, Problem> {
    let time: Option<jiff::Timestamp> = optional(name, text)?;
    Ok(time.map(|time| Timestamp::from_ms(time.as_millisecond())))
}
