//! `clerk-relay audit`: what operators did: writes, reveals and erasures, each with the name of the token.

use std::process::ExitCode;

use clap::Subcommand;
use serde::Deserialize;

use super::client::Connect;
use super::list::{self, Row, Rows};
use super::moment;
use super::output::{Column, Kind, Output};
use crate::clock::Timestamp;
use crate::config::Scope;

/// Arguments of `audit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List what operators did, the newest first
    #[command(after_help = "Example:\n  clerk-relay audit list --limit 20")]
    List(ListArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    rows: Rows,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Entry {
    at: String,
    actor: String,
    action: String,
    object: String,
    detail: String,
}

impl Row for Entry {
    const COLUMNS: &'static [Column] = &[
        ("WHEN", Kind::Whole),
        ("WHO", Kind::Whole),
        ("WHAT", Kind::Whole),
        ("UPON", Kind::Whole),
        ("DETAIL", Kind::Text),
    ];
    const NONE: &'static str = "nobody has done anything";

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            moment::relative(moment::of_api(&self.at), now),
            self.actor.clone(),
            self.action.clone(),
            self.object.clone(),
            self.detail.clone(),
        ]
    }
}

/// Runs the subcommand.
///
/// # Errors
/// Those of the API.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Command::List(ListArgs { rows, output, connect }) = args.command;
    let client = connect.client(Scope::Read)?;
    list::print::<Entry>(&client, &["audit"], Vec::new(), rows, output.output).await
}
