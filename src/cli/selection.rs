//! Which events or deliveries a command is about, as options, and as the API wants to be told.

use serde_json::{Map, Value};

use super::client::Query;
use super::moment;
use crate::clock::Timestamp;

/// What an event must be like.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct About {
    /// Only events of this type, such as user.created
    #[arg(long = "type", value_name = "TYPE", help_heading = "Which")]
    pub event_type: Option<String>,
    /// Only events about this user or organization, such as user_29w83sxmDNGwOuEthce5gg56FcC
    #[arg(long, value_name = "ID", help_heading = "Which")]
    pub subject: Option<String>,
    /// Only events that came through this source
    #[arg(long, value_name = "NAME", help_heading = "Which")]
    pub source: Option<String>,
    /// Only events accepted since then: 2h (ago), `yesterday 22:00`, 2026-11-24T03:00Z
    #[arg(long, value_name = "TIME", value_parser = moment::parse, help_heading = "Which")]
    pub since: Option<Timestamp>,
    /// Only events accepted before then; written like --since
    #[arg(long, value_name = "TIME", value_parser = moment::parse, help_heading = "Which")]
    pub until: Option<Timestamp>,
}

impl About {
    fn pairs(&self) -> impl Iterator<Item = (&'static str, String)> {
        let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
        [
            ("type", self.event_type.clone()),
            ("subject", self.subject.clone()),
            ("source", self.source.clone()),
            ("since", time(self.since)),
            ("until", time(self.until)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }

    /// As parameters of a list.
    pub fn query(&self) -> Query {
        self.pairs().collect()
    }

    /// As the filter of a job.
    pub fn filter(&self) -> Map<String, Value> {
        self.pairs().map(|(name, value)| (name.to_owned(), value.into())).collect()
    }
}
