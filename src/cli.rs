//! The command line: one file per subcommand, each a function from its arguments to an exit code. Here: which there
//! are, and what every one of them has in common.

// What commands share.
pub mod given;
pub mod output;
pub mod moment;
pub mod client;
pub mod selection;
pub mod facts;
pub mod list;
pub mod progress;
pub mod bulk;
pub mod stream;
pub mod sample;

// On the relay's own machine, or for setting it up.
pub mod check;
pub mod completions;
pub mod dev;
pub mod health;
pub mod init;
pub mod run;
pub mod schema;
pub mod send;

// For operators, over the admin API.
pub mod audit;
pub mod dead_letters;
pub mod deliveries;
pub mod erase;
pub mod events;
pub mod jobs;
pub mod listen;
pub mod log_level;
pub mod refusals;
pub mod replay;
pub mod tail;
pub mod targets;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The configuration or the command line is wrong; the number is BSD's EX_USAGE.
pub const EXIT_USAGE: u8 = 64;
/// Anything else went wrong, or the answer is no.
pub const EXIT_FAILURE: u8 = 1;
/// The relay that was to be asked cannot be reached, or cannot answer now; BSD's EX_UNAVAILABLE.
pub const EXIT_UNAVAILABLE: u8 = 69;
/// The relay does not let this token do this; BSD's EX_NOPERM.
pub const EXIT_NOT_ALLOWED: u8 = 77;
/// Ctrl-C ended it before it was done; what shells say for SIGINT.
pub const EXIT_INTERRUPTED: u8 = 130;

/// Verifies, keeps and redelivers Clerk webhooks.
#[derive(Debug, Parser)]
#[command(name = "clerk-relay", version, max_term_width = 100, propagate_version = true)]
#[command(arg_required_else_help = true)]
#[command(
    after_help = "First steps: `clerk-relay dev` shows everything in one, `clerk-relay init` writes a relay.yaml.\n\
                  Commands from `events` on ask a running relay: by --url and --token, by CLERK_RELAY_URL and\n\
                  CLERK_RELAY_TOKEN, or by the relay.yaml on its own machine."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the relay by its configuration
    Run(run::Args),
    /// Show the whole way of an event on this machine: no configuration, no Clerk, no app needed
    Dev(dev::Args),
    /// Write a commented relay.yaml to start from
    Init(init::Args),
    /// Check the configuration, and with --online also the store and every target
    Check(check::Args),
    /// Send a signed sample of any Clerk event type
    Send(send::Args),
    /// Print the JSON Schema of relay.yaml, for editors
    Schema,
    /// Print the completion script of a shell
    Completions(completions::Args),
    /// Ask a running relay whether it is ready; exits 0 if so
    Health(health::Args),
    /// What came in: list events, or tell the whole story of one
    Events(events::Args),
    /// What became of events at the targets: list, show, retry, discard
    Deliveries(deliveries::Args),
    /// What was given up: list, retry, discard
    DeadLetters(dead_letters::Args),
    /// Deliver a range of past events to a target again
    Replay(replay::Args),
    /// How the targets do: list, show, pause, resume, close-breaker, forget
    Targets(targets::Args),
    /// Requests that were not accepted, and why
    Refusals(refusals::Args),
    /// What retries, replays, discards and erasures are under way: list, show, cancel
    Jobs(jobs::Args),
    /// What operators did
    Audit(audit::Args),
    /// Erase what is kept of a user or organization
    Erase(erase::Args),
    /// Show or change how much a running relay logs
    LogLevel(log_level::Args),
    /// Show live what happens
    Tail(tail::Args),
    /// Forward real events of a deployed relay to an app on this machine, without a tunnel
    Listen(listen::Args),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print(); // nowhere left to complain to
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 });
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            anstream::eprintln!("error: cannot start the runtime: {error}");
            return ExitCode::from(EXIT_FAILURE);
        }
    };
    let result = runtime.block_on(run_command(cli.command));
    // A blocking read of the store may still run; nothing depends on its end.
    runtime.shutdown_background();
    result.unwrap_or_else(|error| tell(&error))
}

async fn run_command(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => run::run(args).await,
        Command::Dev(args) => dev::run(args).await,
        Command::Init(args) => init::run(&args),
        Command::Check(args) => check::run(&args).await,
        Command::Send(args) => send::run(args).await,
        Command::Schema => schema::run(),
        Command::Completions(args) => completions::run(&args),
        Command::Health(args) => health::run(args).await,
        Command::Events(args) => events::run(args).await,
        Command::Deliveries(args) => deliveries::run(args).await,
        Command::DeadLetters(args) => dead_letters::run(args).await,
        Command::Replay(args) => replay::run(args).await,
        Command::Targets(args) => targets::run(args).await,
        Command::Refusals(args) => refusals::run(args).await,
        Command::Jobs(args) => jobs::run(args).await,
        Command::Audit(args) => audit::run(args).await,
        Command::Erase(args) => erase::run(args).await,
        Command::LogLevel(args) => log_level::run(args).await,
        Command::Tail(args) => tail::run(args).await,
        Command::Listen(args) => listen::run(args).await,
    }
}

/// Prints an error to standard error; the exit code that it stands for.
fn tell(error: &anyhow::Error) -> ExitCode {
    if let Some(misuse) = error.downcast_ref::<given::Misuse>() {
        return misuse.tell();
    }
    if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        return ExitCode::SUCCESS; // whoever read our output, such as `head`, has had enough
    }
    // What a relay or another server said goes to a terminal.
    anstream::eprintln!("error: {}", output::clean(&format!("{error:#}")));
    let Some(error) = error.downcast_ref::<client::ApiError>() else { return ExitCode::from(EXIT_FAILURE) };
    if let Some(advice) = error.advice() {
        anstream::eprintln!("  {advice}");
    }
    ExitCode::from(error.exit_code())
}
