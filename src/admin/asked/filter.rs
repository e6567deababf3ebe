//! What a job is asked to do: which deliveries, whether only to count them, and how fast.

use std::num::NonZeroU32;

use serde::Deserialize;
use utoipa::ToSchema;

use super::body::object;
use super::{instant, not_empty, optional, subject};
use crate::admin::problem::Problem;
use crate::admin::views::StateWord;
use crate::lifecycle::State;
use crate::store::query::{DeliveryQuery, Mode};

/// Body of `POST retries` and `POST discards`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JobBody {
    #[serde(deserialize_with = "object")]
    filter: Filter,
    /// Only count.
    #[serde(default)]
    dry_run: bool,
    /// Deliveries a second (`50/s`) or a minute (`600/m`, at least 60, rounded down to whole ones a second). Without
    /// it: as fast as the store takes them.
    #[serde(default)]
    #[schema(pattern = "^([1-9][0-9]{0,5}/s|([6-9][0-9]|[1-9][0-9]{2,6})/m)$")]
    rate: Option<String>,
}

/// Which deliveries. Every condition that is given must hold.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    /// To this target.
    #[schema(pattern = "^[a-z0-9_-]{1,40}$")]
    target: Option<String>,
    /// In one of these states; without it, in every state that the job can change.
    #[schema(value_type = Vec<StateWord>, required = false)]
    states: Vec<State>,
    /// Of this type.
    #[serde(rename = "type")]
    #[schema(min_length = 1)]
    event_type: Option<String>,
    /// About this user or organization: its id, or an e-mail address.
    #[schema(min_length = 1)]
    subject: Option<String>,
    /// Through this source.
    #[schema(pattern = "^[a-z0-9_-]{1,40}$")]
    source: Option<String>,
    /// Of events accepted at or after.
    #[schema(format = DateTime)]
    since: Option<String>,
    /// Of events accepted before.
    #[schema(format = DateTime)]
    until: Option<String>,
}

/// Body of `POST replays`: the target and the beginning must be said, because everything of everybody is never meant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayBody {
    #[serde(deserialize_with = "object")]
    filter: ReplayFilter,
    /// Only count.
    #[serde(default)]
    dry_run: bool,
    /// Deliveries a second (`50/s`) or a minute (`600/m`, at least 60, rounded down to whole ones a second). Without
    /// it: as fast as the store takes them.
    #[serde(default)]
    #[schema(pattern = "^([1-9][0-9]{0,5}/s|([6-9][0-9]|[1-9][0-9]{2,6})/m)$")]
    rate: Option<String>,
}

/// Which events to deliver again, and to which target. Every condition that is given must hold.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayFilter {
    /// To this target.
    #[schema(pattern = "^[a-z0-9_-]{1,40}$")]
    target: String,
    /// In one of these states; without it, in every ended state.
    #[serde(default)]
    #[schema(value_type = Vec<StateWord>, required = false)]
    states: Vec<State>,
    /// Of this type.
    #[serde(default, rename = "type")]
    #[schema(min_length = 1)]
    event_type: Option<String>,
    /// About this user or organization: its id, or an e-mail address.
    #[serde(default)]
    #[schema(min_length = 1)]
    subject: Option<String>,
    /// Through this source.
    #[serde(default)]
    #[schema(pattern = "^[a-z0-9_-]{1,40}$")]
    source: Option<String>,
    /// Of events accepted at or after.
    #[schema(format = DateTime)]
    since: String,
    /// Of events accepted before.
    #[serde(default)]
    #[schema(format = DateTime)]
    until: Option<String>,
}

/// What a job is asked to do, checked.
#[derive(Debug)]
pub struct Wish {
    /// With which deliveries.
    pub query: DeliveryQuery,
    /// Whether to change anything.
    pub mode: Mode,
    /// How fast.
    pub per_second: Option<NonZeroU32>,
}

impl JobBody {
    /// What is wished for.
    pub fn read(self) -> Result<Wish, Problem> {
        let per_second = self.rate.as_deref().map(rate).transpose()?;
        let mode = if self.dry_run { Mode::Count } else { Mode::Apply };
        Ok(Wish { query: self.filter.read()?, mode, per_second })
    }
}

impl ReplayBody {
    /// What is wished for.
    pub fn read(self) -> Result<Wish, Problem> {
        let ReplayFilter { target, states, event_type, subject, source, since, until } = self.filter;
        let (target, since) = (Some(target), Some(since));
        let filter = Filter { target, states, event_type, subject, source, since, until };
        JobBody { filter, dry_run: self.dry_run, rate: self.rate }.read()
    }
}

impl Filter {
    fn read(self) -> Result<DeliveryQuery, Problem> {
        Ok(DeliveryQuery {
            target: optional("target", self.target)?,
            states: self.states,
            event_type: not_empty("type", self.event_type)?,
            subject: subject(self.subject)?,
            source: optional("source", self.source)?,
            since: instant("since", self.since)?,
            until: instant("until", self.until)?,
        })
    }
}

/// `N/s` or `N/m` as whole deliveries a second.
fn rate(text: &str) -> Result<NonZeroU32, Problem> {
    let bad = || Problem::BadRequest("`rate`: such as 50/s, or 600/m (60/m or more)".to_owned());
    let (count, per) = text.split_once('/').ok_or_else(bad)?;
    let is_plain = count.len() <= 7 && count.bytes().all(|byte| byte.is_ascii_digit());
    let count: u32 = count.parse().ok().filter(|_| is_plain).ok_or_else(bad)?;
    let per_second = match per {
        "s" => count,
        "m" => count / 60,
        _ => return Err(bad()),
    };
    NonZeroU32::new(per_second).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_whole_deliveries_a_second() {
        for (text, per_second) in [("50/s", 50), ("600/m", 10), ("119/m", 1), ("60/m", 1)] {
            assert_eq!(rate(text).unwrap().get(), per_second, "{text}");
        }
        for text in ["", "50", "0/s", "59/m", "+5/s", "5/h", "5/ s", "1.5/s", "99999999/s"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
