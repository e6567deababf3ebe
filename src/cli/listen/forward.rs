//! One event on its way to an app on this machine: fetched, signed with the local secret, posted, told.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use reqwest::redirect;
use tokio::time::Instant;
use url::Url;

use crate::cli::EXIT_FAILURE;
use crate::cli::client::Client;
use crate::cli::facts::Event;
use crate::cli::moment;
use crate::cli::output::{self, BAD, FAINT, GOOD, clean};
use crate::clock::{Clock, Timestamp};
use crate::delivery::send::headers::{self, Sending, Told};
use crate::event::EventId;
use crate::secret::SigningSecret;

/// Longer than a target's: the app may be stopped at a breakpoint.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Posts events to one app.
pub struct Forwarder {
    http: reqwest::Client,
    url: Url,
    secret: SigningSecret,
    failed: u64,
}

impl Forwarder {
    /// To the app at `url`, signed with `secret`.
    ///
    /// # Errors
    /// Where no HTTP client can be made.
    pub fn new(url: Url, secret: SigningSecret) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(TIMEOUT)
            .redirect(redirect::Policy::none()) // a delivery follows none either
            .build()?;
        Ok(Self { http, url, secret, failed: 0 })
    }

    /// Where to.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// 0 where every event was taken.
    pub fn verdict(&self) -> ExitCode {
        ExitCode::from(if self.failed == 0 { 0 } else { EXIT_FAILURE })
    }

    /// Forwards one event and prints what the app said. That the app does not take it is no error.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn forward(
        &mut self, client: &Client, event: &Event, id: EventId, sending: Sending,
    ) -> anyhow::Result<()> {
        let response = client.open(&["events", &event.id, "body"], &Vec::new()).await?;
        // Octets are how an API hands out bytes that it does not vouch for; an app's parser goes by the real type.
        let content_type = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .filter(|text| !text.starts_with("application/octet-stream"))
            .map(str::to_owned);
        let body = client.read(response).await?;
        let at = Clock::system().now();
        let accepted_at = Timestamp::from_ms(i64::try_from(id.ms).unwrap_or(i64::MAX));
        let told = Told {
            event_id: id,
            svix_id: &event.svix_id,
            source: &event.source,
            received_at: event.received_at.as_deref().and_then(moment::of_api).unwrap_or(accepted_at),
            content_type: content_type.as_deref(),
            body: &body,
        };
        let mut headers = HeaderMap::new();
        headers::add(&mut headers, told, std::slice::from_ref(&self.secret), at, sending)
            .context("the event's id cannot stand in a header")?;
        let agent = HeaderValue::from_static(concat!("clerk-relay/", env!("CARGO_PKG_VERSION"), " (listen)"));
        headers.insert(USER_AGENT, agent);
        let began = Instant::now();
        let reply = self.http.post(self.url.clone()).headers(headers).body(body).send().await;
        let took = began.elapsed();
        let (style, what) = match reply {
            Ok(reply) if reply.status().is_success() => (GOOD, reply.status().as_u16().to_string()),
            Ok(reply) => (BAD, reply.status().as_u16().to_string()),
            Err(error) => (BAD, crate::telemetry::causes(&error.without_url())),
        };
        if style == BAD {
            self.failed += 1;
        }
        output::line(format!(
            "{FAINT}{}{FAINT:#} {:<32} {style}{}{style:#} in {} ms {FAINT}{} {}{FAINT:#}",
            moment::of_day(at),
            clean(&event.event_type),
            clean(&what),
            took.as_millis(),
            event.id,
            clean(event.subject.as_deref().unwrap_or_default()),
        ))?;
        Ok(())
    }
}
