//! Nothing that is secret leaves the relay but to its targets: a whole run at the loudest log, every route asked by
//! somebody who may only look, and everything that was said is searched.

use bytes::Bytes;
use clerk_relay::cli::sample;
use clerk_relay::clock::Clock;
use clerk_relay::http::{self, Settings};
use clerk_relay::secret::SigningSecret;
use clerk_relay::shutdown::Shutdown;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper::{Request, Response};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{READ, WRITE, answer, request};
use crate::support::clerk::{Clerk, SECRET};
use crate::support::relay::{PATIENCE, Relay, client, eventually};
use crate::support::stage::{Stage, on_both_stores};

on_both_stores! {
    no_secret_is_in_any_reply_log_line_or_metric
}

const OLD_SECRET: &str = "whsec_b2xkIHNlY3JldCBvZiB0aGUgc291cmNlIQ==";
const APP_SECRET: &str = "whsec_dGhlIGFwcCdzIG93biBzaWduaW5nIGtleQ==";
const WRONG_TOKEN: &str = "a-token-of-nobody-at-all";
const BYPASS: &str = "bypass-0f8e2d7c6b5a";
/// In place of the codes and texts of the samples, which are too short to be searched for.
const OTP: &str = "otp-31415926535897";
const LINK: &str = "ticket-eyJhbGciOiJSUzI1NiJ9-2718281828";
const PRIVATE: &str = "private-1618033988749";

/// An app that sends back what it got.
async fn echo(status: u16) -> (String, Shutdown) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let settings = Settings { connections: 64, idle_timeout: PATIENCE, request_deadline: PATIENCE };
    let shutdown = Shutdown::new();
    let service = service_fn(move |request: Request<hyper::body::Incoming>| async move {
        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let mut response = Response::new(Full::<Bytes>::from(body));
        *response.status_mut() = status.try_into().unwrap();
        Ok::<_, std::convert::Infallible>(response)
    });
    tokio::spawn(http::serve(listener, settings, shutdown.clone(), service));
    (url, shutdown)
}

fn config(taking: &str, failing: &str) -> Value {
    json!({
        "sources": { "clerk": { "signing_secrets": [SECRET, OLD_SECRET] } },
        "targets": {
            "takes": { "url": taking, "headers": { "x-vercel-protection-bypass": BYPASS } },
            "fails": { "url": failing, "signing_secret": APP_SECRET, "breaker": "off",
                "retry": { "attempts": 2, "initial": "10ms" } },
        },
        "log": { "format": "json", "level": "debug" },
        "admin": { "listen": "127.0.0.1:0", "tokens": [
            { "name": "looks", "token": READ, "can": "read" },
            { "name": "does", "token": WRITE, "can": "write" },
        ] },
    })
}

/// The samples with secrets that are long enough to be found.
fn bodies() -> Vec<Value> {
    ["email.created", "sms.created", "invitation.created", "organizationInvitation.created", "user.created"]
        .map(|event_type| {
            let mut body: Value = serde_json::from_str(sample::body(event_type).unwrap()).unwrap();
            let data = &mut body["data"];
            match event_type {
                "email.created" | "sms.created" => {
                    data["data"]["otp_code"] = json!(OTP);
                    for name in ["body", "body_plain", "message"] {
                        data[name] = json!(format!("Your code is {OTP}: https://x.example/?ticket={LINK}"));
                    }
                }
                "user.created" => data["private_metadata"] = json!({ "stripe": PRIVATE }),
                _ => {
                    data["url"] = json!(format!("https://x.example/v1/tickets/accept?ticket={LINK}"));
                    data["private_metadata"] = json!({ "note": PRIVATE });
                }
            }
            body
        })
        .to_vec()
}

/// Requests that ingress refuses, each with a payload.
async fn refuse(relay: &Relay, body: &Value) {
    let (clerk, now) = (Clerk::new(relay), Clock::system().now());
    let stale = now.minus(std::time::Duration::from_secs(3600));
    let body = body.to_string().into_bytes();
    assert_eq!(clerk.post("msg_stale", stale, body.clone()).await.unwrap(), 401);
    let url: url::Url = format!("{}/webhooks/clerk", relay.ingress).parse().unwrap();
    let other = SigningSecret::from_key(b"a key that nobody has here");
    let text = String::from_utf8(body.clone()).unwrap();
    let wrong = sample::request(&client(), &url, &other, "msg_wrong", now, &text).unwrap();
    assert_eq!(wrong.send().await.unwrap().status(), 401);
    assert_eq!(client().post(url).body(body).send().await.unwrap().status(), 400);
}

/// Everything that GET answers to a token that may only look, on every route that the document has, and `/metrics`.
async fn everything(relay: &Relay, events: &[String]) -> String {
    let (_, document) = answer(request(relay, Method::GET, "/openapi.json")).await;
    let mut said = document.to_string();
    let paths = document["paths"].as_object().unwrap().iter();
    let readable = paths.filter(|(path, methods)| methods.get("get").is_some() && !path.ends_with("/stream"));
    let mut paths: Vec<String> = readable.map(|(path, _)| path.clone()).collect();
    paths.extend(["/metrics".to_owned(), "/api/v1/events/{event}?reveal=true".to_owned()]);
    for path in paths {
        for event in events {
            for token in [READ, WRONG_TOKEN] {
                let path = path.replace("{event}", event).replace("{target}", "fails").replace("{job}", "1");
                let reply = request(relay, Method::GET, &path).bearer_auth(token).send().await.unwrap();
                assert!(token == READ || path.starts_with("/health") || reply.status() == 401, "{path}");
                said += &format!("{path} {:?} {}\n", reply.headers().clone(), reply.text().await.unwrap());
            }
        }
    }
    said
}

async fn no_secret_is_in_any_reply_log_line_or_metric(stage: Stage) {
    let ((taking, _taking), (failing, _failing)) = (echo(200).await, echo(500).await);
    let relay = stage.start(&config(&taking, &failing));
    let (clerk, bodies) = (Clerk::new(&relay), bodies());
    let mut ids = Vec::new();
    for body in &bodies {
        ids.push(clerk.send_body(body.to_string().into_bytes()).await);
    }
    refuse(&relay, &bodies[1]).await;
    let api = async |method: Method, path: &str| {
        answer(request(&relay, method, &format!("/api/v1/{path}")).bearer_auth(WRITE)).await
    };
    eventually("everything has ended", async || {
        let open = api(Method::GET, "deliveries?state=queued,in_flight,waiting,parked").await.1;
        let dead = api(Method::GET, "dead-letters").await.1;
        let count = |page: &Value| page["rows"].as_array().unwrap().len();
        let refusals = api(Method::GET, "refusals").await.1;
        ((count(&open), count(&dead), count(&refusals)) == (0, ids.len(), 3)).then_some(())
    })
    .await;
    let mut said = String::new();
    for (method, path) in [
        (Method::POST, format!("deliveries/{}/fails/retry", ids[0])),
        (Method::POST, format!("deliveries/{}/fails/discard", ids[1])),
        (Method::POST, "targets/takes/pause".to_owned()),
        (Method::DELETE, "subjects/nobody@example.com?dry_run=true".to_owned()),
        (Method::GET, "events?where=nobody@example.com".to_owned()),
    ] {
        let (status, body) = api(method, &path).await;
        assert!(status < 300, "{path}: {body}");
        said += &body.to_string();
    }
    // The payload is there, so that what is not found below was taken out.
    let whole = api(Method::GET, &format!("events/{}?reveal=true", ids[0])).await.1.to_string();
    assert!(whole.contains(OTP) && whole.contains(LINK));
    said += &everything(&relay, &ids).await;
    let (_, log) = relay.stop();
    assert!(
        log.contains("DEBUG") && log.contains("delivery.attempted") && log.contains("admin.refused"),
        "{log}"
    );
    let bare = |secret: &'static str| secret.trim_start_matches("whsec_").trim_end_matches('=');
    let secrets = [bare(SECRET), bare(OLD_SECRET), bare(APP_SECRET), READ, WRITE, WRONG_TOKEN, BYPASS];
    for secret in secrets.into_iter().chain([OTP, LINK, PRIVATE]) {
        for (place, text) in [("a reply", &said), ("the log", &log)] {
            let found = text.lines().find(|line| line.contains(secret));
            assert!(found.is_none(), "{secret} is in {place}: {}", found.unwrap_or_default());
        }
    }
}
