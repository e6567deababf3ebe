//! The live stream of a relay, held open: connects, reads what happens, and connects again with growing delays when it
//! breaks. Whoever reads it is told of each break, because what happened meanwhile is not told again.

use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use serde::Deserialize;
use sse_stream::{Sse, SseByteStream};
use tokio::time::Instant;

use super::client::{ApiError, Client, Query};
use crate::backoff::{self, RetryPolicy};
use crate::telemetry::feed::News;

/// What the stream brings.
#[derive(Debug)]
pub enum Heard {
    /// The stream is open, at first or again: what happens from now on is heard.
    Open,
    /// Something happened.
    News(Box<News>),
    /// We were too slow, and so many were left out.
    Missed(u64),
    /// The stream broke; it is opened again after this long.
    Broken {
        /// Until the next try.
        again_in: Duration,
        /// Why, where it was no orderly end.
        why: Option<ApiError>,
    },
}

#[derive(Deserialize)]
struct Missed {
    missed: u64,
}

type Events = Pin<Box<dyn Stream<Item = Result<Sse, sse_stream::Error>> + Send>>;

/// One stream, held open.
pub struct Live<'c> {
    client: &'c Client,
    query: Query,
    state: State,
    /// Tries in a row that failed.
    failures: u32,
    was_open: WasOpen,
}

enum State {
    Closed { until: Instant },
    Open(Events),
}

/// Whether it ever was: an address that never worked is a mistake to tell, not an outage to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WasOpen {
    Never,
    Once,
}

impl<'c> Live<'c> {
    /// Connects at the first [`Live::next`].
    pub fn new(client: &'c Client, query: Query) -> Self {
        let state = State::Closed { until: Instant::now() };
        Self { client, query, state, failures: 0, was_open: WasOpen::Never }
    }

    /// What comes next; may be dropped and called again at any time.
    ///
    /// # Errors
    /// What trying again does not cure: a token that is not known, an address that is no relay's. Before it was open
    /// once, any.
    pub async fn next(&mut self) -> Result<Heard, ApiError> {
        loop {
            match &mut self.state {
                State::Closed { until } => {
                    tokio::time::sleep_until(*until).await;
                    return self.open().await;
                }
                State::Open(events) => match events.next().await {
                    Some(Ok(event)) => {
                        if let Some(heard) = heard(&event) {
                            return Ok(heard);
                        }
                    }
                    // Silence beyond the client's patience is an error of the body as well.
                    Some(Err(_)) | None => return Ok(self.broken(None)),
                },
            }
        }
    }

    async fn open(&mut self) -> Result<Heard, ApiError> {
        match self.client.open(&["stream"], &self.query).await {
            Ok(response) => {
                self.failures = 0;
                self.was_open = WasOpen::Once;
                self.state = State::Open(Box::pin(SseByteStream::new(response.bytes_stream())));
                Ok(Heard::Open)
            }
            Err(error) if self.was_open == WasOpen::Once && is_passing(&error) => {
                Ok(self.broken(Some(error)))
            }
            Err(error) => Err(error),
        }
    }

    fn broken(&mut self, why: Option<ApiError>) -> Heard {
        self.failures = self.failures.saturating_add(1);
        let again_in = backoff::delay(&policy(), self.failures);
        self.state = State::Closed { until: Instant::now() + again_in };
        Heard::Broken { again_in, why }
    }
}

/// Whether trying again may help.
fn is_passing(error: &ApiError) -> bool {
    match error {
        ApiError::Unreachable { .. } | ApiError::TimedOut { .. } | ApiError::Away(_) => true,
        // A proxy in front says 502 and the like while the relay restarts.
        ApiError::NotARelay { status, .. } => status.is_server_error(),
        ApiError::Tls { .. }
        | ApiError::Webhooks { .. }
        | ApiError::Strange { .. }
        | ApiError::Unauthorized(_)
        | ApiError::Forbidden(_)
        | ApiError::NotFound(_)
        | ApiError::Conflict(_)
        | ApiError::Refused(_) => false,
    }
}

/// From half a second to 15 s: a relay that restarts is back soon, and one that is gone is not hammered.
fn policy() -> RetryPolicy {
    RetryPolicy {
        initial: Duration::from_millis(500),
        multiplier: 2.0,
        max: Duration::from_secs(15),
        ..RetryPolicy::default()
    }
}

/// Something worth telling; comments and what another version says besides are not.
fn heard(event: &Sse) -> Option<Heard> {
    let data = event.data.as_deref()?;
    if event.event.as_deref() == Some("missed") {
        return serde_json::from_str(data).ok().map(|Missed { missed }| Heard::Missed(missed));
    }
    serde_json::from_str(data).ok().map(|news| Heard::News(Box::new(news)))
}
