//! The command line: one file per subcommand, each a function from its arguments to an exit code. Here: which there
//! are, and what every one of them has in common.

pub mod check;
pub mod dev;
pub mod given;
pub mod health;
pub mod init;
pub mod run;
pub mod sample;
pub mod schema;
pub mod send;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The configuration or the command line is wrong; the number is BSD's EX_USAGE.
pub const EXIT_USAGE: u8 = 64;
/// Anything else went wrong.
pub const EXIT_FAILURE: u8 = 1;

/// Verifies, keeps and redelivers Clerk webhooks.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, propagate_version = true, arg_required_else_help = true)]
#[command(
    after_help = "First steps: `clerk-relay dev` shows everything in one, `clerk-relay init` writes a relay.yaml."
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
    /// Ask a running relay whether it is ready; exits 0 if so
    Health(health::Args),
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
    let result = runtime.block_on(async {
        match cli.command {
            Command::Run(args) => run::run(args).await,
            Command::Dev(args) => dev::run(args).await,
            Command::Init(args) => init::run(&args),
            Command::Check(args) => check::run(&args).await,
            Command::Send(args) => send::run(args).await,
            Command::Schema => schema::run(),
            Command::Health(args) => health::run(args).await,
        }
    });
    // A blocking read of the store may still run; nothing depends on its end.
    runtime.shutdown_background();
    result.unwrap_or_else(|error| match error.downcast_ref::<given::Misuse>() {
        Some(misuse) => misuse.tell(),
        None => {
            anstream::eprintln!("error: {error:#}");
            ExitCode::from(EXIT_FAILURE)
        }
    })
}
