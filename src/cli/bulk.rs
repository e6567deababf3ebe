//! What is done with many deliveries at once: counted first, asked about, started as a job of the relay, watched.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::process::ExitCode;

use reqwest::Method;
use serde_json::{Map, Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::client::Client;
use super::facts::Job;
use super::given::Misuse;
use super::output::{self, FAINT, Format, STRONG};
use super::progress::{self, Watched};
use super::{EXIT_FAILURE, EXIT_INTERRUPTED};
use crate::store::query::Mode;

/// How it is done.
#[derive(Debug, Clone, clap::Args)]
pub struct How {
    /// At most so many at a time, such as 50/s or 600/m [default: as fast as the store takes them]
    #[arg(long, value_name = "RATE", help_heading = "How")]
    pub rate: Option<String>,
    #[command(flatten)]
    pub sure: Sure,
}

/// Whether it is done.
#[derive(Debug, Clone, clap::Args)]
pub struct Sure {
    /// Only count what would be done
    #[arg(long, conflicts_with = "yes", help_heading = "How")]
    pub dry_run: bool,
    /// Do it without counting and asking first; needed where nobody can be asked
    #[arg(long, short, help_heading = "How")]
    pub yes: bool,
    /// Start it and do not wait for its end
    #[arg(long, conflicts_with = "dry_run", help_heading = "How")]
    pub detach: bool,
}

/// What a job is to do, in the words of the question and of the result.
#[derive(Debug, Clone, Copy)]
pub struct Words {
    /// Such as `retry`.
    pub verb: &'static str,
    /// Such as `retried`.
    pub done: &'static str,
    /// Of what.
    pub thing: &'static str,
    /// The same, in the plural.
    pub things: &'static str,
}

impl Words {
    /// So many of them.
    fn counted(&self, count: u64) -> String {
        format!("{count} {}", if count == 1 { self.thing } else { self.things })
    }
}

/// What is asked of the relay.
pub enum Order {
    /// A `POST` to this list of the API with this filter.
    Post(&'static str, Map<String, Value>),
    /// An erasure of this subject.
    Erase(String),
}

/// Counts, asks and does it, as far as it is wanted.
///
/// # Errors
/// Those of the API, and [`Misuse::Unconfirmed`].
pub async fn run(
    client: &Client, order: &Order, words: Words, how: &How, format: Format,
) -> anyhow::Result<ExitCode> {
    // From here on Ctrl-C is ours, so that it never falls between the start of a job and the watching of it.
    let mut interrupt = signal(SignalKind::interrupt())?;
    if !how.sure.yes {
        let answer = start(client, order, Mode::Count, None).await?;
        let (answer, job) = match progress::watch(client, answer, &mut interrupt).await? {
            Watched::Ended(answer, job) => (answer, job),
            Watched::Left(job) => return Ok(left(&job)),
        };
        let count = job.moved;
        if how.sure.dry_run {
            match format {
                Format::Json => output::json(&answer)?,
                Format::Table => output::line(format!("{} would be {}", words.counted(count), words.done))?,
            }
            return Ok(ended(&job));
        }
        if count == 0 {
            anstream::eprintln!("no {} to {}", words.things, words.verb);
            return Ok(ExitCode::SUCCESS);
        }
        let filter = output::clean(&job.filter_text());
        let question = format!("{} {} {FAINT}{filter}{FAINT:#}", words.verb, words.counted(count));
        if let Some(code) = confirm(&question, &mut interrupt).await? {
            return Ok(code);
        }
    }
    let answer = start(client, order, Mode::Apply, how.rate.as_deref()).await?;
    if how.sure.detach {
        let job: Job = serde_json::from_value(answer.clone())?;
        match format {
            Format::Json => output::json(&answer)?,
            Format::Table => {
                output::line(format!("job {0} is under way; {1}", job.number(), next_steps(&job)))?
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    match progress::watch(client, answer, &mut interrupt).await? {
        Watched::Left(job) => Ok(left(&job)),
        Watched::Ended(answer, job) => {
            match format {
                Format::Json => output::json(&answer)?,
                Format::Table => {
                    output::line(format!("{} {}{}", words.counted(job.moved), words.done, stopped(&job)))?
                }
            }
            Ok(ended(&job))
        }
    }
}

async fn start(client: &Client, order: &Order, mode: Mode, rate: Option<&str>) -> anyhow::Result<Value> {
    let is_dry = mode == Mode::Count;
    Ok(match order {
        Order::Post(list, filter) => {
            let body = json!({ "filter": filter, "dry_run": is_dry, "rate": rate });
            client.ask(Method::POST, &[list], &Vec::new(), Some(body)).await?
        }
        Order::Erase(subject) => {
            let query = if is_dry { vec![("dry_run", "true".to_owned())] } else { Vec::new() };
            client.ask(Method::DELETE, &["subjects", subject], &query, None).await?
        }
    })
}

/// Asks for a yes on the terminal; without one, the exit code to end with.
///
/// # Errors
/// [`Misuse::Unconfirmed`] where there is no terminal; anything else where it cannot be read.
pub async fn confirm(question: &str, interrupt: &mut Signal) -> anyhow::Result<Option<ExitCode>> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        anstream::eprintln!("{question}: not done");
        return Err(Misuse::Unconfirmed.into());
    }
    anstream::eprint!("{STRONG}{question}?{STRONG:#} [y/N] ");
    // The thread that reads ends with the process, which Ctrl-C does not wait for.
    let reading = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).map(|_| answer)
    });
    let code = tokio::select! {
        answer = reading => match answer??.trim().to_lowercase().as_str() {
            "y" | "yes" => return Ok(None),
            _ => EXIT_FAILURE,
        },
        _ = interrupt.recv() => EXIT_INTERRUPTED,
    };
    anstream::eprintln!("nothing was done");
    Ok(Some(ExitCode::from(code)))
}

fn left(job: &Job) -> ExitCode {
    anstream::eprintln!("\njob {} goes on in the relay; {}", job.number(), next_steps(job));
    ExitCode::from(EXIT_INTERRUPTED)
}

fn next_steps(job: &Job) -> String {
    format!("`clerk-relay jobs show {0}` looks at it, `clerk-relay jobs cancel {0}` stops it", job.number())
}

fn stopped(job: &Job) -> &'static str {
    if job.state == "cancelled" { ", then the job was cancelled" } else { "" }
}

fn ended(job: &Job) -> ExitCode {
    if job.state == "cancelled" { ExitCode::from(EXIT_FAILURE) } else { ExitCode::SUCCESS }
}
