//! `clerk-relay jobs`: what operators started and the relay does step by step.

use std::process::ExitCode;

use clap::Subcommand;
use reqwest::Method;
use tokio::signal::unix::{SignalKind, signal};

use super::client::Connect;
use super::facts::Job;
use super::list::{self, Row};
use super::output::{self, Column, Format, Kind, Output};
use super::progress::{self, Watched};
use super::{EXIT_INTERRUPTED, moment};
use crate::clock::{Clock, Timestamp};
use crate::config::Scope;

/// Arguments of `jobs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List jobs, the newest first
    #[command(after_help = "Example:\n  clerk-relay jobs list")]
    List(ListArgs),
    /// Show one job, and with --wait watch it until its end
    #[command(after_help = "Examples:\n  clerk-relay jobs show 12\n  clerk-relay jobs show 12 --wait")]
    Show(ShowArgs),
    /// Stop a job; what it did until then stays done
    #[command(after_help = "Example:\n  clerk-relay jobs cancel 12")]
    Cancel(OneArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// Watch it until its end
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    one: OneArgs,
}

#[derive(Debug, clap::Args)]
struct OneArgs {
    /// Its number
    #[arg(value_name = "JOB")]
    job: String,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

impl Row for Job {
    const COLUMNS: &'static [Column] = &[
        ("JOB", Kind::Whole),
        ("STATE", Kind::State),
        ("ACTION", Kind::Whole),
        ("DONE", Kind::Number),
        ("STARTED", Kind::Whole),
        ("BY", Kind::Whole),
        ("FILTER", Kind::Text),
    ];
    const NONE: &'static str = "no jobs";

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let dry = if self.dry_run { " (dry run)" } else { "" };
        vec![
            self.number(),
            self.state.clone(),
            format!("{}{dry}", self.action),
            self.total.map_or_else(|| self.moved.to_string(), |total| format!("{}/{total}", self.moved)),
            moment::relative(moment::of_api(&self.created_at), now),
            self.by.clone(),
            self.filter_text(),
        ]
    }
}

/// Runs the subcommand.
///
/// # Errors
/// Those of the API.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::List(ListArgs { output, connect }) => {
            let client = connect.client(Scope::Read)?;
            list::print_whole::<Job>(&client, &["jobs"], output.output).await
        }
        Command::Show(ShowArgs { wait, one }) => {
            let client = one.connect.client(Scope::Read)?;
            let mut answer: serde_json::Value = client.get(&["jobs", &one.job], &Vec::new()).await?;
            if wait {
                match progress::watch(&client, answer, &mut signal(SignalKind::interrupt())?).await? {
                    Watched::Ended(ended, _) => answer = ended,
                    Watched::Left(_) => return Ok(ExitCode::from(EXIT_INTERRUPTED)),
                }
            }
            print(answer, one.output.output)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Cancel(one) => {
            let client = one.connect.client(Scope::Write)?;
            let answer = client.ask(Method::DELETE, &["jobs", &one.job], &Vec::new(), None).await?;
            match (answer.is_null(), one.output.output) {
                (true, Format::Table) => output::line(format!("job {} is cancelled", one.job))?,
                (true, Format::Json) => {
                    output::json(&client.get(&["jobs", &one.job], &Vec::new()).await?)?;
                }
                (false, format) => print(answer, format)?,
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn print(answer: serde_json::Value, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => output::json(&answer),
        Format::Table => {
            let job: Job = serde_json::from_value(answer)?;
            let cells = job.cells(Clock::system().now());
            Ok(output::line(output::table(Job::COLUMNS, vec![cells]).trim_end())?)
        }
    }
}
