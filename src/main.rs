//! The process: reads the arguments, runs one subcommand, leaves with its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    clerk_relay::cli::main()
}
