//! The ceilings: the least that could do the same, without dedupe, records, limits or retries.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use base64::Engine as _;
use bytes::Bytes;
use clerk_relay::secret::SigningSecret;
use hmac::Mac as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};

use crate::load::{Load, Measured, post_all};

/// Rows of one commit at most, as in the relay's store.
const BATCH_MAX: usize = 256;

type Write = (Vec<u8>, oneshot::Sender<()>);

/// hyper reading the body, one HMAC, one insert in a group commit at `synchronous=FULL`.
pub async fn ingest(load: &Load, connections: usize) -> Measured {
    let folder = crate::relay::folder();
    let (writes, queue) = mpsc::channel(1024);
    let path = folder.path().join("bare.db");
    let writer = std::thread::spawn(move || write_all(&path, queue));
    let secret = load.secret.clone();
    let server = serve(move |request| {
        let (secret, writes) = (secret.clone(), writes.clone());
        async move {
            let frame = verified(request, &secret).await;
            let (done, stored) = oneshot::channel();
            writes.send((frame, done)).await.unwrap();
            stored.await.unwrap();
        }
    })
    .await;
    let measured = post_all(load, server.addr, "/", connections).await;
    drop(server);
    drop(writer); // ends by itself when the last connection has closed
    measured
}

async fn verified(request: Request<Incoming>, secret: &SigningSecret) -> Vec<u8> {
    let (head, body) = request.into_parts();
    let text = |name: &str| head.headers[name].to_str().unwrap().to_owned();
    let body = body.collect().await.unwrap().to_bytes();
    let mut mac = secret.mac();
    mac.update(format!("{}.{}.", text("svix-id"), text("svix-timestamp")).as_bytes());
    mac.update(&body);
    let expected = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    assert_eq!(text("svix-signature")[3..], expected);
    body.to_vec()
}

fn write_all(path: &std::path::Path, mut queue: mpsc::Receiver<Write>) {
    let mut connection = rusqlite::Connection::open(path).unwrap();
    connection
        .execute_batch(
            "PRAGMA page_size=8192; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
             CREATE TABLE event(id INTEGER PRIMARY KEY, frame BLOB NOT NULL) STRICT;",
        )
        .unwrap();
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while queue.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
        let transaction = connection.transaction().unwrap();
        {
            let mut insert = transaction.prepare_cached("INSERT INTO event(frame) VALUES (?1)").unwrap();
            for (frame, _) in &batch {
                insert.execute([frame]).unwrap();
            }
        }
        transaction.commit().unwrap();
        for (_, done) in batch.drain(..) {
            let _ = done.send(()); // its connection may be gone
        }
    }
}

/// A server that runs until it is dropped.
pub struct Server {
    pub addr: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers every request 200 after `handle`.
pub async fn serve<F, H>(handle: F) -> Server
where
    F: Fn(Request<Incoming>) -> H + Clone + Send + Sync + 'static,
    H: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            socket.set_nodelay(true).unwrap();
            let handle = handle.clone();
            let service = service_fn(move |request| {
                let handled = handle(request);
                async move {
                    handled.await;
                    Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from_static(b"{}"))))
                }
            });
            // Ends when the client closes.
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        }
    });
    Server { addr, task }
}

/// reqwest posting each body to a receiver that reads it, as many at once as the relay's target allows.
pub async fn delivery(load: &Load, concurrency: usize) -> Measured {
    let server = serve(|request| async move {
        request.into_body().collect().await.unwrap();
    })
    .await;
    let client = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build().unwrap();
    let url = format!("http://{}/", server.addr);
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let tasks: Vec<_> = (0..concurrency)
        .map(|_| {
            let (client, url, next, events) =
                (client.clone(), url.clone(), next.clone(), load.events.clone());
            tokio::spawn(async move {
                while let Some(event) = events.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let reply = client.post(&url).body(event.body.clone()).send().await.unwrap();
                    reply.bytes().await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    Measured { events: load.events.len(), took: began.elapsed(), latencies: Vec::new() }
}
