//! `clerk-relay tail`: what happens, live, one line each. Says where it missed something, and connects again by itself.

use std::process::ExitCode;

use anstyle::Style;
use serde_json::json;

use super::client::Connect;
use super::moment;
use super::output::{self, BAD, FAINT, Format, GOOD, Output, SLOW, clean};
use super::stream::{Heard, Live};
use crate::clock::{Clock, Timestamp};
use crate::config::Scope;
use crate::telemetry::feed::News;

/// Arguments of `tail`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clerk-relay tail
  clerk-relay tail --target app --name delivery.attempted
  clerk-relay tail --subject user_29w83sxmDNGwOuEthce5gg56FcC -o json | jq .status
Ctrl-C ends it.")]
pub struct Args {
    /// Only what concerns this source
    #[arg(long, value_name = "NAME", help_heading = "Which")]
    source: Option<String>,
    /// Only what concerns this target
    #[arg(long, value_name = "NAME", help_heading = "Which")]
    target: Option<String>,
    /// Only events of this type, such as user.created
    #[arg(long = "type", value_name = "TYPE", help_heading = "Which")]
    event_type: Option<String>,
    /// Only events about this user or organization
    #[arg(long, value_name = "ID", help_heading = "Which")]
    subject: Option<String>,
    /// Only news of this name, such as event.received, event.refused or delivery.attempted
    #[arg(long, value_name = "NAME", help_heading = "Which")]
    name: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

/// Shows what happens until Ctrl-C.
///
/// # Errors
/// Those of the API that trying again does not cure.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = args.connect.client(Scope::Read)?;
    let query = [
        ("source", args.source),
        ("target", args.target),
        ("type", args.event_type),
        ("subject", args.subject),
        ("name", args.name),
    ];
    let query = query.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let mut live = Live::new(&client, query);
    let mut lost_at: Option<Timestamp> = None;
    loop {
        let heard = tokio::select! {
            heard = live.next() => heard?,
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
        };
        let now = Clock::system().now();
        match heard {
            Heard::Open => match lost_at.take() {
                None => note(&format!("listening to {}; Ctrl-C ends", client.base())),
                Some(since) => note(&format!(
                    "connected again; what happened since {} was missed: `clerk-relay events list --since {since}`",
                    moment::of_day(since)
                )),
            },
            Heard::News(news) => match args.output.output {
                Format::Json => output::line(serde_json::to_string(&news)?)?,
                Format::Table => output::line(told(&news))?,
            },
            Heard::Missed(missed) => {
                note(&format!("too slow: {missed} missed"));
                if args.output.output == Format::Json {
                    output::line(json!({ "name": "missed", "missed": missed }).to_string())?;
                }
            }
            Heard::Broken { again_in, why } => {
                lost_at.get_or_insert(now);
                let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
                note(&format!("connection lost{why}, again in {:.1} s", again_in.as_secs_f64()));
            }
        }
    }
}

/// What is about the listening itself goes to standard error, so that it does not get into what is piped on.
fn note(text: &str) {
    anstream::eprintln!("{FAINT}-- {}{FAINT:#}", clean(text));
}

/// One piece of news as a line: time, name, and the fields that it has.
fn told(news: &News) -> String {
    let mut line = format!("{FAINT}{}{FAINT:#} ", moment::of_day(Timestamp::from_ms(news.at_ms)));
    let style = style(news);
    line.push_str(&format!("{style}{:<20}{style:#}", clean(&news.name)));
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            line.push_str(&format!(" {FAINT}{name}={FAINT:#}{}", clean(&value)));
        }
    };
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    let ms = |ms: Option<u64>| ms.map(|ms| format!("{ms}ms"));
    add("type", news.event_type.clone());
    add("subject", news.subject.clone());
    add("source", news.source.clone());
    add("target", news.target.clone());
    add("attempt", number(news.attempt.map(u64::from)));
    add("status", number(news.status.map(u64::from)));
    add("error", news.error.clone());
    add("state", news.state.clone());
    add("reason", news.reason.clone());
    add("took", ms(news.took_ms));
    add("next", ms(news.delay_ms));
    add("event", news.event_id.clone());
    add("svix_id", if news.event_id.is_some() { None } else { news.svix_id.clone() });
    line
}

fn style(news: &News) -> Style {
    match (&news.error, news.state.as_deref(), news.name.as_str()) {
        (_, Some("dead"), _) | (_, _, "event.refused") => BAD,
        (Some(_), _, _) => SLOW,
        (None, Some("delivered"), _) => GOOD,
        (None, _, _) => Style::new(),
    }
}
