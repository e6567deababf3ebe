//! The clock of one connection, between the socket and the HTTP library.
//!
//! The library has one timer for "no head yet", which cannot tell a connection that rests between two requests (75 s
//! are fine) from a head that drips in (10 s are not). So the socket is wrapped: it sees the first byte of each head,
//! and the service tells when a request begins and ends. While a service works there is no deadline here: reading the
//! body and whatever else it does has deadlines of its own.
//!
//! Two approximations, both bounded: a next head that came with the end of a body counts as idle until its next byte,
//! and a service that leaves a body unread should close the connection (the library may read a little of it later,
//! which looks like a next head).

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How long a connection that we end with its request unread is kept, so that the client can read our answer: closing
/// at once would reset it, and the answer with it.
const LINGER: Duration = Duration::from_secs(1);
/// How many bytes are read and thrown away meanwhile.
const LINGER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What a head that drips in too slowly is answered, as far as the socket takes it.
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// What the connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Between requests, or writing the end of an answer.
    Idle,
    /// Some bytes of a head have come, the first of them then.
    Head(Instant),
    /// A service has the request.
    Serving,
}

/// What becomes of the connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// It may carry a next request.
    Keep,
    /// It ends, perhaps with input unread.
    Close,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// None while serving.
    deadline: Option<Instant>,
    after: After,
}

/// Shared by the wrapped socket and the service of one connection, which run in one task: the lock is never waited for.
#[derive(Debug)]
pub(super) struct Pace {
    state: Mutex<State>,
    idle_timeout: Duration,
    request_deadline: Duration,
}

impl Pace {
    /// A connection that was just accepted.
    pub(super) fn new(idle_timeout: Duration, request_deadline: Duration) -> Arc<Self> {
        let deadline = Some(Instant::now() + idle_timeout);
        let state = Mutex::new(State { phase: Phase::Idle, deadline, after: After::Keep });
        Arc::new(Self { state, idle_timeout, request_deadline })
    }

    /// A head is complete and its request goes to the service. Returns when its first byte came.
    pub(super) fn begin(&self) -> Instant {
        let mut state = self.state();
        let started = match state.phase {
            Phase::Head(first_byte) => first_byte,
            Phase::Idle | Phase::Serving => Instant::now(), // the whole head came with the request before
        };
        state.phase = Phase::Serving;
        state.deadline = None;
        started
    }

    /// The service has answered.
    pub(super) fn answered(&self, after: After) {
        let mut state = self.state();
        state.phase = Phase::Idle;
        state.deadline = Some(Instant::now() + self.idle_timeout);
        state.after = after;
    }

    fn bytes_came(&self) {
        let mut state = self.state();
        if state.phase == Phase::Idle {
            let now = Instant::now();
            state.phase = Phase::Head(now);
            state.deadline = Some(now + self.request_deadline);
        }
    }

    fn bytes_went(&self) {
        let mut state = self.state();
        if state.phase == Phase::Idle {
            state.deadline = Some(Instant::now() + self.idle_timeout);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner) // plain values: always whole
    }
}

/// The socket with its clock.
#[derive(Debug)]
pub(super) struct Paced<IO> {
    io: IO,
    pace: Arc<Pace>,
    /// Armed for the deadline or earlier; only looked at when the socket has nothing to do.
    sleep: Pin<Box<Sleep>>,
    output: Output,
    lingering: Option<usize>,
}

/// Whether the library has handed everything over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    Flushed,
    Pending,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Paced<IO> {
    pub(super) fn new(io: IO, pace: Arc<Pace>) -> Self {
        let sleep = Box::pin(tokio::time::sleep(pace.idle_timeout));
        Self { io, pace, sleep, output: Output::Flushed, lingering: None }
    }

    /// Ready once the present phase has taken too long.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<Phase> {
        let (phase, deadline) = {
            let state = self.pace.state();
            (state.phase, state.deadline)
        };
        let Some(deadline) = deadline else {
            return Poll::Pending;
        };
        if self.sleep.deadline() > deadline {
            self.sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(phase);
            }
            self.sleep.as_mut().reset(deadline);
        }
    }

    /// The head took too long: says so where the socket takes it at once, and ends the connection.
    fn refuse_slow_head(&mut self, cx: &mut Context<'_>) -> io::Error {
        if self.output == Output::Flushed {
            let _best_effort = Pin::new(&mut self.io).poll_write(cx, TOO_SLOW);
        }
        io::ErrorKind::TimedOut.into()
    }

    fn ends_unread(&self) -> bool {
        let state = self.pace.state();
        state.after == After::Close || matches!(state.phase, Phase::Head(_))
    }

    /// Reads and throws away what the client still sends, within bounds.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scratch = [0; 4096];
        let mut lingered = self.lingering.unwrap_or_default();
        while lingered < LINGER_BYTES_MAX {
            let mut buf = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.io).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => lingered += buf.filled().len(),
                Poll::Ready(Ok(()) | Err(_)) => return Poll::Ready(()),
                Poll::Pending => {
                    self.lingering = Some(lingered);
                    return self.sleep.as_mut().poll(cx);
                }
            }
        }
        Poll::Ready(())
    }

    fn wrote(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.output = Output::Pending;
        match result {
            Poll::Ready(Ok(n)) => {
                self.pace.bytes_went();
                Poll::Ready(Ok(n))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            // A client that does not read its answer is as idle as one that does not ask.
            Poll::Pending => self.poll_overdue(cx).map(|_| Err(io::ErrorKind::TimedOut.into())),
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Paced<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                if buf.filled().len() > before {
                    self.pace.bytes_came();
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => match ready!(self.poll_overdue(cx)) {
                Phase::Head(_) => Poll::Ready(Err(self.refuse_slow_head(cx))),
                Phase::Idle | Phase::Serving => Poll::Ready(Ok(())), // as if the client had ended it
            },
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Paced<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, buf);
        self.wrote(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.wrote(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.output = Output::Flushed; // the library flushes only after it has written all it had
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.io).poll_shutdown(cx))?;
            if !self.ends_unread() {
                return Poll::Ready(Ok(()));
            }
            self.lingering = Some(0);
            self.sleep.as_mut().reset(Instant::now() + LINGER);
        }
        self.poll_linger(cx).map(Ok)
    }
}
