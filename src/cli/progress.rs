//! Watching a job until its end: a bar on standard error where that is a terminal. Ctrl-C leaves the job running: it is
//! the relay that does it.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use tokio::signal::unix::Signal;

use super::client::Client;
use super::facts::Job;

/// Between two looks at a job.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// How watching came to its end.
#[derive(Debug)]
pub enum Watched {
    /// The job ended: as the API gives it, and as facts.
    Ended(Value, Job),
    /// The job goes on, and whoever watched it does not.
    Left(Job),
}

/// Watches the job that the API gave, until its end or `interrupt`.
///
/// # Errors
/// Those of the API, and where an answer is no job.
pub async fn watch(client: &Client, mut answer: Value, interrupt: &mut Signal) -> anyhow::Result<Watched> {
    let mut job: Job = serde_json::from_value(answer.clone())?;
    let number = job.number();
    let bar = bar(&job);
    while job.is_running() {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = interrupt.recv() => {
                bar.finish_and_clear();
                return Ok(Watched::Left(job));
            }
        }
        answer = client.get(&["jobs", &number], &Vec::new()).await?;
        job = serde_json::from_value(answer.clone())?;
        if let Some(total) = job.total {
            bar.set_length(total);
        }
        bar.set_position(job.moved);
    }
    bar.finish_and_clear();
    Ok(Watched::Ended(answer, job))
}

/// Hidden by itself where standard error is no terminal.
fn bar(job: &Job) -> ProgressBar {
    let (bar, form) = match job.total {
        Some(total) => (ProgressBar::new(total), "{msg} {wide_bar} {pos}/{len} {per_sec} {eta}"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg} {pos} so far, {per_sec}"),
    };
    let style = ProgressStyle::with_template(form).expect("the templates above are well-formed");
    bar.set_style(style);
    bar.set_message(format!("{} (job {})", if job.dry_run { "counting" } else { &job.action }, job.number()));
    bar.enable_steady_tick(LOOK_EVERY);
    bar
}
