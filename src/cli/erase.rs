//! `clerk-relay erase`: removes what is kept of a user or an organization.

use std::process::ExitCode;

use super::bulk::{self, How, Order, Sure, Words};
use super::client::Connect;
use super::output::Output;
use crate::config::Scope;

/// Arguments of `erase`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clerk-relay erase user_29w83sxmDNGwOuEthce5gg56FcC --dry-run
  clerk-relay erase user_29w83sxmDNGwOuEthce5gg56FcC
Payloads, replies and refusals are erased for good; what was not delivered yet ends cancelled. That an erasure was
made stays in the audit.")]
pub struct Args {
    /// The user or organization, such as user_29w83sxmDNGwOuEthce5gg56FcC
    #[arg(value_name = "SUBJECT")]
    subject: String,
    #[command(flatten)]
    sure: Sure,
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
    let client = args.connect.client(Scope::Write)?;
    let words = Words { verb: "erase", done: "erased", thing: "event", things: "events" };
    let how = How { rate: None, sure: args.sure };
    bulk::run(&client, &Order::Erase(args.subject), words, &how, args.output.output).await
}
