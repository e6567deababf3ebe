//! `clerk-relay replay`: delivers a range of past events to one target again, or to a new one for the first time.

use std::process::ExitCode;

use super::bulk::{self, How, Order, Words};
use super::client::Connect;
use super::output::Output;
use super::selection::About;
use crate::clock::Timestamp;
use crate::config::Scope;

/// Arguments of `replay`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clerk-relay replay --target app --since 'yesterday 22:00' --until 06:00 --dry-run
  clerk-relay replay --target app --since 2026-11-24T03:00Z --type user.created --rate 50/s
Events that the target has already had are delivered again, with `Relay-Replay: true` and their old ids.")]
pub struct Args {
    /// To this target
    #[arg(long, value_name = "NAME", help_heading = "Which")]
    target: String,
    /// Events accepted since then: 2h (ago), `yesterday 22:00`, 2026-11-24T03:00Z
    #[arg(long, value_name = "TIME", value_parser = super::moment::parse, help_heading = "Which")]
    since: Timestamp,
    /// Only events accepted before then; written like --since
    #[arg(long, value_name = "TIME", value_parser = super::moment::parse, help_heading = "Which")]
    until: Option<Timestamp>,
    /// Only events of this type, such as user.created
    #[arg(long = "type", value_name = "TYPE", help_heading = "Which")]
    event_type: Option<String>,
    /// Only events about this user or organization
    #[arg(long, value_name = "ID", help_heading = "Which")]
    subject: Option<String>,
    /// Only events that came through this source
    #[arg(long, value_name = "NAME", help_heading = "Which")]
    source: Option<String>,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

/// Runs the subcommand.
///
/// # Errors
/// Those of the API.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { target, since, until, event_type, subject, source, how, output, connect } = args;
    let client = connect.client(Scope::Write)?;
    let mut filter = About { event_type, subject, source, since: Some(since), until }.filter();
    filter.insert("target".to_owned(), target.into());
    let words = Words { verb: "replay", done: "replayed", thing: "delivery", things: "deliveries" };
    bulk::run(&client, &Order::Post("replays", filter), words, &how, output.output).await
}
