//! The sender of the proofs: posts numbered events to any of several relays, each again and again until it is answered
//! 2xx, as Svix does, and keeps the book of what was. What becomes of an event at an app hangs on its id alone.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use clerk_relay::cli::sample;
use clerk_relay::clock::Clock;
use clerk_relay::secret::SigningSecret;
use clerk_relay::signature;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::clerk::SECRET;
use crate::support::relay::PATIENCE;

/// Senders posting at once.
const SENDERS: usize = 16;
/// Users that the events are about.
const SUBJECTS: u64 = 997;
/// A sender tries another relay when one does not answer within this; Svix waits 15 s.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// Before an event that was not answered 2xx is posted again.
const AGAIN_AFTER: Duration = Duration::from_millis(10);
/// What an event carries besides, so that it has a usual size.
const PADDING_BYTES: usize = 400;

/// Where the relays listen at the moment.
pub type Doors = Arc<Mutex<Vec<String>>>;

/// A number that an id always has.
pub fn number(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

/// The subject's number of the event of this id.
pub fn subject(id: &str) -> u64 {
    number(id) % SUBJECTS
}

/// The body of the event of this id.
pub fn body(id: &str) -> Vec<u8> {
    let data = json!({ "id": format!("user_{}", subject(id)), "padding": "x".repeat(PADDING_BYTES) });
    json!({ "type": "user.updated", "data": data }).to_string().into_bytes()
}

/// Posts events to relays.
#[derive(Clone)]
pub struct Sender {
    client: reqwest::Client,
    secret: SigningSecret,
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// 200.
    Kept,
    /// 200 with `duplicate`.
    Known,
    /// 503.
    Refused,
    /// None came.
    Nothing,
}

impl Sender {
    pub fn new() -> Self {
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        Self { client, secret: SigningSecret::parse(SECRET).unwrap().0 }
    }

    /// An id that no event had.
    pub fn new_id() -> String {
        sample::new_id(Clock::system().now())
    }

    /// Posts the event of this id once.
    pub async fn post(&self, door: &str, id: &str) -> Answer {
        let (now, body) = (Clock::system().now(), body(id));
        let signature = signature::sign(std::slice::from_ref(&self.secret), id, now, &body);
        let request = self
            .client
            .post(format!("{door}/webhooks/clerk"))
            .header("content-type", "application/json")
            .header("svix-id", id)
            .header("svix-timestamp", now.as_secs())
            .header("svix-signature", signature)
            .body(body);
        let Ok(reply) = request.send().await else { return Answer::Nothing };
        let status = reply.status();
        let Ok(bytes) = reply.bytes().await else { return Answer::Nothing };
        match status {
            StatusCode::OK => {
                let is_known = serde_json::from_slice::<Value>(&bytes).unwrap()["duplicate"] == true;
                if is_known { Answer::Known } else { Answer::Kept }
            }
            StatusCode::SERVICE_UNAVAILABLE => Answer::Refused,
            other => panic!("answered {other}"),
        }
    }
}

/// Senders at work.
pub struct Load {
    shared: Arc<Shared>,
    senders: Vec<tokio::task::JoinHandle<()>>,
}

struct Shared {
    doors: Doors,
    /// The ids that were answered 2xx.
    answered: Mutex<Vec<String>>,
    answers: AtomicUsize,
    /// Requests that were not answered 2xx, and had to be made again.
    refusals: AtomicUsize,
    /// Events to send at most.
    events_max: usize,
    begun: AtomicUsize,
    stop: AtomicBool,
}

impl Load {
    /// Posts new events to all `doors` until told to stop, `events_max` at most.
    pub fn start(doors: &Doors, events_max: usize) -> Self {
        let shared = Arc::new(Shared {
            doors: doors.clone(),
            answered: Mutex::default(),
            answers: AtomicUsize::new(0),
            refusals: AtomicUsize::new(0),
            events_max,
            begun: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let sender = Sender::new();
        let start = |_| tokio::spawn(send(sender.clone(), shared.clone()));
        let senders = (0..SENDERS).map(start).collect();
        Self { shared, senders }
    }

    /// Events answered 2xx so far.
    pub fn answers(&self) -> usize {
        self.shared.answers.load(Ordering::Relaxed)
    }

    /// Requests so far that were refused or not answered.
    pub fn refusals(&self) -> usize {
        self.shared.refusals.load(Ordering::Relaxed)
    }

    /// Waits until so many are answered, or all that there are.
    pub async fn reach(&self, answers: usize) {
        let (goal, since) = (answers.min(self.shared.events_max), Instant::now());
        let mut last = (0, since);
        while self.answers() < goal {
            if self.answers() > last.0 {
                last = (self.answers(), Instant::now());
            }
            assert!(last.1.elapsed() < PATIENCE, "no event was answered for {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Begins no more events, waits until those begun are answered, and returns the ids of all.
    pub async fn stop(self) -> Vec<String> {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.finish().await
    }

    /// Waits until all events are answered, and returns their ids.
    pub async fn finish(self) -> Vec<String> {
        for sender in self.senders {
            sender.await.unwrap();
        }
        std::mem::take(&mut self.shared.answered.lock().unwrap())
    }
}

async fn send(sender: Sender, shared: Arc<Shared>) {
    while !shared.stop.load(Ordering::Relaxed)
        && shared.begun.fetch_add(1, Ordering::Relaxed) < shared.events_max
    {
        let (id, since) = (Sender::new_id(), Instant::now());
        loop {
            let door = {
                let doors = shared.doors.lock().unwrap();
                doors[rand::random::<u32>() as usize % doors.len()].clone()
            };
            let answer = tokio::time::timeout(ANSWER_MAX, sender.post(&door, &id)).await;
            if matches!(answer, Ok(Answer::Kept | Answer::Known)) {
                break;
            }
            shared.refusals.fetch_add(1, Ordering::Relaxed);
            assert!(since.elapsed() < PATIENCE, "{id} was not answered for {PATIENCE:?}");
            tokio::time::sleep(AGAIN_AFTER).await;
        }
        shared.answered.lock().unwrap().push(id);
        shared.answers.fetch_add(1, Ordering::Relaxed);
    }
}
