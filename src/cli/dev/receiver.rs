//! The app that `dev` delivers to when there is none: verifies with Svix' own library, as a Clerk app does, and answers
//! 503 to the first attempt of each event, so that a retry is to be seen.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use hyper_util::service::TowerToHyperService;
use svix::webhooks::Webhook;
use tokio::net::TcpListener;
use tokio_util::sync::DropGuard;
use url::Url;

use crate::http;
use crate::secret::SigningSecret;
use crate::shutdown::Shutdown;

/// Ids remembered, so that a demonstration left running does not grow.
const IDS_MAX: usize = 10_000;

/// The relay is its only client.
const SETTINGS: http::Settings = http::Settings {
    connections: 64,
    idle_timeout: Duration::from_secs(75),
    request_deadline: Duration::from_secs(10),
};

/// A receiver that runs until this is dropped.
pub struct Receiver {
    /// Where it takes events.
    pub url: Url,
    _stop: DropGuard,
}

struct App {
    webhook: Webhook,
    /// Events seen once; held only to look one up.
    seen: Mutex<HashSet<String>>,
}

/// Starts a receiver on a free port.
pub async fn start(secret: &SigningSecret) -> anyhow::Result<Receiver> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = Url::parse(&format!("http://{}/api/webhooks/clerk", listener.local_addr()?))?;
    let app = Arc::new(App { webhook: Webhook::new(secret.expose())?, seen: Mutex::default() });
    let router = Router::new().route("/api/webhooks/clerk", post(receive)).with_state(app);
    let shutdown = Shutdown::new();
    let _stop = shutdown.stop.clone().drop_guard();
    // Ended by the guard in `Receiver`.
    tokio::spawn(http::serve(listener, SETTINGS, shutdown, TowerToHyperService::new(router)));
    Ok(Receiver { url, _stop })
}

async fn receive(State(app): State<Arc<App>>, headers: HeaderMap, body: Bytes) -> (StatusCode, &'static str) {
    if app.webhook.verify(&body, &headers).is_err() {
        return (StatusCode::BAD_REQUEST, "invalid signature");
    }
    let id = headers.get("svix-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
    let mut seen = app.seen.lock().unwrap_or_else(PoisonError::into_inner);
    if seen.len() >= IDS_MAX {
        seen.clear();
    }
    if seen.insert(id) {
        return (StatusCode::SERVICE_UNAVAILABLE, "the first attempt always fails here");
    }
    (StatusCode::OK, "verified")
}
