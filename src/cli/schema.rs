//! `clerk-relay schema`: the JSON Schema of the configuration, for editors.

use std::process::ExitCode;

use crate::config::schema::schema;

/// Prints the schema to standard output.
///
/// # Errors
/// Only where it cannot be written as JSON, which would be a bug.
pub fn run() -> anyhow::Result<ExitCode> {
    anstream::println!("{}", serde_json::to_string_pretty(&schema())?);
    Ok(ExitCode::SUCCESS)
}
