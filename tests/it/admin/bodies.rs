//! Bodies of requests: JSON of a bounded size, in bounded time, with nothing in it that is not known.

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{answer, config, post, refusal, request};
use crate::support::relay::Home;

/// A megabyte.
const MB: usize = 1024 * 1024;

#[tokio::test]
async fn a_body_that_is_not_json_of_the_known_fields_is_refused() {
    let home = Home::new();
    let relay = home.start(&config("http://127.0.0.1:9/"));
    let sent = async |content_type: &str, body: &str| {
        let path = "/api/v1/deliveries/evt_00000000000000000000/app/retry";
        let request = request(&relay, Method::POST, path).header("content-type", content_type);
        answer(request.body(body.to_owned())).await
    };
    for body in
        ["{", "[]", "7", "\"again\"", "{\"again\":1}", "{\"seen\":\"now\"}", "{\"agian\":true}", "{} {}"]
    {
        let message = refusal(sent("application/json", body).await, 400, "bad_request");
        assert!(message.contains("the body"), "{body}: {message}");
    }
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonp"] {
        refusal(sent(content_type, "{}").await, 415, "not_json");
    }
    for body in ["", "{}", "null", "{\"again\":true}"] {
        refusal(sent("application/json; charset=utf-8", body).await, 404, "not_found");
    }
}

#[tokio::test]
async fn a_body_of_10_mb_is_refused_while_it_is_read() {
    let home = Home::new();
    let relay = home.start(&config("http://127.0.0.1:9/"));
    let path = "deliveries/evt_00000000000000000000/app/retry";
    refusal(post(&relay, path, &json!("x".repeat(65 * 1024))).await, 413, "too_large");
    let before = relay.resident_bytes();
    // Without a declared length, so that only reading tells.
    let address = relay.admin.trim_start_matches("http://").to_owned();
    let mut socket = TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "POST /api/v1/{path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         transfer-encoding: chunked\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("{:x}\r\n{}\r\n", 64 * 1024, "x".repeat(64 * 1024));
    for _ in 0..(10 * MB / (64 * 1024)) {
        if socket.write_all(chunk.as_bytes()).await.is_err() {
            break; // it has hung up
        }
    }
    let mut reply = Vec::new();
    let _ = socket.read_to_end(&mut reply).await; // a reset may come behind the answer
    let reply = String::from_utf8_lossy(&reply);
    assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 413"), "{reply}");
    assert!(relay.resident_bytes() < before + 4 * MB as u64, "it was not held in memory");
    refusal(post(&relay, path, &json!({})).await, 404, "not_found");
}

#[tokio::test]
async fn a_body_that_does_not_end_is_given_up() {
    let home = Home::new();
    let relay = home.start(&config("http://127.0.0.1:9/"));
    let address = relay.admin.trim_start_matches("http://").to_owned();
    let mut socket = TcpStream::connect(&address).await.unwrap();
    let head = format!(
        "POST /api/v1/retries HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         content-length: 100\r\n\r\n{{\"filter\":"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut reply = String::new();
    socket.read_to_string(&mut reply).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 408") && reply.contains("too_slow"), "{reply}");
    assert!(reply.to_lowercase().contains("connection: close"), "{reply}");
}
