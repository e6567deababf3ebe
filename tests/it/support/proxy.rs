//! A TCP proxy that stands between a relay and its server and fails on command.

#![allow(dead_code)] // a fixture offers more than the tests of one day use

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What is read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// How the proxy behaves, towards open connections too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Like a wire.
    Pass,
    /// What the server says comes this much later.
    Delay(Duration),
    /// Like a wire whose other end was pulled out: connections stay open, or open, and nothing gets through.
    Swallow,
    /// New connections are reset at once; the open ones go on.
    Refuse,
}

/// A proxy that runs until it is dropped.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    _stop: DropGuard,
}

struct Shared {
    target: Mutex<String>,
    mode: Mutex<Mode>,
    /// Cancelled, and replaced, to cut all connections.
    open: Mutex<CancellationToken>,
    /// The reply to lose.
    trap: Mutex<Option<Trap>>,
    accepted: AtomicUsize,
}

/// Waits for a request that contains `needle`; tells when its reply is lost.
struct Trap {
    needle: Vec<u8>,
    tell: oneshot::Sender<()>,
}

impl Proxy {
    /// A proxy to `target`, a host and a port.
    pub async fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            target: Mutex::new(target.to_owned()),
            mode: Mutex::new(Mode::Pass),
            open: Mutex::new(stop.child_token()),
            trap: Mutex::default(),
            accepted: AtomicUsize::new(0),
        });
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(serve(listener, shared.clone(), stop.clone()));
        Self { port, shared, _stop: stop.drop_guard() }
    }

    /// A proxy to the server on this local port.
    pub async fn to_port(port: u16) -> Self {
        Self::start(&format!("127.0.0.1:{port}")).await
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn set(&self, mode: Mode) {
        *self.shared.mode.lock().unwrap() = mode;
    }

    /// Cuts every open connection; new ones are as the mode says.
    pub fn cut(&self) {
        let old = std::mem::take(&mut *self.shared.open.lock().unwrap());
        old.cancel();
    }

    /// Where new connections lead from now on.
    pub fn retarget(&self, target: &str) {
        target.clone_into(&mut self.shared.target.lock().unwrap());
    }

    /// Loses the reply to the next request that contains `needle` (all do where it is empty): the request reaches the
    /// server whole and is carried out; then the connection is cut without a word. The receiver hears when that is so.
    pub fn lose_reply(&self, needle: impl AsRef<[u8]>) -> oneshot::Receiver<()> {
        let (tell, lost) = oneshot::channel();
        *self.shared.trap.lock().unwrap() = Some(Trap { needle: needle.as_ref().to_vec(), tell });
        lost
    }

    /// How many connections were accepted so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let Ok((client, _)) = accepted else { continue };
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        if shared.mode() == Mode::Refuse {
            let _ = client.set_zero_linger(); // resets
            continue;
        }
        let (shared, cut, stop) = (shared.clone(), shared.open.lock().unwrap().clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = carry(client, shared) => {}
                () = cut.cancelled() => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

async fn carry(client: TcpStream, shared: Arc<Shared>) {
    let target = shared.target.lock().unwrap().clone();
    let server = match shared.mode() {
        Mode::Swallow => None,
        Mode::Pass | Mode::Delay(_) | Mode::Refuse => TcpStream::connect(target).await.ok(),
    };
    let Some(server) = server else {
        if shared.mode() == Mode::Swallow {
            let (from_client, _to_client) = client.into_split();
            swallow(from_client).await;
        }
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let doomed = Doomed::default();
    tokio::select! {
        () = requests(from_client, to_server, &shared, &doomed) => {}
        () = replies(from_server, to_client, &shared, &doomed) => {}
    }
}

/// A connection whose next reply is to be lost.
#[derive(Default)]
struct Doomed {
    is_so: AtomicBool,
    /// Rung when the first byte of that reply has come, so that no more requests go out.
    answered: CancellationToken,
    tell: Mutex<Option<oneshot::Sender<()>>>,
}

async fn requests(
    mut from_client: OwnedReadHalf, mut to_server: OwnedWriteHalf, shared: &Shared, doomed: &Doomed,
) {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = tokio::select! {
            read = from_client.read(&mut chunk) => read,
            () = doomed.answered.cancelled() => {
                // The server carries out what it has and closes, which ends the other direction.
                let _ = to_server.shutdown().await;
                return std::future::pending().await;
            }
        };
        let Ok(bytes @ 1..) = read else { return };
        if shared.mode() == Mode::Swallow {
            continue;
        }
        if let Some(trap) = shared.sprung(&chunk[..bytes]) {
            *doomed.tell.lock().unwrap() = Some(trap.tell);
            doomed.is_so.store(true, Ordering::SeqCst);
        }
        if to_server.write_all(&chunk[..bytes]).await.is_err() {
            return;
        }
    }
}

async fn replies(
    mut from_server: OwnedReadHalf, mut to_client: OwnedWriteHalf, shared: &Shared, doomed: &Doomed,
) {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = from_server.read(&mut chunk).await;
        if doomed.is_so.load(Ordering::SeqCst) {
            doomed.answered.cancel();
            if let Ok(1..) = read {
                continue;
            }
            if let Some(tell) = doomed.tell.lock().unwrap().take() {
                let _ = tell.send(());
            }
            return;
        }
        let Ok(bytes @ 1..) = read else { return };
        match shared.mode() {
            Mode::Swallow => continue,
            Mode::Delay(time) => tokio::time::sleep(time).await,
            Mode::Pass | Mode::Refuse => {}
        }
        if to_client.write_all(&chunk[..bytes]).await.is_err() {
            return;
        }
    }
}

async fn swallow(mut from: OwnedReadHalf) {
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(1..) = from.read(&mut chunk).await {}
}

impl Shared {
    fn mode(&self) -> Mode {
        *self.mode.lock().unwrap()
    }

    fn sprung(&self, request: &[u8]) -> Option<Trap> {
        let mut trap = self.trap.lock().unwrap();
        trap.take_if(|trap| {
            trap.needle.is_empty() || request.windows(trap.needle.len()).any(|part| part == trap.needle)
        })
    }
}
