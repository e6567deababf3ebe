//! `clerk-relay deliveries`: what became of each event at each target, and another try or an end for one or for many.

pub mod redrive;

use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;

use super::client::Connect;
use super::facts::Delivery;
use super::given::Misuse;
use super::list::{self, Row, Rows};
use super::output::{self, Column, Format, Kind, Output};
use super::selection::About;
use super::{events, moment};
use crate::clock::{Clock, Timestamp};
use crate::config::Scope;

use redrive::{DiscardArgs, RetryArgs};

/// Arguments of `deliveries`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List deliveries, those of the newest events first
    #[command(after_help = "\
Examples:
  clerk-relay deliveries list --target app --state waiting,dead
  clerk-relay deliveries list --subject user_29w83sxmDNGwOuEthce5gg56FcC -o json")]
    List(ListArgs),
    /// Tell each attempt of one delivery, why it failed, and what comes next
    #[command(after_help = "Example:\n  clerk-relay deliveries show evt_019ab4cd12ab00000001 app")]
    Show(ShowArgs),
    /// Try again: one delivery, or as a job all that the options select
    #[command(after_help = "\
Examples:
  clerk-relay deliveries retry evt_019ab4cd12ab00000001 app --wait
  clerk-relay deliveries retry --target app --state dead --since 12h --rate 50/s
  clerk-relay deliveries retry --target app --state dead --since 12h --dry-run")]
    Retry(RetryArgs),
    /// Give up: one delivery, or as a job all that the options select; they end cancelled
    #[command(after_help = "\
Examples:
  clerk-relay deliveries discard evt_019ab4cd12ab00000001 app
  clerk-relay deliveries discard --target app --type session.created --state waiting,dead --dry-run")]
    Discard(DiscardArgs),
}

/// Which deliveries.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Filter {
    /// Only those to this target
    #[arg(long, value_name = "NAME", help_heading = "Which")]
    pub target: Option<String>,
    /// Only those in these states: queued, in_flight, waiting, parked, delivered, dead, skipped, cancelled
    #[arg(long, value_name = "STATES", value_delimiter = ',', help_heading = "Which")]
    pub state: Vec<String>,
    #[command(flatten)]
    pub about: About,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    rows: Rows,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// The event's id (evt_…), or the id that Clerk gave it (msg_…)
    #[arg(value_name = "EVENT")]
    event: String,
    /// The target [default: the only one that the event went to]
    #[arg(value_name = "TARGET")]
    target: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

impl Row for Delivery {
    const COLUMNS: &'static [Column] = &[
        ("EVENT", Kind::Whole),
        ("TARGET", Kind::Whole),
        ("STATE", Kind::State),
        ("TRIES", Kind::Number),
        ("LAST", Kind::Whole),
        ("CHANGED", Kind::Whole),
        ("NEXT", Kind::Whole),
        ("TYPE", Kind::Text),
        ("WHY", Kind::Text),
    ];
    const NONE: &'static str = "no such deliveries";

    fn cells(&self, now: Timestamp) -> Vec<String> {
        // `show` has the hint in words.
        let hint = self.last_hint.as_ref().map(|hint| hint.short().to_owned());
        let hint = hint.filter(|hint| self.reason.as_ref() != Some(hint));
        vec![
            self.event_id.clone(),
            self.target.clone(),
            self.state.clone(),
            self.attempts.to_string(),
            self.last(),
            moment::relative(moment::of_api(&self.updated_at), now),
            moment::relative(self.due().filter(|_| self.state == "waiting"), now),
            self.event_type.clone(),
            [self.reason.clone(), hint].into_iter().flatten().collect::<Vec<_>>().join("; "),
        ]
    }
}

/// Runs the subcommand.
///
/// # Errors
/// Those of the API.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::List(ListArgs { filter, rows, output, connect }) => {
            let client = connect.client(Scope::Read)?;
            let mut query = filter.about.query();
            query.extend(filter.target.map(|target| ("target", target)));
            if !filter.state.is_empty() {
                query.push(("state", filter.state.join(",")));
            }
            list::print::<Delivery>(&client, &["deliveries"], query, rows, output.output).await
        }
        Command::Show(args) => show(args).await,
        Command::Retry(args) => redrive::retry(args).await,
        Command::Discard(args) => redrive::discard(args).await,
    }
}

async fn show(args: ShowArgs) -> anyhow::Result<ExitCode> {
    let client = args.connect.client(Scope::Read)?;
    let answer: serde_json::Value = client.get(&["events", &args.event], &Vec::new()).await?;
    let event: super::facts::Event = serde_json::from_value(answer.clone())?;
    let index = one_of(&event.deliveries, args.target.as_deref())?;
    match args.output.output {
        Format::Json => output::json(&answer["deliveries"][index])?,
        Format::Table => {
            let story = events::story_of(&event.deliveries[index], &event.id, Clock::system().now());
            output::line(format!("{} {}", event.event_type, event.id))?;
            output::line(story.trim_end())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Which of an event's deliveries is meant: the one to `target`, or the only one.
///
/// # Errors
/// [`Misuse::WhichTarget`] where that could be several; anything else where there is none.
pub fn one_of(deliveries: &[Delivery], target: Option<&str>) -> anyhow::Result<usize> {
    let names: Vec<String> = deliveries.iter().map(|delivery| delivery.target.clone()).collect();
    match (target, deliveries.len()) {
        (_, 0) => bail!("this event has no delivery: no target wanted it, or there are none"),
        (None, 1) => Ok(0),
        (None, _) => Err(Misuse::WhichTarget(names).into()),
        (Some(name), _) => match names.iter().position(|one| one == name) {
            Some(index) => Ok(index),
            None => bail!("this event has no delivery to `{name}`; it has one to {}", names.join(", ")),
        },
    }
}
