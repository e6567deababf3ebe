//! The load: signed requests made before the clock starts, posted over keep-alive connections, each answered before the
//! connection's next one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clerk_relay::clock::{Clock, Timestamp};
use clerk_relay::event::ksuid;
use clerk_relay::secret::SigningSecret;
use clerk_relay::signature;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Bytes of one body, the size of a `user.created` without a picture.
const BODY_BYTES: usize = 1_200;

/// One signed event.
pub struct Signed {
    pub id: String,
    pub timestamp: Timestamp,
    pub signature: String,
    pub body: Bytes,
}

/// All events of a round.
pub struct Load {
    pub secret: SigningSecret,
    pub events: Arc<Vec<Signed>>,
}

impl Load {
    /// Signs `count` events, each with an id and a subject of its own.
    pub fn sign(count: usize) -> Self {
        let secret = SigningSecret::from_key(&[7; 24]);
        let timestamp = Clock::system().now();
        let events = (0..count)
            .map(|number| {
                let id = ksuid::make(timestamp, rand::random());
                let head = format!(r#"{{"data":{{"id":"user_{number}","padding":""#);
                let tail = r#""},"object":"event","type":"user.updated"}"#;
                let body = format!("{head}{}{tail}", "x".repeat(BODY_BYTES - head.len() - tail.len()));
                let signature =
                    signature::sign(std::slice::from_ref(&secret), &id, timestamp, body.as_bytes());
                Signed { id, timestamp, signature, body: body.into() }
            })
            .collect();
        Self { secret, events: Arc::new(events) }
    }
}

/// How long a round took.
pub struct Measured {
    pub events: usize,
    pub took: Duration,
    /// Of each request, sorted; empty where single ones cannot be told.
    pub latencies: Vec<Duration>,
}

impl Measured {
    pub fn per_second(&self) -> f64 {
        self.events as f64 / self.took.as_secs_f64()
    }

    pub fn latency_ms(&self, quantile: f64) -> Option<f64> {
        let at = (self.latencies.len() as f64 * quantile) as usize;
        self.latencies.get(at).map(|latency| latency.as_secs_f64() * 1e3)
    }
}

/// Posts every event once over `connections` connections; every answer must be 200.
pub async fn post_all(load: &Load, addr: SocketAddr, path: &'static str, connections: usize) -> Measured {
    let next = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::new();
    for _ in 0..connections {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (client, connection) = http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection); // ends when the client is dropped
        clients.push(client);
    }
    let began = Instant::now();
    let tasks = clients.into_iter().map(|mut client| {
        let (events, next) = (load.events.clone(), next.clone());
        tokio::spawn(async move {
            let mut latencies = Vec::new();
            while let Some(event) = events.get(next.fetch_add(1, Ordering::Relaxed)) {
                let request = Request::post(path)
                    .header("host", "relay")
                    .header("content-type", "application/json")
                    .header("svix-id", &event.id)
                    .header("svix-timestamp", event.timestamp.as_secs())
                    .header("svix-signature", &event.signature)
                    .body(Full::new(event.body.clone()))
                    .unwrap();
                let since = Instant::now();
                client.ready().await.unwrap();
                let reply = client.send_request(request).await.unwrap();
                assert_eq!(reply.status(), 200);
                reply.into_body().collect().await.unwrap();
                latencies.push(since.elapsed());
            }
            latencies
        })
    });
    let mut latencies = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        latencies.extend(task.await.unwrap());
    }
    let took = began.elapsed();
    latencies.sort_unstable();
    Measured { events: load.events.len(), took, latencies }
}
