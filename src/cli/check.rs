//! `clerk-relay check`: reads the configuration and tells every mistake, or what it amounts to. With `--online` it
//! also tries the store and asks each target for its headers; nothing is delivered.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use super::given;
use crate::config::keys::show;
use crate::config::{Config, Scope, Source, StoreConfig, StoreUrl, Target, TypeFilter};

mod online;

/// Arguments of `check`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The configuration file [default: CLERK_RELAY_CONFIG, CLERK_RELAY_YAML, else relay.yaml].
    #[arg(long, value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Also try the store, and DNS, TLS and clock of each target.
    #[arg(long)]
    pub online: bool,
}

/// Reads the configuration and prints a summary, or its mistakes. Ends with 0, with 64 for mistakes, and with 1 where
/// something that is asked for by `--online` cannot be reached.
///
/// # Errors
/// Never for what is wrong with the configuration: that is printed.
pub async fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (config, warnings) = match given::load(args.config.as_deref()) {
        Ok(loaded) => loaded,
        Err(misuse) => return Ok(misuse.tell()),
    };
    given::tell(&warnings);
    anstream::print!("{}", summary(&config));
    if !args.online {
        return Ok(ExitCode::SUCCESS);
    }
    anstream::println!();
    Ok(match online::check(&config).await {
        online::Verdict::Reached => ExitCode::SUCCESS,
        online::Verdict::NotReached => ExitCode::FAILURE,
    })
}

/// What a configuration amounts to, for people. Holds no secret.
pub fn summary(config: &Config) -> String {
    let mut lines = format!("listens on {}\n", config.listen);
    for source in &config.sources {
        line(&mut lines, &format!("source {}", source.name), &source_facts(source));
    }
    for target in &config.targets {
        line(&mut lines, &format!("target {}", target.name), &target_facts(target));
    }
    if config.targets.is_empty() {
        line(&mut lines, "no targets", "events are verified and kept, and delivered nowhere");
    }
    line(&mut lines, "store", &store_facts(&config.store));
    line(&mut lines, "admin", &admin_facts(config));
    // Writing into a String cannot fail.
    let _ = writeln!(lines, "\nconfiguration {} is good", config.fingerprint);
    lines
}

fn line(lines: &mut String, what: &str, facts: &str) {
    let _ = writeln!(lines, "  {what:<16} {facts}");
}

fn source_facts(source: &Source) -> String {
    let secrets: Vec<String> = source.signing_secrets.iter().map(|secret| secret.id().to_string()).collect();
    let mut facts = format!("POST {}, secret {}", source.path, secrets.join(", "));
    if !source.allow_from.is_empty() {
        let networks: Vec<String> = source.allow_from.iter().map(ToString::to_string).collect();
        let _ = write!(facts, ", only from {}", networks.join(", "));
    }
    facts
}

fn target_facts(target: &Target) -> String {
    // The path and query of a URL may be a secret of the app's.
    let host = target.url.host_str().unwrap_or_default();
    let port = target.url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let types = match &target.events {
        TypeFilter::All => "all types".to_owned(),
        TypeFilter::Some(some) => match some.texts() {
            [_] => "1 pattern of types".to_owned(),
            texts => format!("{} patterns of types", texts.len()),
        },
    };
    let sources = match target.sources.as_slice() {
        [] => "all sources".to_owned(),
        names => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    format!("{}://{host}{port}, {types} from {sources}", target.url.scheme())
}

fn store_facts(store: &StoreConfig) -> String {
    let kept = [store.retention, store.dead_letter_retention].map(show);
    let kept = format!("events for {}, dead letters for {}", kept[0], kept[1]);
    match &store.url {
        StoreUrl::Sqlite(path) => format!("sqlite:{}, {kept}", path.display()),
        StoreUrl::Redis(url) => format!(
            "{url}, prefix {}, durability {}, wait_replicas {}, {kept}",
            store.prefix, store.durability, store.wait_replicas
        ),
    }
}

fn admin_facts(config: &Config) -> String {
    let tokens: Vec<String> = config
        .admin
        .tokens
        .iter()
        .map(|token| {
            let can = match token.can {
                Scope::Metrics => "metrics",
                Scope::Read => "read",
                Scope::Write => "write",
            };
            format!("{} ({can})", token.name)
        })
        .collect();
    let who = if tokens.is_empty() { "no tokens: this machine only".to_owned() } else { tokens.join(", ") };
    format!("{}, {who}", config.admin.listen)
}
