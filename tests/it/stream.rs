//! The live stream on a real listener: who hears what, how many may listen, and that nobody holds on to anything.

use std::sync::Arc;
use std::time::Duration;

use clerk_relay::admin::{self, Deps, Timing};
use clerk_relay::clock::Timestamp;
use clerk_relay::shutdown::Shutdown;
use clerk_relay::store::job::asking::JobBell;
use clerk_relay::store::readiness::{Identity, Readiness};
use clerk_relay::telemetry::Telemetry;
use clerk_relay::telemetry::feed::{Feed, News};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::contract::harness::{Lab, OnSqlite};
use crate::support::clerk::SECRET;
use crate::support::relay::{Home, PATIENCE, client};

/// Listeners at a time.
const PLACES: usize = 64;
/// What the feed holds for a slow listener.
const HELD: u64 = 4_096;

/// An admin API by itself, with the feed that its streams show.
struct Api {
    feed: Feed,
    addr: std::net::SocketAddr,
    shutdown: Shutdown,
    serving: JoinHandle<()>,
    _lab: Lab,
}

impl Api {
    async fn start() -> Self {
        Self::with(Timing::default()).await
    }

    async fn with(timing: Timing) -> Self {
        let lab = Lab::with_targets(&OnSqlite, &["app"]).await;
        let (telemetry, shutdown) = (Telemetry::default(), Shutdown::new());
        let identity =
            Identity { version: "0", fingerprint: "000000000000".into(), started_at: lab.clock.now() };
        let deps = Deps {
            store: lab.store.clone(),
            clock: lab.clock.clone(),
            tokens: Arc::new([]),
            readiness: Arc::new(Readiness::new(lab.store.clone(), CancellationToken::new(), identity)),
            telemetry: telemetry.clone(),
            job_bell: JobBell::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let serving = tokio::spawn(admin::run_timed(listener, deps, timing, shutdown.clone()));
        Self { feed: telemetry.feed, addr, shutdown, serving, _lab: lab }
    }

    /// Asks for a stream; returns once the head of the answer is there, and with it the listener.
    async fn listen(&self, parameters: &str) -> Stream {
        let mut socket = TcpStream::connect(self.addr).await.unwrap();
        let request = format!("GET /api/v1/stream{parameters} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut stream = Stream { socket, text: String::new() };
        stream.until("\r\n\r\n").await;
        stream
    }

    fn tell(&self, name: &str, event_type: &str) {
        self.feed.tell(|| News { event_type: Some(event_type.to_owned()), ..news(name) });
    }

    async fn listeners_are(&self, count: usize) {
        let mut listeners = self.feed.listeners();
        timeout(PATIENCE, listeners.wait_for(|now| *now == count)).await.expect("in time").unwrap();
    }
}

fn news(name: &str) -> News {
    News::new(name, Timestamp::from_ms(1_784_106_240_055))
}

/// The client's end of a stream, as raw text.
struct Stream {
    socket: TcpStream,
    text: String,
}

impl Stream {
    /// Reads until `mark` has come, and returns what came before it.
    async fn until(&mut self, mark: &str) -> String {
        loop {
            if let Some(at) = self.text.find(mark) {
                let rest = self.text.split_off(at + mark.len());
                return std::mem::replace(&mut self.text, rest);
            }
            let mut bytes = [0; 4096];
            let count = self.socket.read(&mut bytes).await.unwrap();
            assert!(count > 0, "it ended before {mark:?}: {}", self.text);
            self.text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        }
    }

    /// The name and the data of the next event; comments are passed over.
    async fn next(&mut self) -> (String, Value) {
        self.until("event: ").await;
        let name = self.until("\n").await.trim().to_owned();
        self.until("data: ").await;
        (name, serde_json::from_str(&self.until("\n").await).unwrap())
    }

    /// Reads to the end and returns what came.
    async fn rest(mut self) -> String {
        let mut rest = Vec::new();
        self.socket.read_to_end(&mut rest).await.unwrap();
        self.text + &String::from_utf8(rest).unwrap()
    }
}

#[tokio::test]
async fn a_listener_hears_what_it_asked_for() {
    let api = Api::start().await;
    let mut all = api.listen("").await;
    let mut some =
        api.listen("?type=user.created&name=delivery.attempted&target=app&source=clerk&subject=user_1").await;
    let mut mail = api.listen("?subject=jane@example.com").await;
    api.tell("event.received", "user.created");
    let told = News {
        event_type: Some("user.created".to_owned()),
        target: Some("app".to_owned()),
        source: Some("clerk".to_owned()),
        subject: Some("user_1".to_owned()),
        status: Some(503),
        ..news("delivery.attempted")
    };
    for other in [
        News { event_type: Some("user.deleted".to_owned()), ..told.clone() },
        News { target: Some("other".to_owned()), ..told.clone() },
        News { source: Some("other".to_owned()), ..told.clone() },
        News { subject: Some("user_2".to_owned()), ..told.clone() },
        News { subject: None, ..told.clone() },
        told.clone(),
    ] {
        api.feed.tell(|| other);
    }
    let digest = clerk_relay::event::Subject::of("Jane@example.com").unwrap();
    api.feed.pass_on(News { subject: Some(digest.as_str().to_owned()), ..news("two\r\nlines") });

    assert_eq!(all.next().await.0, "event.received");
    let told = serde_json::to_value(&told).unwrap();
    assert_eq!(some.next().await, ("delivery.attempted".to_owned(), told.clone()));
    assert_eq!(
        (&told["type"], &told["status"], told.get("error")),
        (&json!("user.created"), &json!(503), None)
    );
    let (name, data) = mail.next().await;
    assert_eq!((name.as_str(), &data["name"]), ("two", &json!("two\r\nlines")));
}

#[tokio::test]
async fn a_wrong_request_gets_no_stream() {
    let api = Api::start().await;
    for parameters in
        ["?state=dead", "?source=No%20Name", "?target=", "?type=", "?subject=", "?name=", "?since=1"]
    {
        let answer = api.listen(parameters).await.rest_of_answer().await;
        assert!(answer.contains("\"bad_request\""), "{parameters}: {answer}");
    }
    api.listeners_are(0).await;
}

impl Stream {
    /// The JSON of an answer that is no stream.
    async fn rest_of_answer(mut self) -> String {
        self.until("}}").await
    }
}

#[tokio::test]
async fn one_more_than_64_is_refused_until_another_leaves() {
    let api = Api::start().await;
    let mut listening = Vec::new();
    for _ in 0..PLACES {
        listening.push(api.listen("").await);
    }
    let refused = api.listen("").await.rest_of_answer().await;
    assert!(refused.contains("\"too_many_listeners\""), "{refused}");
    api.listeners_are(PLACES).await;

    drop(listening.pop());
    let mut listeners = api.feed.listeners();
    while *listeners.borrow_and_update() == PLACES {
        api.tell("event.received", "user.created"); // what is sent to it finds nobody
        tokio::task::yield_now().await;
    }
    api.tell("event.refused", "user.created");
    listening.push(api.listen("").await);
    api.listeners_are(PLACES).await;
    api.tell("delivery.attempted", "user.created");
    assert_eq!(listening.last_mut().unwrap().next().await.0, "delivery.attempted");
    listening[0].until("event: delivery.attempted").await;
}

#[tokio::test]
async fn a_stop_ends_every_stream_and_waits_for_none() {
    let api = Api::start().await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(api.listen("").await);
    }
    api.shutdown.stop.cancel();
    timeout(PATIENCE, api.serving).await.expect("nothing is cut: nobody said abort").unwrap();
    for stream in streams {
        assert_eq!(stream.rest().await, "0\r\n\r\n", "an orderly end");
    }
}

#[tokio::test]
async fn a_listener_that_is_too_slow_is_told_how_much_it_missed() {
    let api = Api::start().await;
    let mut stream = api.listen("?name=event.received").await;
    for _ in 0..HELD + 904 {
        api.tell("event.received", "user.created"); // without a pause: the listener's task has no turn meanwhile
    }
    assert_eq!(stream.next().await, ("missed".to_owned(), json!({ "missed": 904 })));
    for _ in 0..HELD {
        assert_eq!(stream.next().await.0, "event.received");
    }
}

#[tokio::test]
async fn a_stream_outlives_the_idle_timeout_while_nothing_happens() {
    let timing = Timing { idle: Duration::from_secs(2), comment_every: Duration::from_millis(100) };
    let api = Api::with(timing).await;
    let mut stream = api.listen("").await;
    let began = tokio::time::Instant::now();
    while began.elapsed() < timing.idle + Duration::from_secs(1) {
        stream.until(":\n\n").await; // a comment
    }
    api.tell("event.received", "user.created");
    assert_eq!(stream.next().await.0, "event.received");
}

#[tokio::test]
async fn a_listener_that_reads_nothing_is_let_go() {
    let timing = Timing { idle: Duration::from_millis(300), ..Timing::default() };
    let api = Api::with(timing).await;
    let stream = api.listen("").await;
    let long = "x".repeat(10_000);
    let mut listeners = api.feed.listeners();
    let let_go = async {
        while *listeners.borrow_and_update() == 1 {
            for _ in 0..100 {
                api.feed.tell(|| News { subject: Some(long.clone()), ..news("event.received") });
            }
            // Time passes for whoever is blocked; the end of the listener is what is waited for.
            let _ = timeout(Duration::from_millis(10), listeners.changed()).await;
        }
    };
    timeout(PATIENCE, let_go).await.expect("it is let go");
    drop(stream);
}

#[tokio::test]
async fn a_stream_needs_a_token_like_everything() {
    let home = Home::new();
    let relay = home.start(&json!({
        "sources": { "clerk": { "signing_secrets": [SECRET] } },
        "admin": { "listen": "127.0.0.1:0", "tokens": [
            { "name": "looks", "token": "a-token-that-may-only-look", "can": "read" },
        ] },
    }));
    let ask = || client().get(format!("{}/api/v1/stream", relay.admin));
    assert_eq!(ask().send().await.unwrap().status(), 401);
    let stream = ask().bearer_auth("a-token-that-may-only-look").send().await.unwrap();
    assert_eq!(
        (stream.status().as_u16(), &stream.headers()["content-type"]),
        (200, &"text/event-stream".parse().unwrap())
    );
    let (status, log) = relay.stop();
    assert!(status.success(), "a listener does not hold up a stop: {log}");
}
