//! `clerk-relay run`: the life of the process. Configuration, logs, start, addresses, wait, stop, say how it went.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use super::{EXIT_FAILURE, given};
use crate::app::{self, Options, Stopped};
use crate::config::Config;
use crate::telemetry;

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file [default: CLERK_RELAY_CONFIG, CLERK_RELAY_YAML, else relay.yaml]
    #[arg(long, value_name = "PATH")]
    config: Option<PathBuf>,
}

/// Runs until a signal; the exit code is 0 where nothing was left behind.
///
/// # Errors
/// Where the relay cannot start.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (config, warnings) = given::load(args.config.as_deref())?;
    given::tell(&warnings);
    let log = telemetry::init(config.log.format, config.log.level).context("cannot set up the log")?;
    // Before the start, so that no signal is missed.
    let mut signals = Signals::new()?;
    let mut running = app::start(config.clone(), Options { log, ..Options::default() }).await?;
    announce(&config, &running);
    let flow_failed = tokio::select! {
        name = signals.next() => { info!(signal = name, "stopping"); false }
        () = running.failed() => true,
    };
    let stopped = tokio::select! {
        stopped = running.stop() => stopped,
        name = signals.next() => {
            error!(signal = name, "stopped at once by a second signal; what was under way is taken over at the next start");
            return Ok(ExitCode::from(EXIT_FAILURE));
        }
    };
    Ok(report(stopped, flow_failed))
}

fn announce(config: &Config, running: &app::Running) {
    for source in &config.sources {
        info!(source = %source.name, "listening on http://{}{}", running.ingress_addr, source.path);
    }
    info!("admin API on http://{}/api/v1", running.admin_addr);
    for target in &config.targets {
        info!(target = %target.name, host = target.url.host_str(), "delivering");
    }
    if config.targets.is_empty() {
        warn!("no targets: events are kept, nothing is delivered");
    }
    info!(version = env!("CARGO_PKG_VERSION"), configuration = config.fingerprint, "ready");
}

fn report(stopped: Stopped, flow_failed: bool) -> ExitCode {
    match stopped {
        Stopped::Gracefully => info!("stopped: everything under way was finished"),
        Stopped::Interrupted => {
            warn!("stopped: attempts under way were cut short and will be made again, uncounted")
        }
        Stopped::Abandoned => {
            error!("stopped: not everything could be settled; it is taken over at the next start")
        }
    }
    let failed = flow_failed || stopped == Stopped::Abandoned;
    ExitCode::from(if failed { EXIT_FAILURE } else { 0 })
}

/// The two signals that mean "stop".
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next of them and tells its name.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
