//! `clerk-relay listen`: forwards the real events of a deployed relay to an app on this machine, without a tunnel. Each
//! body is fetched as it was received and signed anew with a local secret, just as a delivery is. Only reads: no
//! delivery's state changes by it.
//!
//! The live stream is a doorbell only. Whenever it rings, and after every break, the list of events is read from the
//! last one that was forwarded, so that none is missed and none comes twice.

mod forward;

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;
use url::Url;

use super::client::{ApiError, Client, Connect, Query};
use super::facts::Event;
use super::given::{self, VARIABLE_SECRET};
use super::list::Pages;
use super::output::{FAINT, STRONG, clean};
use super::stream::{Heard, Live};
use crate::config::{Scope, TypeFilter, values};
use crate::delivery::send::headers::Sending;
use crate::event::EventId;
use crate::secret::SigningSecret;

use forward::Forwarder;

/// Without a stream, the list is read this often.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// With a stream, the list is read this often even if nothing rings: longer than connecting takes.
const LOOK_ANYWAY: Duration = Duration::from_secs(10);
/// With `--last`, at most so many.
const LAST_MAX: u64 = 500;

/// Arguments of `listen`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clerk-relay listen --url https://relay-admin.example.com --token-file ~/.relay-token \\
      --forward http://localhost:3000/api/webhooks/clerk
  clerk-relay listen --forward http://localhost:3000/api/webhooks/clerk --last 5 --type 'user.*'
The app must verify with the secret that is shown at the start, or that you give: --secret, or
CLERK_WEBHOOK_SIGNING_SECRET as in the app's own environment. The token must be one that may write: it
gets to see whole payloads, which the audit records. Ctrl-C ends it.")]
pub struct Args {
    /// The webhook route of the app
    #[arg(long, value_name = "URL", value_parser = values::url)]
    forward: Url,
    /// Sign with this secret, the one that the app has [default: CLERK_WEBHOOK_SIGNING_SECRET, else a new one]
    #[arg(long, value_name = "WHSEC")]
    secret: Option<String>,
    /// Begin with the newest so many events that are there already
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=LAST_MAX))]
    last: u64,
    /// End after the events of --last, without waiting for live ones
    #[arg(long, requires = "last")]
    once: bool,
    /// Only events of these types; `*` stands for a part of one, such as user.*
    #[arg(long = "type", value_name = "TYPES", value_delimiter = ',', value_parser = values::pattern, help_heading = "Which")]
    types: Vec<String>,
    /// Only events that came through this source
    #[arg(long, value_name = "NAME", help_heading = "Which")]
    source: Option<String>,
    #[command(flatten)]
    connect: Connect,
}

/// Forwards until Ctrl-C.
///
/// # Errors
/// Those of the API that trying again does not cure.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = args.connect.client(Scope::Write)?;
    let secret = secret(&args)?;
    let mut listener = Listener::new(&client, &args, Forwarder::new(args.forward.clone(), secret)?);
    tokio::select! {
        done = listener.run(&args) => done,
        _ = tokio::signal::ctrl_c() => Ok(ExitCode::SUCCESS),
    }
}

fn secret(args: &Args) -> anyhow::Result<SigningSecret> {
    if let Some(text) = &args.secret {
        return Ok(given::secret("--secret", text)?);
    }
    if let Some(text) = given::variable(VARIABLE_SECRET) {
        return Ok(given::secret(VARIABLE_SECRET, &text)?);
    }
    let secret = SigningSecret::from_key(&rand::random::<[u8; 24]>());
    anstream::eprintln!("signing with a new secret; start the app with it:");
    anstream::eprintln!("  {STRONG}{VARIABLE_SECRET}={}{STRONG:#}", secret.expose());
    Ok(secret)
}

/// What was forwarded so far.
struct Listener<'c> {
    client: &'c Client,
    query: Query,
    types: TypeFilter,
    forwarder: Forwarder,
    /// The newest event that was looked at; `None` until there is one.
    newest: Option<EventId>,
}

impl<'c> Listener<'c> {
    fn new(client: &'c Client, args: &Args, forwarder: Forwarder) -> Self {
        let query = args.source.iter().map(|source| ("source", source.clone())).collect();
        let types = if args.types.is_empty() { TypeFilter::All } else { values::filter(&args.types) };
        Self { client, query, types, forwarder, newest: None }
    }

    async fn run(&mut self, args: &Args) -> anyhow::Result<ExitCode> {
        // The doorbell is hung up before the first look, so that nothing falls between them.
        let mut query = self.query.clone();
        query.push(("name", "event.received".to_owned()));
        let mut live = Live::new(self.client, query);
        let mut bell = Bell::Hung;
        if !args.once {
            bell = self.ring(&mut live, bell).await?;
        }
        self.begin(args.last).await?;
        if args.once {
            return Ok(self.forwarder.verdict());
        }
        let to = self.forwarder.url();
        anstream::eprintln!(
            "{FAINT}-- forwarding what comes to {} on to {to}; Ctrl-C ends{FAINT:#}",
            self.client.base()
        );
        loop {
            bell = self.ring(&mut live, bell).await?;
            self.catch_up().await?;
        }
    }

    /// Waits for the doorbell, though not for long.
    async fn ring(&self, live: &mut Live<'_>, bell: Bell) -> anyhow::Result<Bell> {
        match bell {
            Bell::None => {
                tokio::time::sleep(LOOK_EVERY).await;
                Ok(Bell::None)
            }
            Bell::Hung => match tokio::time::timeout(LOOK_ANYWAY, live.next()).await {
                Err(_) | Ok(Ok(Heard::Open | Heard::News(_) | Heard::Missed(_))) => Ok(Bell::Hung),
                Ok(Ok(Heard::Broken { again_in, .. })) => {
                    let secs = again_in.as_secs_f64();
                    anstream::eprintln!("{FAINT}-- connection lost, again in {secs:.1} s{FAINT:#}");
                    Ok(Bell::Hung)
                }
                // Too many listen already, or an older relay: looking often does it as well.
                Ok(Err(ApiError::Away(_) | ApiError::NotFound(_))) => Ok(Bell::None),
                Ok(Err(error)) => Err(error.into()),
            },
        }
    }

    /// Forwards the newest `last` events that are there, and remembers where to go on.
    async fn begin(&mut self, last: u64) -> anyhow::Result<()> {
        let mut wanted = Vec::new();
        let mut pages = Pages::new(self.client, &["events"], self.query.clone(), u64::MAX);
        while let Some(page) = pages.next().await? {
            for (event, id) in read(page) {
                self.newest = self.newest.max(Some(id));
                if self.types.matches(&event.event_type) && (wanted.len() as u64) < last {
                    wanted.push((event, id));
                }
            }
            if wanted.len() as u64 >= last && self.newest.is_some() {
                break;
            }
        }
        self.send(wanted, Sending::Replay(1)).await
    }

    /// Forwards what came since the newest that was looked at, the oldest first.
    async fn catch_up(&mut self) -> anyhow::Result<()> {
        let mut found = Vec::new();
        let mut pages = Pages::new(self.client, &["events"], self.query.clone(), u64::MAX);
        'pages: loop {
            let page = match pages.next().await {
                Ok(Some(page)) => page,
                Ok(None) => break,
                // The relay restarts; the next ring looks again from the same place.
                Err(error) if is_passing(&error) => return Ok(()),
                Err(error) => return Err(error),
            };
            for (event, id) in read(page) {
                if Some(id) <= self.newest {
                    break 'pages;
                }
                found.push((event, id));
            }
        }
        let newest = found.first().map(|(_, id)| *id);
        found.retain(|(event, _)| self.types.matches(&event.event_type));
        self.send(found, Sending::Attempt(1)).await?;
        self.newest = self.newest.max(newest);
        Ok(())
    }

    /// Forwards these, given newest first.
    async fn send(&mut self, events: Vec<(Event, EventId)>, sending: Sending) -> anyhow::Result<()> {
        for (event, id) in events.into_iter().rev() {
            loop {
                match self.forwarder.forward(self.client, &event, id, sending).await {
                    Ok(()) => break,
                    Err(error) if is_passing(&error) => tokio::time::sleep(LOOK_EVERY).await,
                    Err(error) if is_gone(&error) => {
                        anstream::eprintln!(
                            "{FAINT}-- {}: {}{FAINT:#}",
                            event.id,
                            clean(&format!("{error:#}"))
                        );
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            self.newest = self.newest.max(Some(id));
        }
        Ok(())
    }
}

/// What tells that something came.
#[derive(Debug, Clone, Copy)]
enum Bell {
    /// The live stream.
    Hung,
    /// Nothing: only the clock.
    None,
}

/// The rows as events, without what is none.
fn read(page: Vec<Value>) -> Vec<(Event, EventId)> {
    let rows = page.into_iter().filter_map(|row| serde_json::from_value::<Event>(row).ok());
    rows.filter_map(|event| Some((event.id.parse().ok()?, event)).map(|(id, event)| (event, id))).collect()
}

fn is_passing(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<ApiError>(),
        Some(ApiError::Unreachable { .. } | ApiError::TimedOut { .. } | ApiError::Away(_))
    )
}

/// Erased or past its retention since the list was read.
fn is_gone(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<ApiError>(), Some(ApiError::NotFound(_) | ApiError::Conflict(_)))
}
