//! `clerk-relay dev`: everything in one, for seeing how the relay works before anything is set up. Makes a secret, a
//! temporary store and, unless `--forward` names an app, a receiver that fails each event's first attempt; starts a
//! real relay in this process; sends it signed samples as Clerk would; and tells what happens.

mod receiver;
mod story;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use tracing::Level;
use url::Url;

use super::given::{self, Misuse};
use super::{EXIT_FAILURE, sample};
use crate::app::{self, Options, Running};
use crate::clock::Clock;
use crate::config::{self, StoreUrl, values};
use crate::secret::SigningSecret;
use crate::store::sqlite::Memory;
use crate::telemetry;

/// The samples that are sent, in this order: a person signs up, joins an organization, starts a session.
const SAMPLES: [&str; 3] = ["user.created", "organizationMembership.created", "session.created"];
/// `--once` gives up when the samples are not delivered by then. Their retries start at 1 s.
const ONCE_MAX: Duration = Duration::from_secs(60);
/// Taken where they are free, so that the address is the same each time; else any free port.
const PORTS: [u16; 2] = [8080, 8081];

/// Arguments of `dev`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Deliver to this app instead of the built-in receiver
    #[arg(long, value_name = "URL", value_parser = values::url)]
    forward: Option<Url>,
    /// Sign and verify with this secret, the one your app has [default: a new one]
    #[arg(long, value_name = "WHSEC")]
    secret: Option<String>,
    /// Keep events here, such as sqlite:dev.db [default: a temporary folder]
    #[arg(long, value_name = "URL", value_parser = values::store_url)]
    store: Option<StoreUrl>,
    /// Take webhooks on this address [default: 127.0.0.1:8080, or a free port]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// End when the samples are delivered: 0 if they were, 1 if not
    #[arg(long)]
    once: bool,
    /// Also show the relay's own log
    #[arg(long, short)]
    verbose: bool,
}

/// Runs the demonstration until its end or a signal.
///
/// # Errors
/// [`Misuse`] where the arguments make no configuration; anything else where the relay, the receiver or the temporary
/// folder cannot be made.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    telemetry::init(None, if args.verbose { Level::INFO } else { Level::ERROR })
        .context("cannot set up the log")?;
    let mut signals = super::run::Signals::new()?;
    let secret = match &args.secret {
        Some(text) => given::secret("--secret", text)?,
        None => SigningSecret::from_key(&rand::random::<[u8; 24]>()),
    };
    let folder =
        tempfile::Builder::new().prefix("clerk-relay-dev-").tempdir().context("no temporary folder")?;
    // Held to the end: the receiver stops when it is dropped.
    let (forward, _receiver) = match &args.forward {
        Some(url) => (url.clone(), None),
        None => {
            let receiver = receiver::start(&secret).await.context("cannot start the receiver")?;
            (receiver.url.clone(), Some(receiver))
        }
    };
    let text = configuration(&args, &secret, &forward, &folder.path().join("relay.db"));
    let (config, _) = config::load(&text, "dev", &|_| None).map_err(Misuse::Arguments)?;
    let options = Options { memory: Memory::Allowed, clock: Clock::system() };
    let running = app::start(config, options).await?;
    introduce(&args, &running, &forward);

    let ended = tokio::select! {
        ended = play(&args, &running, &secret) => ended,
        name = signals.next() => {
            anstream::println!("\n{name}: stopping");
            Ok(if args.once { EXIT_FAILURE } else { 0 })
        }
    };
    tokio::select! {
        _ = running.stop() => {}
        _ = signals.next() => return Ok(ExitCode::from(EXIT_FAILURE)),
    }
    Ok(ExitCode::from(ended?))
}

/// Sends the samples and tells what becomes of them; with `--once` until they have ended, else for ever.
async fn play(args: &Args, running: &Running, secret: &SigningSecret) -> anyhow::Result<u8> {
    let ingress = given::url_of(running.ingress_addr)?.join("/webhooks/clerk")?;
    let clock = Clock::system();
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(15)).build()?;
    let mut sent = Vec::new();
    for event_type in SAMPLES {
        let now = clock.now();
        let id = sample::new_id(now);
        let body = sample::body(event_type).context("a sample of every type is built in")?;
        let reply = sample::request(&client, &ingress, secret, &id, now, body)?.send().await?;
        story::sent(event_type, &id, reply.status());
        sent.push(id);
    }
    let mut story = story::Story::new(running.store.clone());
    if !args.once {
        story.tell_until_all_ended(&sent).await?;
        hint(args, running, secret, &ingress);
        return story.tell_for_ever().await;
    }
    match tokio::time::timeout(ONCE_MAX, story.tell_until_all_ended(&sent)).await {
        Ok(all_delivered) => Ok(if all_delivered? { 0 } else { EXIT_FAILURE }),
        Err(_) => {
            anstream::println!("not delivered within {} s", ONCE_MAX.as_secs());
            Ok(EXIT_FAILURE)
        }
    }
}

/// The configuration of the demonstration, as a user would write it.
fn configuration(args: &Args, secret: &SigningSecret, forward: &Url, temporary: &Path) -> String {
    let [port, admin_port] = PORTS.map(free_port);
    let listen = args.listen.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    // Whoever asks for any free port means both.
    let admin_port = if [0, admin_port].contains(&listen.port()) { 0 } else { admin_port };
    let store = match &args.store {
        Some(StoreUrl::Sqlite(path)) => path,
        Some(StoreUrl::Redis(_)) | None => temporary,
    };
    // JSON is YAML, and quotes whatever a path or a URL may hold.
    let config = serde_json::json!({
        "listen": listen,
        "sources": { "clerk": { "signing_secrets": [secret.expose()] } },
        "targets": { "app": {
            "url": literal(forward.as_str()),
            "start": "beginning",
            "retry": { "initial": "1s", "multiplier": 2, "max": "30s" },
            "breaker": "off", // who tries out an app wants to see every attempt, failing ones above all
        } },
        "store": { "url": literal(&format!("sqlite:{}", store.display())) },
        "admin": { "listen": format!("127.0.0.1:{admin_port}") },
        "shutdown_grace": "5s",
    });
    config.to_string()
}

/// The text as a configuration must have it where it names no variables.
fn literal(text: &str) -> String {
    text.replace("${", "$${")
}

/// `wanted`, or 0 (any) where something listens there already.
fn free_port(wanted: u16) -> u16 {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)).map_or(0, |_| wanted)
}

fn introduce(args: &Args, running: &Running, forward: &Url) {
    anstream::println!(
        "clerk-relay {} — a relay on this machine, nothing to set up",
        env!("CARGO_PKG_VERSION")
    );
    anstream::println!("  webhooks   http://{}/webhooks/clerk", running.ingress_addr);
    anstream::println!("  admin API  http://{}/api/v1", running.admin_addr);
    let note = if args.forward.is_some() {
        "your app"
    } else {
        "built in; it fails the first attempt of each event"
    };
    anstream::println!("  target     {forward} ({note})\n");
}

/// Where to look next. A secret that was given is the app's own, and is not shown.
fn hint(args: &Args, running: &Running, secret: &SigningSecret, ingress: &Url) {
    let admin = running.admin_addr;
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("clerk-relay"));
    let secret = if args.secret.is_some() { "\"$YOUR_SECRET\"" } else { secret.expose() };
    anstream::println!("\nThe relay goes on running. In another terminal:");
    anstream::println!("  curl -s http://{admin}/api/v1/events          what came in");
    anstream::println!("  curl -s http://{admin}/api/v1/deliveries      what became of it");
    anstream::println!("  curl -s http://{admin}/api/v1/dead-letters    what was given up");
    anstream::println!("  {} send user.updated --to {ingress} --secret {secret}", program.display());
    anstream::println!("Then `clerk-relay init` writes a relay.yaml for your own app. Ctrl-C ends.\n");
}
