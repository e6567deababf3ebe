//! One HTTP attempt: the request that an unchanged Clerk app accepts, one deadline over all of it, a capped read of
//! the reply, and what it came to. Never retries, never follows a redirect, decides nothing about the delivery.

pub mod headers;
pub mod trouble;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName, InvalidHeaderValue, RETRY_AFTER, USER_AGENT};
use reqwest::{Client, Response, redirect, retry, tls};
use tokio::time::{Instant, timeout_at};

use crate::clock::{Clock, Timestamp};
use crate::config::Target;
use crate::event::Event;
use crate::lifecycle::Outcome;
use crate::lifecycle::attempt::{Attempt, ErrorClass, REPLY_BYTES_MAX, ReplyRead};
use crate::lifecycle::hint::{self, Hint};
use crate::store::Lease;

use headers::Sending;
use trouble::Trouble;

/// Reply bytes read at most. Short replies are read to their end, so that the connection can be used again.
const REPLY_READ_BYTES_MAX: usize = 16 * 1024;
/// A connection to a target that is not used is closed after this; below the 75 s that many servers keep theirs.
const POOL_IDLE: Duration = Duration::from_secs(60);
/// HTTP/2 connections are probed this often, so that a dead one is noticed before an attempt waits on it.
const HTTP2_PROBE: Duration = Duration::from_secs(20);

/// A target cannot be sent to.
#[derive(Debug, thiserror::Error)]
pub enum SenderError {
    /// The certificate file cannot be read.
    #[error("ca_file of target {target} cannot be read")]
    CaFile {
        /// The target's name.
        target: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The client cannot be built; where no certificates are installed, this says so.
    #[error("the HTTP client of target {target} cannot be built (are CA certificates installed?)")]
    Client {
        /// The target's name.
        target: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
}

/// The HTTP client of one target: its connections are not shared, so that no target waits for another's.
#[derive(Debug, Clone)]
pub struct Sender(Client);

impl Sender {
    /// A client by the target's settings.
    ///
    /// # Errors
    /// [`SenderError`] where its certificates or its proxy cannot be used.
    pub fn new(target: &Target) -> Result<Self, SenderError> {
        let name = || target.name.to_string();
        let client_error =
            |source: reqwest::Error| SenderError::Client { target: name(), source: source.without_url() };
        let mut builder = Client::builder()
            .redirect(redirect::Policy::none())
            .retry(retry::never()) // the client's own retries would not be counted
            .no_proxy() // only the target's own `proxy` counts, never the environment
            .referer(false)
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(target.concurrency)
            .tcp_nodelay(true)
            .tcp_user_timeout(target.timeout) // the client's own 30 s would cut a longer `timeout` short
            .http2_adaptive_window(true)
            .http2_keep_alive_interval(HTTP2_PROBE)
            .tls_version_min(tls::Version::TLS_1_2);
        if let Some(path) = &target.ca_file {
            let pem = std::fs::read(path).map_err(|source| SenderError::CaFile { target: name(), source })?;
            builder =
                builder.tls_certs_merge(reqwest::Certificate::from_pem_bundle(&pem).map_err(client_error)?);
        }
        if let Some(proxy) = &target.proxy {
            builder = builder.proxy(reqwest::Proxy::all(proxy.as_str()).map_err(client_error)?);
        }
        builder.build().map(Self).map_err(client_error)
    }

    /// The client itself, for a look at the target that is no delivery.
    pub fn client(&self) -> &Client {
        &self.0
    }
}

/// What one attempt came to, and what is written down of it.
pub struct Sent {
    /// For the decision.
    pub outcome: Outcome,
    /// For the record.
    pub attempt: Attempt,
}

/// Makes one attempt within the target's `timeout`.
pub async fn attempt(sender: &Sender, target: &Target, lease: &Lease, event: &Event, clock: &Clock) -> Sent {
    let at = clock.now();
    let began = Instant::now();
    let number = lease.progress().attempts_total.saturating_add(1);
    let reply = exchange(sender, target, lease, event, at, began + target.timeout).await;
    let took = began.elapsed();
    match reply {
        Ok(reply) => Sent {
            outcome: reply.outcome(at),
            attempt: Attempt {
                number,
                at,
                took,
                status: Some(reply.status.as_u16()),
                error: (!reply.status.is_success()).then_some(ErrorClass::Status),
                hint: reply.hint(target),
                reply: reply.start,
                reply_read: reply.read,
            },
        },
        Err(trouble) => Sent {
            outcome: Outcome::Failed { retry_after: None },
            attempt: Attempt {
                number,
                at,
                took,
                status: None,
                error: Some(trouble.class()),
                hint: trouble.hint(target),
                reply: Bytes::new(),
                reply_read: ReplyRead::Whole,
            },
        },
    }
}

/// The parts of a reply that matter.
struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    start: Bytes,
    read: ReplyRead,
}

impl Reply {
    fn outcome(&self, at: Timestamp) -> Outcome {
        if self.status.is_success() {
            return Outcome::Delivered;
        }
        if self.status == StatusCode::GONE {
            return Outcome::Gone;
        }
        let text = |name: &HeaderName| self.headers.get(name).and_then(|value| value.to_str().ok());
        if text(&WEBHOOK_DELIVERY).is_some_and(|text| text.trim().eq_ignore_ascii_case("abort-message")) {
            return Outcome::Aborted;
        }
        Outcome::Failed { retry_after: text(&RETRY_AFTER).and_then(|text| retry_after(text, at)) }
    }

    fn hint(&self, target: &Target) -> Option<Hint> {
        if self.status.is_success() {
            return None;
        }
        hint::of_reply(&hint::Reply {
            asked: &target.url,
            status: self.status.as_u16(),
            headers: &self.headers,
            start: &self.start,
        })
    }
}

async fn exchange(
    sender: &Sender, target: &Target, lease: &Lease, event: &Event, at: Timestamp, deadline: Instant,
) -> Result<Reply, Trouble> {
    let headers = headers(target, lease, event, at).map_err(|_| Trouble::Internal)?;
    let request = sender.0.post(target.url.clone()).headers(headers).body(event.body.clone());
    let mut response = match timeout_at(deadline, request.send()).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Err(trouble::of(&error)),
        Err(_) => return Err(Trouble::Timeout),
    };
    let (start, read) = read_start(&mut response, deadline).await;
    Ok(Reply { status: response.status(), headers: std::mem::take(response.headers_mut()), start, read })
}

/// Reads the reply up to the cap or the deadline. Its status has decided already, so nothing here is an error.
async fn read_start(response: &mut Response, deadline: Instant) -> (Bytes, ReplyRead) {
    let mut kept = BytesMut::new();
    let mut read_bytes = 0;
    loop {
        match timeout_at(deadline, response.chunk()).await {
            Ok(Ok(Some(chunk))) => {
                let room = REPLY_BYTES_MAX - kept.len();
                kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
                read_bytes += chunk.len();
                if read_bytes > REPLY_READ_BYTES_MAX {
                    return (kept.freeze(), ReplyRead::Truncated);
                }
            }
            Ok(Ok(None)) => return (kept.freeze(), ReplyRead::Whole),
            Ok(Err(_)) | Err(_) => return (kept.freeze(), ReplyRead::Truncated),
        }
    }
}

const WEBHOOK_DELIVERY: HeaderName = HeaderName::from_static("webhook-delivery");

/// Everything the target is sent besides the body.
fn headers(
    target: &Target, lease: &Lease, event: &Event, at: Timestamp,
) -> Result<HeaderMap, InvalidHeaderValue> {
    let secrets = target.signing_secrets.get(&event.source).map_or(&[][..], Vec::as_slice);
    let told = headers::Told {
        event_id: lease.event_id(),
        svix_id: &event.svix_id,
        source: event.source.as_str(),
        received_at: event.received_at,
        content_type: event.content_type.as_deref(),
        body: &event.body,
    };
    let progress = lease.progress();
    let number = progress.attempts_total.saturating_add(1);
    let is_again = progress.retried_at.is_some();
    let sending = if is_again { Sending::Replay(number) } else { Sending::Attempt(number) };
    let mut headers = target.headers.clone();
    headers::add(&mut headers, told, secrets, at, sending)?;
    headers.insert(USER_AGENT, target.user_agent.clone());
    Ok(headers)
}

/// `Retry-After` as a delay: seconds, or an HTTP date (RFC 9110, 10.2.3). A date in the past is no delay.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX))); // more digits than fit: for ever
    }
    let date = httpdate::parse_http_date(text).ok()?;
    let since_epoch = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Timestamp::from_secs(i64::try_from(since_epoch.as_secs()).ok()?).since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:50:37 GMT", now), Some(Duration::from_secs(60)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:48:37 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after(&"9".repeat(30), now), Some(Duration::from_secs(u64::MAX)));
        for text in ["", "soon", "-1", "1.5"] {
            assert_eq!(retry_after(text, now), None, "{text}");
        }
    }
}
