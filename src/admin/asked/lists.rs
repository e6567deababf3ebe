//! The conditions and the page that each list takes.

use serde::Deserialize;
use utoipa::IntoParams;

use super::{instant, not_empty, optional, page, parsed, subject};
use crate::admin::problem::Problem;
use crate::admin::views::StateWord;
use crate::lifecycle::State;
use crate::store::query::{Cursor, DeliveryQuery, EventQuery, Page};

/// Parameters of `GET events`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct EventParams {
    /// Rows of the page; 50 where it is left out.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// The `next` of the page before.
    #[param(pattern = "^evt_[0-9a-f]{20}$")]
    cursor: Option<String>,
    /// Of this type.
    #[serde(rename = "type")]
    #[param(min_length = 1)]
    event_type: Option<String>,
    /// About this user or organization: its id, or an e-mail address.
    #[param(min_length = 1)]
    subject: Option<String>,
    /// Through this source.
    #[param(pattern = "^[a-z0-9_-]{1,40}$")]
    source: Option<String>,
    /// Accepted at or after.
    #[param(format = DateTime)]
    since: Option<String>,
    /// Accepted before.
    #[param(format = DateTime)]
    until: Option<String>,
    /// With a payload in which some value equals this, or `/pointer=value` for the value at a JSON Pointer (a `*` stands
    /// for each element of an array). Looks at a bounded number of payloads, so that a page may be short or empty while
    /// `next` says that there is more.
    #[serde(rename = "where")]
    #[param(min_length = 1, max_length = 500, pattern = r"^(?:[^/][\s\S]*|/[^=]*=[\s\S]*)$")]
    payload: Option<String>,
}

impl EventParams {
    /// Which events, and which page of them.
    pub fn read(self) -> Result<(EventQuery, Page), Problem> {
        let page = page(self.limit, self.cursor, |cursor| matches!(cursor, Cursor::Event(_)))?;
        let query = EventQuery {
            event_type: not_empty("type", self.event_type)?,
            subject: subject(self.subject)?,
            source: optional("source", self.source)?,
            since: instant("since", self.since)?,
            until: instant("until", self.until)?,
            payload: optional("where", self.payload)?,
        };
        Ok((query, page))
    }
}

/// Parameters of `GET deliveries`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeliveryParams {
    /// Rows of the page; 50 where it is left out.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// The `next` of the page before.
    #[param(pattern = "^evt_[0-9a-f]{20}(~[a-z0-9_-]{1,40})?$")]
    cursor: Option<String>,
    /// To this target.
    #[param(pattern = "^[a-z0-9_-]{1,40}$")]
    target: Option<String>,
    /// In one of these states, with commas between them.
    #[param(style = Form, explode = false, value_type = Option<Vec<StateWord>>, min_items = 1)]
    state: Option<String>,
    /// Of this type.
    #[serde(rename = "type")]
    #[param(min_length = 1)]
    event_type: Option<String>,
    /// About this user or organization: its id, or an e-mail address.
    #[param(min_length = 1)]
    subject: Option<String>,
    /// Through this source.
    #[param(pattern = "^[a-z0-9_-]{1,40}$")]
    source: Option<String>,
    /// Of events accepted at or after.
    #[param(format = DateTime)]
    since: Option<String>,
    /// Of events accepted before.
    #[param(format = DateTime)]
    until: Option<String>,
}

impl DeliveryParams {
    /// Which deliveries, and which page of them.
    pub fn read(self) -> Result<(DeliveryQuery, Page), Problem> {
        let states = match &self.state {
            None => Vec::new(),
            Some(list) => list.split(',').map(|text| parsed("state", text)).collect::<Result<_, _>>()?,
        };
        let page = page(self.limit, self.cursor, |cursor| {
            matches!(cursor, Cursor::Event(_) | Cursor::Delivery(..))
        })?;
        let query = DeliveryQuery {
            target: optional("target", self.target)?,
            states,
            event_type: not_empty("type", self.event_type)?,
            subject: subject(self.subject)?,
            source: optional("source", self.source)?,
            since: instant("since", self.since)?,
            until: instant("until", self.until)?,
        };
        Ok((query, page))
    }
}

/// Parameters of `GET dead-letters`: those of deliveries without the state.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeadLetterParams {
    /// Rows of the page; 50 where it is left out.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// The `next` of the page before.
    #[param(pattern = "^evt_[0-9a-f]{20}(~[a-z0-9_-]{1,40})?$")]
    cursor: Option<String>,
    /// To this target.
    #[param(pattern = "^[a-z0-9_-]{1,40}$")]
    target: Option<String>,
    /// Of this type.
    #[serde(rename = "type")]
    #[param(min_length = 1)]
    event_type: Option<String>,
    /// About this user or organization: its id, or an e-mail address.
    #[param(min_length = 1)]
    subject: Option<String>,
    /// Through this source.
    #[param(pattern = "^[a-z0-9_-]{1,40}$")]
    source: Option<String>,
    /// Of events accepted at or after.
    #[param(format = DateTime)]
    since: Option<String>,
    /// Of events accepted before.
    #[param(format = DateTime)]
    until: Option<String>,
}

impl DeadLetterParams {
    /// Which dead letters, and which page of them.
    pub fn read(self) -> Result<(DeliveryQuery, Page), Problem> {
        let Self { limit, cursor, target, event_type, subject, source, since, until } = self;
        let state = Some(State::Dead.as_str().to_owned());
        DeliveryParams { limit, cursor, target, state, event_type, subject, source, since, until }.read()
    }
}

/// Parameters of `GET refusals` and `GET audit`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct NumberedParams {
    /// Rows of the page; 50 where it is left out.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
    /// The `next` of the page before.
    #[param(pattern = "^[0-9]{1,18}$")]
    cursor: Option<String>,
}

impl NumberedParams {
    /// Which page.
    pub fn read(self) -> Result<Page, Problem> {
        page(self.limit, self.cursor, |cursor| matches!(cursor, Cursor::Number(_)))
    }
}
