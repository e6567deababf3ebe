//! Each refusal is listed with the cause that helps.

use clerk_relay::clock::Timestamp;

use super::client::{Post, secret};
use super::relay::{Relay, Setup, source};

/// A request and what must be told of it.
struct Case {
    post: Post,
    status: u16,
    code: &'static str,
    /// All of these are in the cause.
    words: &'static [&'static str],
}

fn case(post: Post, status: u16, code: &'static str, words: &'static [&'static str]) -> Case {
    Case { post, status, code, words }
}

/// Sends each and compares what is then listed, in order.
async fn check(relay: &Relay, cases: &[Case]) {
    for Case { post, status, code, .. } in cases {
        let answer = relay.ask(post).await;
        assert_eq!((answer.status, answer.code().as_str()), (*status, *code));
    }
    let refusals = relay.refusals(cases.len()).await;
    assert_eq!(refusals.len(), cases.len());
    for (refusal, Case { post, status, code, words }) in refusals.iter().zip(cases) {
        assert_eq!((refusal.status, refusal.code.as_str()), (*status, *code));
        for word in *words {
            assert!(refusal.cause.contains(word), "{code}: {word:?} is not in {:?}", refusal.cause);
        }
        assert_eq!(refusal.remote.as_deref(), Some("127.0.0.1"));
        assert_eq!(refusal.user_agent.as_deref(), Some("Svix-Webhooks/1.84.0 (sender-test)"));
        assert_eq!(
            refusal.source.as_ref().map(|name| format!("/webhooks/{name}")).as_deref(),
            Some(post.path)
        );
        assert_eq!(refusal.svix_id.is_some(), !post.without.contains(&"Svix-Id"));
    }
    assert_eq!(relay.counts().refused, cases.len() as u64);
}

#[tokio::test]
async fn the_cause_of_a_signature_that_proves_nothing_is_told() {
    let mut other = source("other");
    other.signing_secrets = vec![secret(2), secret(3)];
    let relay = Relay::start(Setup { sources: vec![source("clerk"), other], ..Setup::default() }).await;
    let now = relay.clock.now().as_secs();
    let late_by = |seconds: i64| Post::new("msg_1", Timestamp::from_secs(now - seconds), "{}");
    let good = || relay.post("msg_1", "{}");
    let none = good().without("Svix-Id").without("Svix-Timestamp").without("Svix-Signature");
    let encoded = good().signed_with(secret(9)).line("Content-Encoding: gzip");
    let cases = [
        case(good().without("Svix-Id"), 400, "missing_headers", &["svix-id", "proxy"]),
        case(none, 400, "missing_headers", &["no signature headers at all"]),
        case(late_by(4000), 401, "stale_timestamp", &["40", "s old", "clock is ahead"]),
        case(late_by(-4000), 401, "stale_timestamp", &["s in the future", "clock is behind"]),
        case(good().signed_with(secret(3)), 401, "invalid_signature", &["source other"]),
        case(good().signed_with(secret(9)), 401, "invalid_signature", &["another environment's secret"]),
        case(encoded, 401, "invalid_signature", &["compresses"]),
    ];
    check(&relay, &cases).await;
}

#[tokio::test]
async fn the_cause_of_everything_else_is_told() {
    let mut clerk = source("clerk");
    clerk.instance_id = Some("ins_ours".to_owned());
    clerk.body_max = 1000;
    let mut closed = source("closed");
    closed.allow_from = vec!["192.0.2.0/24".parse().unwrap()];
    let relay = Relay::start(Setup { sources: vec![clerk, closed], ..Setup::default() }).await;
    let shut_out = relay.post("msg_1", "{}").to("/webhooks/closed");
    let foreign = relay.post("msg_1", r#"{"instance_id":"ins_theirs"}"#);
    let cases = [
        case(shut_out, 403, "sender_not_allowed", &["127.0.0.1", "trusted_proxies"]),
        case(relay.post("msg_1", " ".repeat(1001)), 413, "body_too_large", &["1001", "1000"]),
        case(foreign, 403, "wrong_instance", &["ins_theirs", "ins_ours"]),
        case(relay.post("msg_1", "{}"), 403, "wrong_instance", &["unknown", "ins_ours"]),
    ];
    check(&relay, &cases).await;
}

#[tokio::test]
async fn an_unknown_path_is_not_worth_a_refusal_but_a_wrong_method_is() {
    let relay = Relay::start(Setup::default()).await;
    assert_eq!(relay.ask(&relay.post("msg_1", "{}").to("/nowhere")).await.status, 404);
    let mut client = relay.connect().await;
    client.send(b"GET /webhooks/clerk HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 405);
    let refusals = relay.refusals(1).await;
    assert_eq!((refusals.len(), refusals[0].code.as_str()), (1, "method_not_allowed"));
    assert!(refusals[0].cause.starts_with("GET"));
}

#[tokio::test]
async fn a_flood_is_bounded_and_what_does_not_fit_is_counted() {
    let mut relay = Relay::start(Setup::default()).await;
    let mut client = relay.connect().await;
    let flood = 3000;
    for n in 0..flood {
        client.send(&relay.post(&format!("msg_{n}"), "{}").signed_with(secret(9)).bytes()).await;
        assert_eq!(client.answer().await.status, 401);
    }
    assert_eq!(relay.counts().refused, flood);
    relay.stop().await;
    let kept = relay.refusals_now().await;
    assert_eq!(kept.last().unwrap().svix_id.as_deref(), Some("msg_2999"), "the newest are kept");
}

#[tokio::test]
async fn foreign_text_is_cut() {
    let relay = Relay::start(Setup::default()).await;
    let post = relay.post("msg_1", "{}").without("Svix-Id").line(format!("Svix-Id: {}", "x".repeat(5000)));
    assert_eq!(relay.ask(&post).await.status, 401);
    let refusal = relay.refusals(1).await.remove(0);
    assert_eq!(refusal.svix_id.unwrap().len(), 128);
    assert!(refusal.cause.len() < 300);
}
