//! `clerk-relay events`: what came in, and the whole story of one event.

mod story;

use std::process::ExitCode;

use clap::Subcommand;

use super::client::{Client, Connect};
use super::facts::Event;
use super::list::{self, Row, Rows};
use super::output::{self, Column, Format, Kind, Output};
use super::selection::About;
use super::{facts, moment};
use crate::clock::{Clock, Timestamp};
use crate::config::Scope;

/// Arguments of `events`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what came in, the newest first
    #[command(after_help = "\
Examples:
  clerk-relay events list --subject user_29w83sxmDNGwOuEthce5gg56FcC
  clerk-relay events list --where jane@example.com --since 2d
  clerk-relay events list --type user.created --since 'yesterday 22:00' --until 06:00 --all -o json")]
    List(ListArgs),
    /// Tell what happened to one event: how it came, each attempt to each target, what comes next
    #[command(after_help = "\
Examples:
  clerk-relay events show evt_019ab4cd12ab00000001
  clerk-relay events show msg_2abc… --reveal")]
    Show(ShowArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    about: About,
    /// Only events whose payload says this: a value such as jane@example.com, or /POINTER=VALUE such as
    /// /data/email_addresses/*/email_address=jane@example.com. Looks through payloads: give --since as well
    #[arg(long = "where", value_name = "CONDITION", help_heading = "Which")]
    condition: Option<String>,
    #[command(flatten)]
    rows: Rows,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// Its id (evt_…), or the id that Clerk gave it (msg_…)
    #[arg(value_name = "EVENT")]
    event: String,
    /// Show the payload whole, with what is secret in it; needs a token that may write, and is recorded in the audit
    #[arg(long)]
    reveal: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

impl Row for Event {
    const COLUMNS: &'static [Column] = &[
        ("EVENT", Kind::Whole),
        ("ACCEPTED", Kind::Whole),
        ("TYPE", Kind::Whole),
        ("SUBJECT", Kind::Whole),
        ("SOURCE", Kind::Text),
    ];
    const NONE: &'static str = "no such events";

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            self.id.clone(),
            moment::relative(moment::of_api(&self.accepted_at), now),
            self.event_type.clone(),
            self.subject.clone().unwrap_or_default(),
            self.source.clone(),
        ]
    }
}

/// Runs the subcommand.
///
/// # Errors
/// Those of the API.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::List(args) => {
            let client = args.connect.client(Scope::Read)?;
            let mut query = args.about.query();
            query.extend(args.condition.map(|condition| ("where", condition)));
            list::print::<Event>(&client, &["events"], query, args.rows, args.output.output).await
        }
        Command::Show(args) => {
            let client = args.connect.client(if args.reveal { Scope::Write } else { Scope::Read })?;
            let query = if args.reveal { vec![("reveal", "true".to_owned())] } else { Vec::new() };
            let answer: serde_json::Value = client.get(&["events", &args.event], &query).await?;
            match args.output.output {
                Format::Json => output::json(&answer)?,
                Format::Table => {
                    let event: Event = serde_json::from_value(answer)?;
                    output::line(story::of_event(&event, Clock::system().now()).trim_end())?;
                }
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The event with this id or `svix-id`, for commands that go on from it.
///
/// # Errors
/// Those of the API.
pub async fn find(client: &Client, event: &str) -> anyhow::Result<Event> {
    Ok(client.get(&["events", event], &Vec::new()).await?)
}

/// The story of one delivery.
pub fn story_of(delivery: &facts::Delivery, event_id: &str, now: Timestamp) -> String {
    story::of_delivery(delivery, event_id, now)
}
