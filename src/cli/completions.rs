//! `clerk-relay completions`: the completion script of a shell.

use std::io::Write as _;
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  clerk-relay completions bash > ~/.local/share/bash-completion/completions/clerk-relay
  clerk-relay completions zsh > \"${fpath[1]}/_clerk-relay\"
  clerk-relay completions fish > ~/.config/fish/completions/clerk-relay.fish")]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// Where standard output is closed.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new(); // clap_complete panics where it cannot write
    clap_complete::generate(args.shell, &mut super::Cli::command(), "clerk-relay", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
