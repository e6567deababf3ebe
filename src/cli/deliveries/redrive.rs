//! `retry` and `discard`, of one delivery or of many; `deliveries` and `dead-letters` share them.

use std::process::ExitCode;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{Filter, one_of};
use crate::cli::bulk::{self, How, Order, Words};
use crate::cli::client::{Client, Connect};
use crate::cli::facts::Delivery;
use crate::cli::given::Misuse;
use crate::cli::output::{self, Format, Output};
use crate::cli::{EXIT_FAILURE, EXIT_INTERRUPTED, events};
use crate::clock::Clock;
use crate::config::Scope;

/// Between two looks at a delivery that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Which one delivery; without an event, many are meant.
#[derive(Debug, Clone, clap::Args)]
pub struct One {
    /// The event's id (evt_… or msg_…); without it, all deliveries that the options below select
    #[arg(
        value_name = "EVENT",
        conflicts_with_all = [
            "target", "state", "event_type", "subject", "source", "since", "until", "rate", "dry_run", "detach"
        ]
    )]
    pub event: Option<String>,
    /// The target [default: the only one that the event went to]
    #[arg(value_name = "TARGET")]
    pub to: Option<String>,
}

/// Arguments of `deliveries retry`.
#[derive(Debug, clap::Args)]
pub struct RetryArgs {
    #[command(flatten)]
    pub one: One,
    /// Deliver one again that was delivered, skipped or cancelled
    #[arg(long, requires = "event")]
    pub again: bool,
    /// Wait for the next attempt and tell what came of it: exit 0 if delivered, else 1
    #[arg(long, requires = "event")]
    pub wait: bool,
    #[command(flatten)]
    pub filter: Filter,
    #[command(flatten)]
    pub how: How,
    #[command(flatten)]
    pub output: Output,
    #[command(flatten)]
    pub connect: Connect,
}

/// Arguments of `deliveries discard`.
#[derive(Debug, clap::Args)]
pub struct DiscardArgs {
    #[command(flatten)]
    pub one: One,
    #[command(flatten)]
    pub filter: Filter,
    #[command(flatten)]
    pub how: How,
    #[command(flatten)]
    pub output: Output,
    #[command(flatten)]
    pub connect: Connect,
}

/// What is done.
#[derive(Debug, Clone, Copy)]
enum Action {
    /// Try again.
    Retry,
    /// Give up.
    Discard,
}

impl Action {
    fn words(self) -> Words {
        match self {
            Self::Retry => Words { verb: "retry", done: "retried", thing: "delivery", things: "deliveries" },
            Self::Discard => {
                Words { verb: "discard", done: "discarded", thing: "delivery", things: "deliveries" }
            }
        }
    }

    fn list(self) -> &'static str {
        match self {
            Self::Retry => "retries",
            Self::Discard => "discards",
        }
    }
}

/// Runs `deliveries retry`.
///
/// # Errors
/// Those of the API, and [`Misuse`].
pub async fn retry(args: RetryArgs) -> anyhow::Result<ExitCode> {
    let client = args.connect.client(Scope::Write)?;
    let Some(event) = &args.one.event else {
        return many(&client, Action::Retry, &args.filter, &args.how, args.output.output).await;
    };
    let mut body = Map::new();
    if args.again {
        body.insert("again".to_owned(), true.into());
    }
    let before = one(&client, Action::Retry, event, args.one.to.as_deref(), body, args.output.output).await?;
    if args.wait { wait(&client, &before).await } else { Ok(ExitCode::SUCCESS) }
}

/// Runs `deliveries discard`.
///
/// # Errors
/// Those of the API, and [`Misuse`].
pub async fn discard(args: DiscardArgs) -> anyhow::Result<ExitCode> {
    let client = args.connect.client(Scope::Write)?;
    let format = args.output.output;
    match &args.one.event {
        None => many(&client, Action::Discard, &args.filter, &args.how, format).await,
        Some(event) => {
            one(&client, Action::Discard, event, args.one.to.as_deref(), Map::new(), format).await?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn many(
    client: &Client, action: Action, filter: &Filter, how: &How, format: Format,
) -> anyhow::Result<ExitCode> {
    let mut selected = filter.about.filter();
    if let Some(target) = &filter.target {
        selected.insert("target".to_owned(), target.clone().into());
    }
    if !filter.state.is_empty() {
        selected.insert("states".to_owned(), filter.state.clone().into());
    }
    if selected.is_empty() {
        return Err(Misuse::NothingSelected.into());
    }
    bulk::run(client, &Order::Post(action.list(), selected), action.words(), how, format).await
}

/// Does it to one delivery; returns the delivery as it was before.
async fn one(
    client: &Client, action: Action, event: &str, target: Option<&str>, mut body: Map<String, Value>,
    format: Format,
) -> anyhow::Result<Delivery> {
    let found = events::find(client, event).await?;
    let before = found.deliveries[one_of(&found.deliveries, target)?].clone();
    let verb = match action {
        Action::Retry => {
            // What was looked at: where somebody else was quicker, it is not done twice.
            body.insert("seen".to_owned(), before.updated_at.clone().into());
            "retry"
        }
        Action::Discard => "discard",
    };
    let body = (!body.is_empty()).then_some(Value::Object(body));
    let path = ["deliveries", &found.id, &before.target, verb];
    let answer = client.ask(Method::POST, &path, &Vec::new(), body).await?;
    match format {
        Format::Json => output::json(&if answer.is_null() {
            json!({ "event_id": found.id, "target": before.target, action.words().done: true })
        } else {
            answer
        })?,
        Format::Table => {
            let next = match action {
                Action::Retry => format!(
                    ": the next attempt comes now; `clerk-relay deliveries show {} {}` tells of it",
                    found.id, before.target
                ),
                Action::Discard => String::new(),
            };
            output::line(format!("{} to {}: {}{next}", found.id, before.target, action.words().done))?;
        }
    }
    Ok(before)
}

/// Waits for the attempt after those that `before` had, and tells it.
async fn wait(client: &Client, before: &Delivery) -> anyhow::Result<ExitCode> {
    loop {
        let event = events::find(client, &before.event_id).await?;
        let now = &event.deliveries[one_of(&event.deliveries, Some(&before.target))?];
        let has_tried = now.attempts > before.attempts && now.state != "in_flight";
        let has_ended = ["cancelled", "skipped"].contains(&now.state.as_str());
        if has_tried || has_ended {
            let mut newest = now.clone();
            newest.attempts_kept.retain(|attempt| attempt.number > before.attempts);
            newest.attempts = newest.attempts_kept.len() as u32; // the earlier ones are not what was asked
            anstream::eprint!("{}", events::story_of(&newest, &event.id, Clock::system().now()));
            let is_delivered = now.state == "delivered";
            return Ok(ExitCode::from(if is_delivered { 0 } else { EXIT_FAILURE }));
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::from(EXIT_INTERRUPTED)),
        }
    }
}
