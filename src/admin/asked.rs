//! What a request asks for: its parameters and the parts of its path, read so that nothing is ignored. Each list has
//! the parameters that apply to it and refuses any other by its name.

use std::fmt::Display;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::problem::Problem;
use crate::clock::Timestamp;
use crate::event::Subject;
use crate::lifecycle::State;
use crate::store::query::{Cursor, DeliveryQuery, EventQuery, Page};

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

/// Parameters of `GET events`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventParams {
    limit: Option<u32>,
    cursor: Option<String>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    subject: Option<String>,
    source: Option<String>,
    since: Option<String>,
    until: Option<String>,
}

impl EventParams {
    /// Which events, and which page of them.
    pub fn read(self) -> Result<(EventQuery, Page), Problem> {
        let page = page(self.limit, self.cursor, |cursor| matches!(cursor, Cursor::Event(_)))?;
        let query = EventQuery {
            event_type: event_type(self.event_type)?,
            subject: subject(self.subject)?,
            source: optional("source", self.source)?,
            since: instant("since", self.since)?,
            until: instant("until", self.until)?,
            payload: None,
        };
        Ok((query, page))
    }
}

/// Parameters of `GET deliveries`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeliveryParams {
    limit: Option<u32>,
    cursor: Option<String>,
    target: Option<String>,
    state: Option<String>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    subject: Option<String>,
    since: Option<String>,
    until: Option<String>,
}

impl DeliveryParams {
    /// Which deliveries, and which page of them.
    pub fn read(self) -> Result<(DeliveryQuery, Page), Problem> {
        let states = match &self.state {
            None => Vec::new(),
            Some(list) => list.split(',').map(|text| parsed("state", text)).collect::<Result<_, _>>()?,
        };
        let page = page(self.limit, self.cursor, |cursor| matches!(cursor, Cursor::Delivery(..)))?;
        let query = DeliveryQuery {
            target: optional("target", self.target)?,
            states,
            event_type: event_type(self.event_type)?,
            subject: subject(self.subject)?,
            since: instant("since", self.since)?,
            until: instant("until", self.until)?,
            source: None,
        };
        Ok((query, page))
    }
}

/// Parameters of `GET dead-letters`: those of deliveries without the state.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeadLetterParams {
    limit: Option<u32>,
    cursor: Option<String>,
    target: Option<String>,
    #[serde(rename = "type")]
    event_type: Option<String>,
    subject: Option<String>,
    since: Option<String>,
    until: Option<String>,
}

impl DeadLetterParams {
    /// Which dead letters, and which page of them.
    pub fn read(self) -> Result<(DeliveryQuery, Page), Problem> {
        let Self { limit, cursor, target, event_type, subject, since, until } = self;
        let state = Some(State::Dead.as_str().to_owned());
        DeliveryParams { limit, cursor, target, state, event_type, subject, since, until }.read()
    }
}

/// Parameters of `GET refusals`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefusalParams {
    limit: Option<u32>,
    cursor: Option<String>,
}

impl RefusalParams {
    /// Which page.
    pub fn read(self) -> Result<Page, Problem> {
        page(self.limit, self.cursor, |cursor| matches!(cursor, Cursor::Number(_)))
    }
}

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

fn event_type(text: Option<String>) -> Result<Option<String>, Problem> {
    not_empty("type", text)
}

/// The subject with this id, or e-mail address.
pub fn subject(text: Option<String>) -> Result<Option<Subject>, Problem> {
    Ok(not_empty("subject", text)?.as_deref().and_then(Subject::of))
}

fn instant(name: &str, text: Option<String>) -> Result<Option<Timestamp>, Problem> {
    let time: Option<jiff::Timestamp> = optional(name, text)?;
    Ok(time.map(|time| Timestamp::from_ms(time.as_millisecond())))
}
