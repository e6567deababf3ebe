//! One connection, from its first byte to its end: sets the limits of the HTTP library, hands each request to the
//! service with its [`Arrival`], turns a panic of the service into a 500, and stops when told to.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::pace::{After, Pace, Paced};
use super::{Arrival, HEAD_BYTES_MAX, Settings};
use crate::shutdown::Shutdown;

/// The read and write buffer of one connection, in bytes: a usual body comes in one read, and 4,096 connections that
/// all fill theirs stay below 256 MiB.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// The body of the 500 that a panic is answered with.
pub const INTERNAL_ERROR: &str = r#"{"error":{"code":"internal","message":"internal error"}}"#;

/// Serves one connection until the client ends it, a deadline passes, or we stop.
pub(super) async fn serve<S, B>(
    stream: TcpStream, peer: SocketAddr, settings: Settings, shutdown: Shutdown, service: S,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body + From<&'static str> + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "http.connection_gone");
        return;
    }
    let pace = Pace::new(settings.idle_timeout, settings.request_deadline);
    let io = TokioIo::new(Paced::new(stream, Arc::clone(&pace)));
    let service = service_fn(move |request| answer(&service, request, peer, Arc::clone(&pace)));
    let mut http = http1::Builder::new();
    http.header_read_timeout(None) // `Paced` has the deadlines
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        .half_close(true); // a client may say that it is done sending and still wait for the answer
    let mut connection = pin!(http.serve_connection(io, service));
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = shutdown.stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                biased;
                ended = connection => ended,
                () = shutdown.abort.cancelled() => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, error = &error as &dyn Error, "http.connection_failed"); // the client's doing, seen daily
    }
}

fn answer<S, B>(
    service: &S, mut request: Request<Incoming>, peer: SocketAddr, pace: Arc<Pace>,
) -> impl Future<Output = Result<Response<B>, Infallible>> + use<S, B>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: From<&'static str>,
{
    request.extensions_mut().insert(Arrival { peer, started: pace.begin() });
    let called = catch_unwind(AssertUnwindSafe(|| service.call(request)));
    async move {
        let response = match called {
            Ok(future) => caught(future).await,
            Err(_) => None,
        };
        let response = match response {
            Some(Ok(response)) => response,
            None => {
                tracing::error!(%peer, "http.service_panicked");
                internal_error()
            }
        };
        pace.answered(after(&response));
        Ok(response)
    }
}

/// What `future` comes to, or `None` where it panics. Unwind safety: a future that panicked is not polled again, and
/// what it shares with others (semaphores, channels, a store) is made to be left at any await point.
async fn caught<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

fn internal_error<B: From<&'static str>>() -> Response<B> {
    let mut response = Response::new(B::from(INTERNAL_ERROR));
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close")); // its body may be unread
    response
}

fn after<B>(response: &Response<B>) -> After {
    match response.headers().get(CONNECTION) {
        Some(value) if value == "close" => After::Close,
        Some(_) | None => After::Keep,
    }
}
