//! `clerk-relay refusals`: the requests that ingress did not accept, each with its likely cause.

use std::process::ExitCode;

use clap::Subcommand;
use serde::Deserialize;

use super::client::Connect;
use super::list::{self, Row, Rows};
use super::moment;
use super::output::{Column, Kind, Output};
use crate::clock::Timestamp;
use crate::config::Scope;

/// Arguments of `refusals`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List refused requests, the newest first
    #[command(after_help = "Example:\n  clerk-relay refusals list --limit 20")]
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
struct Refusal {
    at: String,
    source: Option<String>,
    status: u16,
    code: String,
    cause: String,
    remote: Option<String>,
}

impl Row for Refusal {
    const COLUMNS: &'static [Column] = &[
        ("WHEN", Kind::Whole),
        ("SOURCE", Kind::Whole),
        ("STATUS", Kind::Number),
        ("CODE", Kind::Whole),
        ("FROM", Kind::Whole),
        ("LIKELY CAUSE", Kind::Text),
    ];
    const NONE: &'static str = "no request was refused";

    fn cells(&self, now: Timestamp) -> Vec<String> {
        vec![
            moment::relative(moment::of_api(&self.at), now),
            self.source.clone().unwrap_or_default(),
            self.status.to_string(),
            self.code.clone(),
            self.remote.clone().unwrap_or_default(),
            self.cause.clone(),
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
    list::print::<Refusal>(&client, &["refusals"], Vec::new(), rows, output.output).await
}
