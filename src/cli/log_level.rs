//! `clerk-relay log-level`: shows or changes how much a running relay logs, until it is started again.

use std::process::ExitCode;

use clap::ValueEnum as _;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::Connect;
use super::output::{self, Format, Output};
use crate::config::Scope;

/// Arguments of `log-level`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clerk-relay log-level
  clerk-relay log-level debug
The next start of the relay goes by `log.level` of its configuration again.")]
pub struct Args {
    /// The least severe level to log [default: only show the present one]
    #[arg(value_name = "LEVEL", value_enum)]
    level: Option<Level>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Runs the subcommand.
///
/// # Errors
/// Those of the API.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = args.connect.client(if args.level.is_some() { Scope::Write } else { Scope::Read })?;
    if let Some(level) = args.level.and_then(|level| level.to_possible_value()) {
        let body = json!({ "level": level.get_name() });
        client.ask(Method::PUT, &["log"], &Vec::new(), Some(body)).await?;
    }
    let answer: Value = client.get(&["log"], &Vec::new()).await?;
    match args.output.output {
        Format::Json => output::json(&answer)?,
        Format::Table => output::line(answer["level"].as_str().unwrap_or("unknown"))?,
    }
    Ok(ExitCode::SUCCESS)
}
