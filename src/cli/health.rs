//! `clerk-relay health`: asks a running relay whether it is ready. Made for a container's health check, so it is quick,
//! quiet, and tells by its exit code.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use url::Url;

use super::EXIT_FAILURE;
use super::given::{self, Misuse, VARIABLE_URL};

/// Longer than any answer of a relay that is well.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Where a relay listens when nothing else is known.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// Arguments of `health`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The relay's address, of webhooks or admin [default: CLERK_RELAY_URL, else `listen` of the configuration]
    #[arg(long)]
    url: Option<Url>,
    /// The configuration file [default: CLERK_RELAY_CONFIG, CLERK_RELAY_YAML, else relay.yaml]
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
}

/// Asks once; 0 where the relay is ready.
///
/// # Errors
/// [`Misuse`] where the address is none; anything else where the relay cannot be reached.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let base = match (args.url, given::variable(VARIABLE_URL)) {
        (Some(url), _) => url,
        (None, Some(text)) => text.parse().map_err(|why| Misuse::Address { from: VARIABLE_URL, why })?,
        // A configuration that cannot be read says nothing about the relay that runs.
        (None, None) => {
            let listen =
                given::load(args.config.as_deref()).map_or(DEFAULT_LISTEN, |(config, _)| config.listen);
            given::url_of(listen)?
        }
    };
    let url = base.join("/health/ready").map_err(|why| Misuse::Address { from: "--url", why })?;
    let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?;
    let reply = client.get(url.clone()).send().await.with_context(|| format!("no answer from {url}"))?;
    let status = reply.status();
    anstream::println!("{}", reply.text().await.unwrap_or_default().trim());
    Ok(ExitCode::from(if status.is_success() { 0 } else { EXIT_FAILURE }))
}
