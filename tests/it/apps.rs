//! Real apps behind the relay: `@clerk/backend`, `svix` behind Express, `@clerk/fastify`, each a Node program that only
//! knows its signing secret. They must accept the first delivery, one after several retries, and one that is signed
//! when the event's own timestamp has long passed every tolerance.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clerk_relay::cli::sample;
use clerk_relay::clock::Clock;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::clerk::{Clerk, SECRET};
use crate::support::relay::{Home, eventually};

/// Every app that there is one of.
const APPS: [&str; 3] = ["clerk", "express", "fastify"];
/// How far the sender's timestamp lies back: just inside the relay's tolerance of 5 minutes.
const AGE: Duration = Duration::from_secs(296);
/// Failures before the old event is taken: 1 + 2 + 4 s of waiting put its own timestamp outside of it.
const FAILURES: u32 = 3;

/// A Node app that runs until it is dropped.
struct App {
    child: Child,
    url: String,
    /// What it prints of each request; written by a thread that ends with its output.
    requests: Arc<Mutex<Vec<Value>>>,
}

impl App {
    fn start(name: &str, fail_first: u32) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node");
        assert!(
            folder.join("node_modules").is_dir(),
            "the test apps are not installed: run `npm ci --prefix tests/node`, or scripts/test, which does it"
        );
        let node = std::env::var("CLERK_RELAY_NODE").unwrap_or_else(|_| "node".to_owned());
        let mut child = Command::new(&node)
            .arg(folder.join(format!("{name}.mjs")))
            .env("PORT", "0")
            .env("CLERK_WEBHOOK_SIGNING_SECRET", SECRET)
            .env("FAIL_FIRST", fail_first.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("`{node}` does not start ({error}): install Node 20, or run scripts/test")
            });
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let listening = lines.find(|line| line.starts_with("listening ")).expect("the app listens");
        let url = format!("http://127.0.0.1:{}/api/webhooks/clerk", &listening["listening ".len()..]);
        let requests = Arc::new(Mutex::new(Vec::new()));
        let record = requests.clone();
        std::thread::spawn(move || {
            for line in lines {
                if let Ok(request) = serde_json::from_str(&line) {
                    record.lock().unwrap().push(request);
                }
            }
        });
        Self { child, url, requests }
    }

    async fn requests(&self, count: usize) -> Vec<Value> {
        eventually(&format!("{count} requests"), async || {
            let requests = self.requests.lock().unwrap().clone();
            (requests.len() >= count).then_some(requests)
        })
        .await
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended by itself
        let _ = self.child.wait();
    }
}

fn config(app: &App) -> Value {
    json!({
        "sources": { "clerk": { "signing_secrets": [SECRET] } },
        "targets": { "app": {
            "url": app.url, "retry": { "initial": "1s", "multiplier": 2, "jitter": 0 },
            "expire": { "email.created": "never", "sms.created": "never" },
        } },
    })
}

#[tokio::test]
async fn every_app_accepts_every_type_at_the_first_attempt() {
    for name in APPS {
        let app = App::start(name, 0);
        let home = Home::new();
        let relay = home.start(&config(&app));
        let clerk = Clerk::new(&relay);
        for event_type in sample::types() {
            clerk.send(event_type).await;
        }
        let requests = app.requests(sample::types().len()).await;
        assert_eq!(requests.len(), sample::types().len());
        for request in requests {
            assert_eq!(request["ok"], true, "{name}: {request}");
        }
    }
}

#[tokio::test]
async fn every_app_accepts_an_event_whose_own_timestamp_is_long_out_of_tolerance() {
    for name in APPS {
        let app = App::start(name, FAILURES);
        let home = Home::new();
        let relay = home.start(&config(&app));
        let signed_at = Clock::system().now().minus(AGE);
        let id = sample::new_id(signed_at);
        let body = sample::body("user.updated").unwrap().as_bytes().to_vec();
        assert_eq!(Clerk::new(&relay).post(&id, signed_at, body).await.unwrap(), StatusCode::OK);
        let requests = app.requests(FAILURES as usize + 1).await;
        for request in &requests {
            assert_eq!(request["ok"], true, "{name} refused an attempt: {request}");
        }
        let last = &requests[FAILURES as usize];
        assert_eq!(last["status"], 200);
        assert_eq!(last["svix_id"], id.as_str());
        let last_s: i64 = last["svix_timestamp"].as_str().unwrap().parse().unwrap();
        assert!(
            last_s - signed_at.as_secs() > 300,
            "the last attempt was signed within the tolerance of the first"
        );
    }
}
