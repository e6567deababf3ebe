//! One lane's connection over its lives: made on first use, dropped when a call shows that it is broken, made again by
//! the next call. A server that does not come back is tried ever more seldom, and in between calls fail at once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::RedisError;

use super::connect::{self, Connection};
use super::fault::Remedy;
use super::{LinkError, LinkOptions};
use crate::backoff::{RetryPolicy, delay};

/// The pauses between attempts to connect: a restart is noticed soon, a dead server is not hammered.
fn pauses() -> RetryPolicy {
    RetryPolicy {
        initial: Duration::from_millis(50),
        multiplier: 2.0,
        max: Duration::from_secs(2),
        jitter: 0.3,
        attempts: None,
        give_up_after: Duration::MAX,
    }
}

/// One lane's connection.
pub(super) struct Line {
    /// How long its calls may take.
    response: Duration,
    /// Held for moments only.
    state: Mutex<State>,
    /// Held by the one call that connects; the others wait for its outcome, each at most as long as connecting may take.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    connection: Option<Connection>,
    /// Counts its calls under way: each holds a clone.
    calls: Arc<()>,
    /// Counts the connections; a failure speaks only of the one that it came by.
    generation: u64,
    /// Counts the attempts to connect that failed; a call that waited for one takes its outcome.
    tried: u64,
    /// In a row.
    failures: u32,
    /// Not before this.
    retry_at: Option<Instant>,
    /// Why there is no connection.
    last: Option<Arc<RedisError>>,
    /// When the connection last proved good.
    good_at: Option<Instant>,
}

/// A connection to make one call by.
pub(super) struct Held {
    /// The connection.
    pub(super) connection: Connection,
    /// Which one it is.
    pub(super) generation: u64,
    /// Shows that a call is under way.
    _call: Arc<()>,
}

impl Line {
    /// A line whose calls may take `response`.
    pub(super) fn new(response: Duration) -> Self {
        Self { response, state: Mutex::default(), connecting: tokio::sync::Mutex::default() }
    }

    /// How many connections were made so far.
    pub(super) fn generation(&self) -> u64 {
        self.with(|state| state.generation)
    }

    /// The connection; a new one where there is none that is good.
    ///
    /// # Errors
    /// [`LinkError::Unavailable`], at once while the next attempt to connect is not due.
    pub(super) async fn hold(&self, options: &LinkOptions) -> Result<Held, LinkError> {
        if let Some(held) = self.fresh(options) {
            return Ok(held);
        }
        let tried_before = self.with(|state| state.tried);
        let _one_at_a_time = self.connecting.lock().await;
        if let Some(held) = self.fresh(options) {
            return Ok(held);
        }
        self.check_idle(options).await;
        if let Some(held) = self.fresh(options) {
            return Ok(held);
        }
        if let Some(error) = self.with(|state| state.barred(tried_before)) {
            return Err(LinkError::Unavailable(error));
        }
        match connect::connect(options, self.response).await {
            Ok(connection) => Ok(self.with(|state| {
                state.generation += 1;
                state.good_at = Some(Instant::now());
                state.calls = Arc::default();
                state.connection = Some(connection.clone());
                state.held(connection)
            })),
            Err(error) => {
                let error = Arc::new(error.into_redis());
                self.with(|state| {
                    state.tried += 1;
                    state.fail(&error);
                });
                Err(LinkError::Unavailable(error))
            }
        }
    }

    /// A call by `generation` was answered.
    pub(super) fn answered(&self, generation: u64) {
        self.with(|state| {
            if state.generation == generation {
                state.failures = 0;
                state.good_at = Some(Instant::now());
            }
        });
    }

    /// A call by `generation` failed.
    pub(super) fn failed(&self, generation: u64, error: &LinkError, remedy: Remedy) {
        match (remedy, error) {
            (Remedy::Rebuild, LinkError::Unavailable(error)) => self.with(|state| {
                if state.generation == generation && state.connection.is_some() {
                    state.fail(error);
                }
            }),
            (Remedy::Rebuild | Remedy::Keep, _) => self.answered(generation),
        }
    }

    fn fresh(&self, options: &LinkOptions) -> Option<Held> {
        self.with(|state| {
            let quiet = state.good_at.is_none_or(|at| at.elapsed() > options.timeouts.idle);
            let idle = quiet && Arc::strong_count(&state.calls) == 1;
            let connection = state.connection.as_ref().filter(|_| !idle)?.clone();
            Some(state.held(connection))
        })
    }

    /// Asks a connection that was idle whether it still lives, and drops it where it does not. So a call after a quiet
    /// time does not fail because of a restart that nobody noticed. Nothing but the question is lost by it.
    async fn check_idle(&self, options: &LinkOptions) {
        let Some((mut connection, generation)) =
            self.with(|state| state.connection.clone().map(|connection| (connection, state.generation)))
        else {
            return;
        };
        let ping = redis::cmd("PING");
        let asked = connect::bounded(options.timeouts.connect, async {
            // An error reply is an answer too; the call itself will find out what it means.
            match connection.command(&ping).await {
                Err(error) if error.code().is_none() => Err(error.into()),
                Ok(_) | Err(_) => Ok(()),
            }
        });
        let outcome = asked.await;
        self.with(|state| match outcome {
            Ok(()) if state.generation == generation => state.good_at = Some(Instant::now()),
            Err(_) if state.generation == generation => state.connection = None,
            Ok(()) | Err(_) => {}
        });
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn held(&self, connection: Connection) -> Held {
        Held { connection, generation: self.generation, _call: Arc::clone(&self.calls) }
    }

    /// The first attempt after a failure comes at once, the later ones after growing pauses.
    fn fail(&mut self, error: &Arc<RedisError>) {
        self.connection = None;
        self.failures = self.failures.saturating_add(1);
        self.last = Some(Arc::clone(error));
        self.retry_at =
            (self.failures > 1).then(|| Instant::now() + delay(&pauses(), self.failures.saturating_sub(1)));
    }

    /// Why a call is not to try again now: the pause is not over, or an attempt failed while the call waited for it.
    fn barred(&self, tried_before: u64) -> Option<Arc<RedisError>> {
        let pauses = self.retry_at.is_some_and(|at| at > Instant::now());
        self.last.clone().filter(|_| pauses || self.tried != tried_before)
    }
}
