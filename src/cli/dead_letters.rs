//! `clerk-relay dead-letters`: the deliveries that were given up, by the same means as all others.

use std::process::ExitCode;

use clap::Subcommand;

use super::bulk::How;
use super::client::Connect;
use super::deliveries::Filter;
use super::deliveries::redrive::{self, DiscardArgs, One, RetryArgs};
use super::facts::Delivery;
use super::list::{self, Rows};
use super::output::Output;
use super::selection::About;
use crate::config::Scope;

/// Arguments of `dead-letters`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what was given up, and why
    #[command(after_help = "Example:\n  clerk-relay dead-letters list --target app --since 12h")]
    List(ListArgs),
    /// Try again: one dead letter, or as a job all that the options select
    #[command(after_help = "\
Examples:
  clerk-relay dead-letters retry evt_019ab4cd12ab00000001 app
  clerk-relay dead-letters retry --target app --since 12h --rate 50/s")]
    Retry(RedriveArgs),
    /// Drop one dead letter, or as a job all that the options select; they end cancelled
    #[command(after_help = "Example:\n  clerk-relay dead-letters discard --target old-app --dry-run")]
    Discard(RedriveArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Only those to this target
    #[arg(long, value_name = "NAME", help_heading = "Which")]
    target: Option<String>,
    #[command(flatten)]
    about: About,
    #[command(flatten)]
    rows: Rows,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, clap::Args)]
struct RedriveArgs {
    /// The event's id (evt_… or msg_…); without it, all dead letters that the options below select
    #[arg(
        value_name = "EVENT",
        conflicts_with_all = [
            "target", "event_type", "subject", "source", "since", "until", "rate", "dry_run", "detach"
        ]
    )]
    event: Option<String>,
    /// The target [default: the only one that the event went to]
    #[arg(value_name = "TARGET")]
    to: Option<String>,
    /// Only those to this target
    #[arg(long, value_name = "NAME", help_heading = "Which")]
    target: Option<String>,
    #[command(flatten)]
    about: About,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

impl RedriveArgs {
    /// The same, said as of deliveries.
    fn of_deliveries(self) -> DiscardArgs {
        let Self { event, to, target, about, how, output, connect } = self;
        let filter = Filter { target, state: vec!["dead".to_owned()], about };
        DiscardArgs { one: One { event, to }, filter, how, output, connect }
    }
}

/// Runs the subcommand.
///
/// # Errors
/// Those of the API.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::List(ListArgs { target, about, rows, output, connect }) => {
            let client = connect.client(Scope::Read)?;
            let mut query = about.query();
            query.extend(target.map(|target| ("target", target)));
            list::print::<Delivery>(&client, &["dead-letters"], query, rows, output.output).await
        }
        Command::Retry(args) => {
            let DiscardArgs { one, filter, how, output, connect } = args.of_deliveries();
            redrive::retry(RetryArgs { one, again: false, wait: false, filter, how, output, connect }).await
        }
        Command::Discard(args) => redrive::discard(args.of_deliveries()).await,
    }
}
