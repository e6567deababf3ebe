//! `clerk-relay health`: asks a running relay whether it is ready. Made for a container's health check, so it is quick,
//! quiet, and tells by its exit code. Where the admin API is at hand it also says why.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::client::Connect;
use super::given::{self, Misuse, VARIABLE_URL};
use super::output::{self, Format, Output, clean, style_of};
use super::{EXIT_FAILURE, moment};
use crate::clock::Clock;
use crate::config::Scope;

/// Longer than any answer of a relay that is well.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Details are a help: whoever only wants the exit code does not wait for them longer than this.
const DETAILS_TIMEOUT: Duration = Duration::from_secs(2);
/// Where a relay listens when nothing else is known.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Arguments of `health`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clerk-relay health
  clerk-relay health --url http://relay.internal:8081 --token-file /run/secrets/relay-token
--url may be the address of webhooks or of the admin API (by default `listen` of the configuration, or
CLERK_RELAY_URL). With the admin API's, and its token, the answer has details.")]
pub struct Args {
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    version: String,
    fingerprint: String,
    started_at: String,
    state: String,
    reasons: Vec<Reason>,
    durability: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reason {
    message: String,
}

/// Asks once; 0 where the relay is ready.
///
/// # Errors
/// [`Misuse`] where the address is none; anything else where the relay cannot be reached.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let url =
        base(&args.connect)?.join("health/ready").map_err(|why| Misuse::Address { from: "--url", why })?;
    let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?;
    let reply = client.get(url.clone()).send().await.with_context(|| format!("no answer from {url}"))?;
    let is_ready = reply.status().is_success();
    let state = clean(reply.text().await.unwrap_or_default().trim());
    let details = tokio::time::timeout(DETAILS_TIMEOUT, details(&args.connect)).await.ok().flatten();
    match (args.output.output, details) {
        (Format::Json, Some(details)) => output::json(&details)?,
        (Format::Json, None) => output::json(&json!({ "ready": is_ready, "state": state }))?,
        (Format::Table, Some(details)) => output::line(story(serde_json::from_value(details)?).trim_end())?,
        (Format::Table, None) => output::line(state)?,
    }
    Ok(ExitCode::from(if is_ready { 0 } else { EXIT_FAILURE }))
}

/// The address that tells whether the relay is ready, as a folder.
fn base(connect: &Connect) -> Result<Url, Misuse> {
    let named = |from, text: &str| text.trim().parse().map_err(|why| Misuse::Address { from, why });
    let mut url: Url = match (&connect.url, given::variable(VARIABLE_URL)) {
        (Some(text), _) => named("--url", text)?,
        (None, Some(text)) => named(VARIABLE_URL, &text)?,
        // A configuration that cannot be read says nothing about the relay that runs.
        (None, None) => {
            let config = given::load(connect.config.as_deref());
            let listen = config.map_or(DEFAULT_LISTEN, |(config, _)| config.listen);
            given::url_of(listen).map_err(|why| Misuse::Address { from: "listen", why })?
        }
    };
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

/// What the admin API says, where it does.
async fn details(connect: &Connect) -> Option<Value> {
    let client = connect.client(Scope::Read).ok()?;
    client.get(&["health"], &Vec::new()).await.ok()
}

fn story(details: Details) -> String {
    let now = Clock::system().now();
    let style = style_of(&details.state);
    let started = moment::of_api(&details.started_at);
    let mut text = format!(
        "{style}{}{style:#}  version {}, started {}, durability {}, configuration {}\n",
        clean(&details.state),
        clean(&details.version),
        moment::relative(started, now),
        clean(details.durability.as_deref().unwrap_or("unknown")),
        clean(&details.fingerprint)
    );
    for reason in &details.reasons {
        text.push_str(&format!("  {}\n", clean(&reason.message)));
    }
    text
}
