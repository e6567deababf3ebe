//! The sender's side in tests: signs as Svix does and posts to a relay.

use clerk_relay::cli::sample;
use clerk_relay::clock::{Clock, Timestamp};
use clerk_relay::secret::SigningSecret;
use clerk_relay::signature;
use reqwest::StatusCode;

use super::relay::{Relay, client};

/// The secret of every relay in these tests.
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A sender with one endpoint.
#[derive(Clone)]
pub struct Clerk {
    client: reqwest::Client,
    url: String,
    secret: SigningSecret,
}

impl Clerk {
    /// Posts to the source `clerk` of `relay`.
    pub fn new(relay: &Relay) -> Self {
        Self::at(&relay.ingress)
    }

    /// The same for a relay whose ingress is at `ingress`, as `http://host:port`.
    pub fn at(ingress: &str) -> Self {
        let secret = SigningSecret::parse(SECRET).unwrap().0;
        Self { client: client(), url: format!("{ingress}/webhooks/clerk"), secret }
    }

    /// Posts the sample of `event_type` under a new id; must be answered 200. Returns the id.
    pub async fn send(&self, event_type: &str) -> String {
        self.send_body(sample::body(event_type).unwrap().as_bytes().to_vec()).await
    }

    /// The same with any body.
    pub async fn send_body(&self, body: Vec<u8>) -> String {
        let now = Clock::system().now();
        let id = sample::new_id(now);
        assert_eq!(self.post(&id, now, body).await.unwrap(), StatusCode::OK);
        id
    }

    /// One signed request, whatever comes of it.
    pub async fn post(&self, id: &str, at: Timestamp, body: Vec<u8>) -> reqwest::Result<StatusCode> {
        let signature = signature::sign(std::slice::from_ref(&self.secret), id, at, &body);
        let reply = self
            .client
            .post(&self.url)
            .header("content-type", "application/json")
            .header("svix-id", id)
            .header("svix-timestamp", at.as_secs())
            .header("svix-signature", signature)
            .body(body)
            .send()
            .await?;
        let status = reply.status();
        reply.bytes().await?; // an answer that breaks off is no answer
        Ok(status)
    }
}
