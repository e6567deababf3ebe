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
use crate::config::{self, StoreConfig, StoreUrl, values};
use crate::secret::SigningSecret;
use crate::store::sqlite::Memory;
use crate::telemetry;

/// The samples that are sent, in this order: a person signs up, joins an organization, starts a session.
const SAMPLES: [&str; 3] = ["user.created", "organizationMembership.created", "session.created"];
/// `--once` gives up when the samples are not delivered by then. Their retries start at 1 s.
const ONCE_MAX: Duration = Duration::from_secs(60);
/// Taken where they are free, so that the address is the same each time; else any free port.
const PORTS: [u16; 2] = [8080, 8081];
/// What the keys of a demonstration begin with in a Redis that others may use as well.
const REDIS_PREFIX: &str = "clerk-relay-dev";

/// Arguments of `dev`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Deliver to this app instead of the built-in receiver
    #[arg(long, value_name = "URL", value_parser = values::url)]
    forward: Option<Url>,
    /// Sign and verify with this secret, the one your app has [default: a new one]
    #[arg(long, value_name = "WHSEC")]
    secret: Option<String>,
    /// Keep events here, such as sqlite:dev.db or redis://localhost [default: a temporary folder]
    // Not parsed by clap, which would repeat a wrong one with its password.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
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
    let log = telemetry::init(None, if args.verbose { Level::INFO } else { Level::ERROR })
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
    let store = store_section(args.store.as_deref(), &folder.path().join("relay.db"))?;
    let text = configuration(&args, &secret, &forward, &store);
    let (config, _) = config::load(&text, "dev", &|_| None).map_err(Misuse::Arguments)?;
    let options = Options { memory: Memory::Allowed, clock: Clock::system(), log };
    let note = store_note(&config.store);
    let running = app::start(config, options).await?;
    introduce(&args, &running, &forward, &note);

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
fn configuration(args: &Args, secret: &SigningSecret, forward: &Url, store: &serde_json::Value) -> String {
    let [port, admin_port] = PORTS.map(free_port);
    let listen = args.listen.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port));
    // Whoever asks for any free port means both.
    let admin_port = if [0, admin_port].contains(&listen.port()) { 0 } else { admin_port };
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
        "store": store,
        "admin": { "listen": format!("127.0.0.1:{admin_port}") },
        "shutdown_grace": "5s",
    });
    config.to_string()
}

/// The section `store` of the demonstration: what `--store` says, else a file at `temporary`.
///
/// # Errors
/// [`Misuse::Store`].
fn store_section(given: Option<&str>, temporary: &Path) -> Result<serde_json::Value, Misuse> {
    let Some(url) = given else {
        return Ok(serde_json::json!({ "url": literal(&format!("sqlite:{}", temporary.display())) }));
    };
    Ok(match values::store_url(url).map_err(Misuse::Store)? {
        StoreUrl::Sqlite(_) => serde_json::json!({ "url": literal(url) }),
        // A demonstration takes any Redis as it is, and stays out of a real relay's keys.
        StoreUrl::Redis(_) => serde_json::json!({
            "url": literal(url),
            "durability": "relaxed",
            "prefix": REDIS_PREFIX,
        }),
    })
}

/// Where events are kept, for people; without user and password.
fn store_note(store: &StoreConfig) -> String {
    match &store.url {
        StoreUrl::Sqlite(path) => format!("sqlite:{}", path.display()),
        StoreUrl::Redis(url) => format!(
            "{url} (durability {}: a demonstration may lose events; its keys begin with {{{}}})",
            store.durability, store.prefix
        ),
    }
}

/// The text as a configuration must have it where it names no variables.
fn literal(text: &str) -> String {
    text.replace("${", "$${")
}

/// `wanted`, or 0 (any) where something listens there already.
fn free_port(wanted: u16) -> u16 {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)).map_or(0, |_| wanted)
}

fn introduce(args: &Args, running: &Running, forward: &Url, store_note: &str) {
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
    if args.store.is_some() {
        anstream::println!("  store      {store_note}");
    }
    anstream::println!("  target     {forward} ({note})\n");
}

/// Where to look next. A secret that was given is the app's own, and is not shown.
fn hint(args: &Args, running: &Running, secret: &SigningSecret, ingress: &Url) {
    let admin = running.admin_addr;
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("clerk-relay"));
    let secret = if args.secret.is_some() { "\"$YOUR_SECRET\"" } else { secret.expose() };
    anstream::println!("\nThe relay goes on running. In another terminal:");
    let program = program.display();
    anstream::println!("  export CLERK_RELAY_URL=http://{admin}");
    anstream::println!("  {program} events list            what came in");
    anstream::println!("  {program} deliveries list        what became of it");
    anstream::println!("  {program} tail                   what happens, live");
    anstream::println!("  {program} send user.updated --to {ingress} --secret {secret}");
    anstream::println!("Then `clerk-relay init` writes a relay.yaml for your own app. Ctrl-C ends.\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DurabilityWanted;

    fn store(given: Option<&str>) -> StoreConfig {
        let args =
            Args { forward: None, secret: None, store: None, listen: None, once: true, verbose: false };
        let forward = "http://localhost:1/".parse().unwrap();
        let section = store_section(given, Path::new("temporary.db")).unwrap();
        let text = configuration(&args, &SigningSecret::from_key(&[7; 24]), &forward, &section);
        config::load(&text, "dev", &|_| None).unwrap().0.store
    }

    #[test]
    fn a_demonstration_keeps_events_where_it_is_told_to() {
        assert_eq!(store(None).url, StoreUrl::Sqlite("temporary.db".into()));
        assert_eq!(store(Some("sqlite:${x}.db")).url, StoreUrl::Sqlite("${x}.db".into()));
    }

    #[test]
    fn a_demonstration_on_redis_is_relaxed_and_keeps_to_its_own_keys() {
        let store = store(Some("rediss://ann:a%2Fb${x}@cache:6380/3"));
        assert_eq!((store.durability, store.prefix.as_str()), (DurabilityWanted::Relaxed, REDIS_PREFIX));
        let note = store_note(&store);
        assert!(note.starts_with("rediss://cache:6380/3 (durability relaxed"), "{note}");
        let StoreUrl::Redis(url) = store.url else { panic!("a Redis") };
        assert_eq!(url.password.as_deref(), Some("a/b${x}"));
    }

    #[test]
    fn an_address_that_is_none_is_not_repeated() {
        let told = store_section(Some("redis://ann:hunter2"), Path::new("t")).unwrap_err().to_string();
        assert!(told.starts_with("--store has a port") && !told.contains("hunter2"), "{told}");
    }
}
