//! `clerk-relay targets`: how each target does, and the few things that can be done about one.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::bail;
use clap::Subcommand;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::bulk;
use super::client::{Client, Connect};
use super::list::Row;
use super::moment;
use super::output::{self, Column, FAINT, Format, Kind, Output, clean, style_of};
use crate::clock::{Clock, Timestamp};
use crate::config::Scope;

/// Arguments of `targets`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the targets with backlog, breaker and success
    #[command(after_help = "Example:\n  clerk-relay targets list")]
    List(Common),
    /// Show one target
    #[command(after_help = "Example:\n  clerk-relay targets show app")]
    Show(OneArgs),
    /// Deliver nothing to a target until it is resumed; its events are kept
    #[command(after_help = "Example:\n  clerk-relay targets pause app")]
    Pause(OneArgs),
    /// Deliver again to a paused target
    #[command(after_help = "Example:\n  clerk-relay targets resume app")]
    Resume(OneArgs),
    /// Deliver again at once to a target that was down, without waiting for a probe
    #[command(after_help = "Example:\n  clerk-relay targets close-breaker app")]
    CloseBreaker(OneArgs),
    /// Drop a target that has left the configuration, with everything that waits for it
    #[command(after_help = "\
Examples:
  clerk-relay targets forget old-app --dry-run
  clerk-relay targets forget old-app")]
    Forget(ForgetArgs),
}

#[derive(Debug, clap::Args)]
struct Common {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, clap::Args)]
struct OneArgs {
    /// Its name
    #[arg(value_name = "TARGET")]
    target: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct ForgetArgs {
    /// Only show what would be dropped
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do it without asking; needed where nobody can be asked
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    one: OneArgs,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Target {
    name: String,
    status: String,
    paused_by: Option<String>,
    queued: u64,
    in_flight: u64,
    waiting: u64,
    parked: u64,
    dead: u64,
    oldest_unfinished_at: Option<String>,
    breaker: Breaker,
    attempts: Option<u64>,
    success_rate: Option<f64>,
    latency_ms: Option<Latency>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Breaker {
    state: String,
    since: Option<String>,
    failed_probes: u32,
    next_probe_at: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Latency {
    mean: Option<f64>,
    p50: Option<f64>,
    p95: Option<f64>,
}

impl Target {
    fn backlog(&self) -> u64 {
        self.queued + self.in_flight + self.waiting + self.parked
    }

    fn success(&self) -> String {
        self.success_rate.map(|rate| format!("{:.1} %", rate * 100.0)).unwrap_or_default()
    }

    fn oldest(&self) -> Option<Timestamp> {
        self.oldest_unfinished_at.as_deref().and_then(moment::of_api)
    }
}

impl Row for Target {
    const COLUMNS: &'static [Column] = &[
        ("TARGET", Kind::Whole),
        ("STATUS", Kind::State),
        ("BREAKER", Kind::Whole),
        ("BACKLOG", Kind::Number),
        ("OLDEST", Kind::Whole),
        ("DEAD", Kind::Number),
        ("SUCCESS 1H", Kind::Number),
        ("P95 MS", Kind::Number),
    ];
    const NONE: &'static str = "no targets: events are kept, and delivered nowhere";

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let p95 = self.latency_ms.as_ref().and_then(|latency| latency.p95);
        vec![
            self.name.clone(),
            self.status.clone(),
            self.breaker.state.clone(),
            self.backlog().to_string(),
            moment::relative(self.oldest(), now),
            self.dead.to_string(),
            self.success(),
            p95.map(|ms| format!("{ms:.0}")).unwrap_or_default(),
        ]
    }
}

/// Runs the subcommand.
///
/// # Errors
/// Those of the API.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::List(common) => list(&common).await,
        Command::Show(one) => show(&one).await,
        Command::Pause(one) => {
            control(&one, "pause", "paused: its events are kept until it is resumed").await
        }
        Command::Resume(one) => control(&one, "resume", "resumed").await,
        Command::CloseBreaker(one) => control(&one, "close-breaker", "its breaker is closed").await,
        Command::Forget(args) => forget(&args).await,
    }
}

async fn list(args: &Common) -> anyhow::Result<ExitCode> {
    let client = args.connect.client(Scope::Read)?;
    let answer: Value = client.get(&["targets"], &Vec::new()).await?;
    match args.output.output {
        Format::Json => output::json(&answer)?,
        Format::Table => {
            let targets: Vec<Target> = serde_json::from_value(answer["targets"].clone())?;
            let now = Clock::system().now();
            if targets.is_empty() {
                anstream::eprintln!("{}", Target::NONE);
            } else {
                let rows = targets.iter().map(|target| target.cells(now)).collect();
                output::line(output::table(Target::COLUMNS, rows).trim_end())?;
            }
            output::line(format!("{FAINT}{}{FAINT:#}", store_line(&answer)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn store_line(overview: &Value) -> String {
    let bytes = |name: &str| output::size(overview[name].as_u64().unwrap_or_default());
    format!(
        "store: {} events, {} of {}, durability {}",
        overview["events"],
        bytes("store_bytes"),
        bytes("store_bytes_max"),
        overview["durability"].as_str().unwrap_or("unknown")
    )
}

/// The target of this name, out of the overview, which every version of the API has.
async fn find(client: &Client, name: &str) -> anyhow::Result<Value> {
    let overview: Value = client.get(&["targets"], &Vec::new()).await?;
    let targets = overview["targets"].as_array().cloned().unwrap_or_default();
    let names: Vec<&str> = targets.iter().filter_map(|target| target["name"].as_str()).collect();
    match targets.iter().find(|target| target["name"] == name) {
        Some(found) => Ok(found.clone()),
        None if names.is_empty() => bail!("there is no target `{name}`: there are none"),
        None => bail!("there is no target `{name}`; there is {}", names.join(", ")),
    }
}

async fn show(args: &OneArgs) -> anyhow::Result<ExitCode> {
    let client = args.common.connect.client(Scope::Read)?;
    let answer = find(&client, &args.target).await?;
    match args.common.output.output {
        Format::Json => output::json(&answer)?,
        Format::Table => {
            let target: Target = serde_json::from_value(answer)?;
            output::line(story(&target, Clock::system().now()).trim_end())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn story(target: &Target, now: Timestamp) -> String {
    let mut text = String::new();
    let relative = |time: &Option<String>| moment::relative(time.as_deref().and_then(moment::of_api), now);
    let style = style_of(&target.status);
    let by = target.paused_by.as_ref().map(|by| format!(" (by {})", clean(by))).unwrap_or_default();
    let _ = writeln!(text, "{}  {style}{}{by}{style:#}", target.name, target.status);
    let breaker = &target.breaker;
    let style = style_of(&breaker.state);
    let since = breaker.since.as_ref().map(|_| format!(", since {}", relative(&breaker.since)));
    let probe = breaker.next_probe_at.as_ref().map(|_| {
        format!(", {} failed probes, the next {}", breaker.failed_probes, relative(&breaker.next_probe_at))
    });
    let _ = writeln!(
        text,
        "  breaker    {style}{}{style:#}{}{}",
        breaker.state,
        since.unwrap_or_default(),
        probe.unwrap_or_default()
    );
    let _ = writeln!(
        text,
        "  backlog    {} (queued {}, in flight {}, waiting {}, parked {})",
        target.backlog(),
        target.queued,
        target.in_flight,
        target.waiting,
        target.parked
    );
    if target.oldest().is_some() {
        let _ = writeln!(text, "  oldest     accepted {}", relative(&target.oldest_unfinished_at));
    }
    let _ = writeln!(text, "  dead       {}", target.dead);
    if let Some(attempts) = target.attempts {
        let _ = writeln!(text, "  last hour  {attempts} attempts{}", last_hour(target));
    }
    text
}

fn last_hour(target: &Target) -> String {
    let mut text = String::new();
    if target.success_rate.is_some() {
        let _ = write!(text, ", {} delivered", target.success());
    }
    if let Some(latency) = &target.latency_ms {
        let ms = |value: Option<f64>| value.map_or_else(|| "?".to_owned(), |ms| format!("{ms:.0} ms"));
        let _ =
            write!(text, ", mean {}, median {}, p95 {}", ms(latency.mean), ms(latency.p50), ms(latency.p95));
    }
    text
}

async fn control(args: &OneArgs, action: &str, done: &str) -> anyhow::Result<ExitCode> {
    let client = args.common.connect.client(Scope::Write)?;
    client.ask(Method::POST, &["targets", &args.target, action], &Vec::new(), None).await?;
    told(args, done)
}

fn told(args: &OneArgs, done: &str) -> anyhow::Result<ExitCode> {
    match args.common.output.output {
        Format::Json => output::json(&json!({ "target": args.target, "done": true }))?,
        Format::Table => output::line(format!("{}: {done}", args.target))?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn forget(args: &ForgetArgs) -> anyhow::Result<ExitCode> {
    let client = args.one.common.connect.client(Scope::Write)?;
    let path = ["targets", args.one.target.as_str()];
    if !args.yes {
        let dry_run = vec![("dry_run", "true".to_owned())];
        let answer = client.ask(Method::DELETE, &path, &dry_run, None).await?;
        let what = format!(
            "forget {} with {} deliveries that are unfinished or dead",
            args.one.target,
            answer["cancels"].as_u64().unwrap_or_default()
        );
        if args.dry_run {
            match args.one.common.output.output {
                Format::Json => output::json(&answer)?,
                Format::Table => output::line(format!("would {what}"))?,
            }
            return Ok(ExitCode::SUCCESS);
        }
        let mut interrupt = signal(SignalKind::interrupt())?;
        if let Some(code) = bulk::confirm(&what, &mut interrupt).await? {
            return Ok(code);
        }
    }
    client.ask(Method::DELETE, &path, &Vec::new(), None).await?;
    told(&args.one, "forgotten")
}
