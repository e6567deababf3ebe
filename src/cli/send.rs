//! `clerk-relay send`: posts one signed sample, as Clerk would, and shows the answer.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use url::Url;

use super::given::{self, Misuse, VARIABLE_SECRET};
use super::{EXIT_FAILURE, sample};
use crate::clock::Clock;
use crate::config::{Config, Source};
use crate::secret::SigningSecret;

/// Svix gives up on an answer after this long, so a sample does too.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Arguments of `send`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The event type, such as user.created
    #[arg(value_name = "TYPE", required_unless_present = "list")]
    event_type: Option<String>,
    /// Send this file's content instead of the sample
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// Where to post it [default: the source of the configuration, on this machine]
    #[arg(long, value_name = "URL")]
    to: Option<Url>,
    /// Which source of the configuration to post to [default: the only one]
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// The secret to sign with [default: the source's first in the configuration, else CLERK_WEBHOOK_SIGNING_SECRET]
    #[arg(long, value_name = "WHSEC")]
    secret: Option<String>,
    /// Use this svix-id instead of a new one; sending one twice shows the dedupe
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// List the types there are samples of
    #[arg(long)]
    list: bool,
    /// The configuration file [default: CLERK_RELAY_CONFIG, CLERK_RELAY_YAML, else relay.yaml]
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
}

/// Sends one event; 0 where it was answered 2xx.
///
/// # Errors
/// [`Misuse`] where it is not known what to send, where to, or what to sign with; anything else where nothing answers.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.list {
        for event_type in sample::types() {
            anstream::println!("{event_type}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let body = body(&args)?;
    let (url, secret) = destination(&args)?;
    let now = Clock::system().now();
    let id = args.id.clone().unwrap_or_else(|| sample::new_id(now));
    let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?;
    let request = sample::request(&client, &url, &secret, &id, now, &body)?;
    let reply =
        request.send().await.with_context(|| format!("no answer from {url}: is the relay running there?"))?;
    let status = reply.status();
    anstream::println!("{id} → {url}");
    anstream::println!("{status} {}", reply.text().await.unwrap_or_default().trim());
    Ok(ExitCode::from(if status.is_success() { 0 } else { EXIT_FAILURE }))
}

fn body(args: &Args) -> anyhow::Result<String> {
    if let Some(path) = &args.body {
        return std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    }
    let event_type = args.event_type.as_deref().unwrap_or_default();
    let Some(body) = sample::body(event_type) else {
        let near = sample::types()
            .into_iter()
            .max_by(|a, b| strsim::jaro(event_type, a).total_cmp(&strsim::jaro(event_type, b)))
            .unwrap_or_default();
        return Err(Misuse::NoSample { wanted: event_type.to_owned(), near }.into());
    };
    Ok(body.to_owned())
}

/// Where to post and what to sign with: what was said on the command line, else what the configuration says, else the
/// variable's secret. The configuration is only read where something is left for it to say.
fn destination(args: &Args) -> anyhow::Result<(Url, SigningSecret)> {
    let given = args.secret.as_deref().map(|text| given::secret("--secret", text)).transpose()?;
    let Some(url) = &args.to else {
        let (config, _) = given::load(args.config.as_deref())?;
        let source = source(args, &config)?;
        let url = given::url_of(config.listen)?.join(&source.path)?;
        return Ok((url, signing_secret(given, Some(source))?));
    };
    let config = match (&given, &args.source) {
        (Some(_), None) => None,
        (None, None) => given::load_if_any(args.config.as_deref())?,
        (Some(_) | None, Some(_)) => Some(given::load(args.config.as_deref())?.0),
    };
    let source = config.as_ref().map(|config| source(args, config)).transpose()?;
    Ok((url.clone(), signing_secret(given, source)?))
}

fn signing_secret(given: Option<SigningSecret>, source: Option<&Source>) -> Result<SigningSecret, Misuse> {
    let configured = || source.and_then(|source| source.signing_secrets.first().cloned());
    match (given.or_else(configured), given::variable(VARIABLE_SECRET)) {
        (Some(secret), _) => Ok(secret),
        (None, Some(text)) => given::secret(VARIABLE_SECRET, &text),
        (None, None) => Err(Misuse::NoSecret),
    }
}

fn source<'c>(args: &Args, config: &'c Config) -> Result<&'c Source, Misuse> {
    match (&args.source, &config.sources[..]) {
        (None, [source]) => Ok(source),
        (None, sources) => Err(Misuse::WhichSource(sources.len())),
        (Some(name), sources) => sources
            .iter()
            .find(|source| source.name.as_str() == name)
            .map(AsRef::as_ref)
            .ok_or_else(|| Misuse::NoSource(name.clone())),
    }
}
