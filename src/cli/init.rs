//! `clerk-relay init`: writes a commented example to start from.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::config::text::FILE_DEFAULT;

/// The example, which is also the `relay.yaml` of the repository.
pub const EXAMPLE: &str = include_str!("../../relay.yaml");

/// Arguments of `init`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The file to write.
    #[arg(default_value = FILE_DEFAULT)]
    pub path: PathBuf,
    /// Replace the file if it is there.
    #[arg(long)]
    pub force: bool,
}

/// Writes the example and says what to do next. A file that is there is not touched without `--force`.
///
/// # Errors
/// Where the file cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let path = args.path.display();
    let mut options = OpenOptions::new();
    options.write(true);
    if args.force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let mut file = match options.open(&args.path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            anstream::eprintln!("{path} is there already; `--force` replaces it");
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => return Err(error).with_context(|| format!("{path} cannot be written")),
    };
    file.write_all(EXAMPLE.as_bytes()).with_context(|| format!("{path} cannot be written"))?;
    anstream::println!("wrote {path}\n");
    anstream::println!(
        "1. Set CLERK_WEBHOOK_SIGNING_SECRET to the signing secret of your endpoint in Clerk's dashboard"
    );
    anstream::println!("   (whsec_...), and put the address of your app into `targets`.");
    if args.path.as_os_str() == FILE_DEFAULT {
        anstream::println!("2. Run `clerk-relay check`, then `clerk-relay run`.");
    } else {
        anstream::println!(
            "2. Run `clerk-relay check --config {path}`, then `clerk-relay run --config {path}`."
        );
    }
    Ok(ExitCode::SUCCESS)
}
