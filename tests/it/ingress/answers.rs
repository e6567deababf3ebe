//! Each row of the table of answers, and what is in the store after it.

use std::fs;
use std::path::Path;

use clerk_relay::config::values;

use super::client::{Post, secret};
use super::relay::{Relay, Setup, source};

const BODY: &str = r#"{"data":{"id":"user_1"},"object":"event","type":"user.created"}"#;

#[tokio::test]
async fn an_event_is_stored_and_then_answered() {
    let relay = Relay::start(Setup::default()).await;
    let answer = relay.ask(&relay.post("msg_1", BODY)).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"received":true}"#));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let event = relay.stored("msg_1").await.unwrap();
    assert_eq!(event.body, BODY);
    assert_eq!((&*event.event_type, event.remote.as_deref()), ("user.created", Some("127.0.0.1")));
    assert_eq!(event.secret_id, secret(1).id());
    assert_eq!(relay.counts().received, 1);
    assert_eq!(relay.counts().unwanted, 1, "there are no targets");
}

#[tokio::test]
async fn a_known_id_is_a_duplicate_whatever_it_carries() {
    let relay = Relay::start(Setup::default()).await;
    relay.ask(&relay.post("msg_1", BODY)).await;
    for body in [BODY, r#"{"type":"user.updated"}"#] {
        let answer = relay.ask(&relay.post("msg_1", body)).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"received":true,"duplicate":true}"#));
    }
    assert_eq!(relay.stored("msg_1").await.unwrap().body, BODY, "the first is kept");
    assert_eq!(relay.counts().duplicates, 2);
}

#[tokio::test]
async fn any_secret_of_the_source_will_do() {
    let mut clerk = source("clerk");
    clerk.signing_secrets = vec![secret(1), secret(2)];
    let relay = Relay::start(Setup { sources: vec![clerk], ..Setup::default() }).await;
    let answer = relay.ask(&relay.post("msg_1", BODY).signed_with(secret(2))).await;
    assert_eq!(answer.status, 200);
    assert_eq!(relay.stored("msg_1").await.unwrap().secret_id, secret(2).id());
}

#[tokio::test]
async fn two_sources_may_rightly_get_the_same_id() {
    let relay =
        Relay::start(Setup { sources: vec![source("clerk"), source("other")], ..Setup::default() }).await;
    for path in ["/webhooks/clerk", "/webhooks/other"] {
        let answer = relay.ask(&relay.post("msg_1", BODY).to(path)).await;
        assert_eq!(answer.body, r#"{"received":true}"#, "{path}");
    }
}

#[tokio::test]
async fn every_sample_is_stored_byte_for_byte() {
    let relay = Relay::start(Setup::default()).await;
    let mut client = relay.connect().await;
    let samples = folder("src/cli/samples");
    assert_eq!(samples.len(), 49);
    for (name, body) in samples {
        let id = format!("msg_{}", name.replace('.', "_"));
        assert_eq!(client.ask(&relay.post(&id, body.clone())).await.status, 200, "{name}");
        let event = relay.stored(&id).await.unwrap();
        assert_eq!(event.body, body, "{name}");
        assert_eq!(format!("{}.json", event.event_type), name);
    }
}

#[tokio::test]
async fn every_hard_body_is_stored_byte_for_byte() {
    let relay = Relay::start(Setup::default()).await;
    let mut client = relay.connect().await;
    for (name, body) in folder("tests/fixtures/hard-bodies") {
        let id = format!("msg_{}", name.replace('.', "_"));
        assert_eq!(client.ask(&relay.post(&id, body.clone())).await.status, 200, "{name}");
        assert_eq!(relay.stored(&id).await.unwrap().body, body, "{name}");
    }
    assert_eq!(&*relay.stored("msg_empty_json").await.unwrap().event_type, "unknown");
    assert_eq!(&*relay.stored("msg_invalid-utf8_json").await.unwrap().event_type, "unknown");
}

fn folder(path: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn a_large_body_within_the_limit_is_stored_whole() {
    let relay = Relay::start(Setup::default()).await;
    let body: Vec<u8> =
        (0..1024 * 1024).map(|n: u32| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    assert_eq!(relay.ask(&relay.post("msg_1", body.clone())).await.status, 200);
    assert_eq!(relay.stored("msg_1").await.unwrap().body, body);
}

#[tokio::test]
async fn a_chunked_body_is_stored_without_its_chunks() {
    let relay = Relay::start(Setup::default()).await;
    let post = relay.post("msg_1", BODY).without("Content-Length").line("Transfer-Encoding: chunked");
    let mut client = relay.connect().await;
    client.send(&post.head()).await;
    for part in BODY.as_bytes().chunks(7) {
        client.send(&[format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat()).await;
    }
    client.send(b"0\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(relay.stored("msg_1").await.unwrap().body, BODY);
}

#[tokio::test]
async fn another_path_is_404_and_another_method_405() {
    let relay = Relay::start(Setup::default()).await;
    let mut client = relay.connect().await;
    for path in ["/", "/webhooks", "/webhooks/clerk/", "/webhooks/other", "/api/v1/events"] {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "no_such_path"), "{path}");
    }
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        client.send(format!("{method} /webhooks/clerk HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await;
        let answer = client.answer().await; // on one connection: a request without a body does not end it
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{method}");
    }
}

#[tokio::test]
async fn a_query_is_no_part_of_the_path() {
    let relay = Relay::start(Setup::default()).await;
    assert_eq!(relay.ask(&relay.post("msg_1", BODY).to("/webhooks/clerk?x=1")).await.status, 200);
}

#[tokio::test]
async fn a_missing_or_blank_header_is_400() {
    let relay = Relay::start(Setup::default()).await;
    for name in ["Svix-Id", "Svix-Timestamp", "Svix-Signature"] {
        for line in [None, Some(format!("{name}:  \t"))] {
            let mut post = relay.post("msg_1", BODY).without(name);
            post.lines.extend(line);
            let answer = relay.ask(&post).await;
            assert_eq!((answer.status, answer.code().as_str()), (400, "missing_headers"), "{name}");
        }
    }
    assert!(relay.stored("msg_1").await.is_none());
}

#[tokio::test]
async fn a_wrong_signature_or_time_is_401() {
    let relay = Relay::start(Setup::default()).await;
    let mut client = relay.connect().await;
    let forged = client.ask(&relay.post("msg_1", BODY).signed_with(secret(9))).await;
    assert_eq!((forged.status, forged.code().as_str()), (401, "invalid_signature"));
    let mut changed = relay.post("msg_1", BODY).bytes();
    *changed.last_mut().unwrap() = b' ';
    client.send(&changed).await;
    assert_eq!(client.answer().await.code(), "invalid_signature");
    for seconds in [-310, 310] {
        let at = clerk_relay::clock::Timestamp::from_secs(relay.clock.now().as_secs() + seconds);
        let stale = client.ask(&Post::new("msg_1", at, BODY)).await;
        assert_eq!((stale.status, stale.code().as_str()), (401, "stale_timestamp"), "{seconds} s");
    }
    assert!(relay.stored("msg_1").await.is_none());
    assert_eq!(
        client.ask(&relay.post("msg_1", BODY)).await.body,
        r#"{"received":true}"#,
        "the id was not burned"
    );
}

#[tokio::test]
async fn an_event_of_another_instance_is_403() {
    let mut clerk = source("clerk");
    clerk.instance_id = Some("ins_ours".to_owned());
    let relay = Relay::start(Setup { sources: vec![clerk], ..Setup::default() }).await;
    for body in [r#"{"instance_id":"ins_theirs"}"#, r#"{"type":"user.created"}"#, ""] {
        let answer = relay.ask(&relay.post("msg_1", body)).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "wrong_instance"), "{body}");
    }
    assert_eq!(relay.ask(&relay.post("msg_1", r#"{"instance_id":"ins_ours"}"#)).await.status, 200);
}

#[tokio::test]
async fn a_dropped_type_is_answered_and_never_stored() {
    let mut clerk = source("clerk");
    clerk.drop = values::filter(&["session.*".to_owned()]);
    let relay = Relay::start(Setup { sources: vec![clerk], ..Setup::default() }).await;
    let answer = relay.ask(&relay.post("msg_1", r#"{"type":"session.created"}"#)).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"received":true}"#));
    assert!(relay.stored("msg_1").await.is_none());
    assert_eq!(relay.counts().dropped, 1);
    assert_eq!(relay.ask(&relay.post("msg_2", BODY)).await.status, 200);
    assert!(relay.stored("msg_2").await.is_some());
    let forged = relay.post("msg_3", r#"{"type":"session.created"}"#).signed_with(secret(9));
    assert_eq!(relay.ask(&forged).await.status, 401, "what is not signed is not even dropped");
}
