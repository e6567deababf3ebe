//! The plumbing under every listener: HTTP/1.1 on hyper, with a bound on everything that a client can hold on to.
//!
//! A permit is taken before a connection is accepted; a head is at most 16 KiB; an idle connection ends after
//! `idle_timeout`, while a request whose first byte has come must have its whole head within `request_deadline` (and
//! its body too, where the service reads it with [`body::read`]). HTTP/2 is not spoken: the detecting mode of the
//! server library has no deadline for a client that stays silent.
//!
//! Knows nothing of events, paths or tokens: the service that it is given decides on every request. The caller binds
//! the listener, so that a test can ask for port 0.

pub mod body;
mod connection;
mod pace;

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::service::Service;
use hyper::{Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::backoff::{RetryPolicy, delay};
use crate::shutdown::Shutdown;

pub use connection::INTERNAL_ERROR;

/// The longest request head, in bytes: ten times what Svix sends through a proxy that adds its own headers.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The bounds of one listener.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Open connections; further ones wait in the kernel's queue.
    pub connections: usize,
    /// A connection without a byte in either direction between two requests ends after this.
    pub idle_timeout: Duration,
    /// From a request's first byte to the end of its head.
    pub request_deadline: Duration,
}

/// How a request came, found in its extensions.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// When its first byte was read; for a pipelined request, when the one before it was answered.
    pub started: Instant,
}

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every request under way was answered.
    Whole,
    /// The grace was over: this many connections were cut.
    Cut(usize),
}

/// Serves `service` on `listener` until `shutdown.stop`; then idle connections end at once, requests under way are
/// answered, and what is left at `shutdown.abort` is cut. A panic in the service is answered 500 and harms nothing else.
pub async fn serve<S, B>(listener: TcpListener, settings: Settings, shutdown: Shutdown, service: S) -> Drained
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: Body + From<&'static str> + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let permits = Arc::new(Semaphore::new(settings.connections.min(Semaphore::MAX_PERMITS)));
    // Every connection is a task of its own, bounded by the permits and stopped by `shutdown`; the tracker waits for all.
    let connections = TaskTracker::new();
    while let Some((stream, peer, permit)) = next(&listener, &permits, &shutdown).await {
        let serving = connection::serve(stream, peer, settings, shutdown.clone(), service.clone());
        connections.spawn(async move {
            serving.await;
            drop(permit);
        });
    }
    drop(listener); // from here on new connections are refused, not left waiting
    connections.close();
    tokio::select! {
        biased;
        () = connections.wait() => Drained::Whole,
        () = shutdown.abort.cancelled() => {
            let cut = connections.len();
            connections.wait().await;
            if cut == 0 { Drained::Whole } else { Drained::Cut(cut) }
        }
    }
}

/// The next connection and its permit, or `None` once stopping.
async fn next(
    listener: &TcpListener, permits: &Arc<Semaphore>, shutdown: &Shutdown,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let accepted = async {
        let permit = Arc::clone(permits).acquire_owned().await.expect("this semaphore is never closed");
        let (stream, peer) = accept(listener).await;
        (stream, peer, permit)
    };
    tokio::select! {
        biased;
        () = shutdown.stop.cancelled() => None,
        accepted = accepted => Some(accepted),
    }
}

/// Accepts one connection. An error of the listener itself (no file descriptors left, say) passes by itself or through
/// a connection that ends; so wait a little, longer each time, and go on.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let pauses = RetryPolicy {
        initial: Duration::from_millis(20), // descriptors come back as soon as any request ends
        multiplier: 2.0,
        max: Duration::from_secs(1), // a second without new connections is bearable, a hot loop is not
        ..RetryPolicy::default()
    };
    let mut failures = 0;
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                failures += 1;
                tracing::warn!(error = %error, failures, "http.accept_failed");
                tokio::time::sleep(delay(&pauses, failures)).await;
            }
        }
    }
}

/// Whether the error only concerns a client that was gone before it was accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}
