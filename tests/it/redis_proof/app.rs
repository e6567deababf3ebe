//! An app that is cheap enough for hundreds of thousands of requests: it verifies each one, answers as the event's fate
//! says, and keeps a book by `svix-id`. It can hold its answers back until it is told.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clerk_relay::clock::Clock;
use clerk_relay::event::SourceName;
use clerk_relay::secret::SigningSecret;
use clerk_relay::signature::{Received, verify};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::load::subject;
use crate::support::clerk::SECRET;

/// What came for one event.
#[derive(Debug, Clone, Default)]
pub struct Came {
    /// Requests, whatever they were answered.
    pub requests: usize,
    /// Those that were answered 2xx.
    pub taken: usize,
}

/// The book of one app.
#[derive(Debug, Default)]
pub struct Book {
    /// By `svix-id`.
    pub came: HashMap<String, Came>,
    /// Requests that an app would have refused: their signature does not fit.
    pub unverified: usize,
    /// Events that were taken for the first time after a later one of their subject.
    pub out_of_order: Vec<String>,
    /// The `Relay-Sequence` of what was taken last, by subject.
    last: HashMap<u64, String>,
}

/// The status of an answer, by `svix-id` and how many requests for it came before.
type Fate = dyn Fn(&str, usize) -> u16 + Send + Sync;

/// An app that runs until it is dropped.
pub struct App {
    pub url: String,
    book: Arc<Mutex<Book>>,
    /// Whether answers are held back; the other ends wait in each request.
    held: watch::Sender<bool>,
    _stop: DropGuard,
}

/// What a connection works with.
struct Shared {
    fate: Box<Fate>,
    takes: Duration,
    secret: SigningSecret,
    source: SourceName,
    book: Arc<Mutex<Book>>,
    held: watch::Receiver<bool>,
}

impl App {
    /// Answers at once, by `fate`.
    pub async fn start(fate: impl Fn(&str, usize) -> u16 + Send + Sync + 'static) -> Self {
        Self::start_slow(Duration::ZERO, fate).await
    }

    /// The same where each request takes this long.
    pub async fn start_slow(
        takes: Duration, fate: impl Fn(&str, usize) -> u16 + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (book, held) = (Arc::<Mutex<Book>>::default(), watch::Sender::new(false));
        let shared = Arc::new(Shared {
            fate: Box::new(fate),
            takes,
            secret: SigningSecret::parse(SECRET).unwrap().0,
            source: "clerk".parse().unwrap(),
            book: book.clone(),
            held: held.subscribe(),
        });
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept(listener, shared, stop.clone())));
        Self { url, book, held, _stop: stop.drop_guard() }
    }

    /// Holds back every answer from now on.
    pub fn hold(&self) {
        self.held.send_replace(true);
    }

    /// Gives the answers that were held back, and all others at once.
    pub fn release(&self) {
        self.held.send_replace(false);
    }

    /// Looks into the book.
    pub fn book<T>(&self, look: impl FnOnce(&Book) -> T) -> T {
        look(&self.book.lock().unwrap())
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.book(|book| book.came.values().map(|came| came.requests).sum())
    }

    /// What came for this event.
    pub fn came(&self, id: &str) -> Came {
        self.book(|book| book.came.get(id).cloned().unwrap_or_default())
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let shared = shared.clone();
        let service = hyper::service::service_fn(move |request| answer(shared.clone(), request));
        let serving = hyper::server::conn::http1::Builder::new()
            .timer(hyper_util::rt::TokioTimer::new())
            .serve_connection(TokioIo::new(socket), service);
        tokio::spawn(stop.clone().run_until_cancelled_owned(async move {
            let _ = serving.await; // the relay may have been killed
        }));
    }
}

async fn answer(
    shared: Arc<Shared>, request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Ok(Response::default()) }; // killed half-way
    let text = |name| head.headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let (id, sequence) = (text("svix-id"), text("relay-sequence"));
    let received = Received {
        source: &shared.source,
        headers: &head.headers,
        body: body.to_bytes(),
        remote: None,
        at: Clock::system().now(),
    };
    let is_genuine = verify(received, std::slice::from_ref(&shared.secret), Duration::from_secs(300)).is_ok();
    let before = {
        let mut book = shared.book.lock().unwrap();
        book.unverified += usize::from(!is_genuine);
        let came = book.came.entry(id.clone()).or_default();
        came.requests += 1;
        came.requests - 1
    };
    if shared.takes > Duration::ZERO {
        tokio::time::sleep(shared.takes).await; // the app's own work
    }
    let _ = shared.held.clone().wait_for(|held| !held).await; // an error means that the test is over
    let status = (shared.fate)(&id, before);
    if status == 200 {
        shared.book.lock().unwrap().take(id, sequence);
    }
    Ok(Response::builder().status(status).body(Full::from("ok")).unwrap())
}

impl Book {
    fn take(&mut self, id: String, sequence: String) {
        let subject = subject(&id);
        let came = self.came.entry(id.clone()).or_default();
        came.taken += 1;
        if came.taken > 1 {
            return;
        }
        let last = self.last.entry(subject).or_default();
        if *last > sequence {
            self.out_of_order.push(id);
        } else {
            *last = sequence;
        }
    }
}
