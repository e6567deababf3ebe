//! `check`, `init` and `schema` as commands: what they print, write and end with.

use std::process::ExitCode;

use clerk_relay::cli::{EXIT_USAGE, check, init};
use clerk_relay::config::load;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::config::{SECRET, env};

async fn check(yaml: &str, online: bool) -> ExitCode {
    let folder = tempfile::tempdir().expect("a folder for the file");
    let path = folder.path().join("relay.yaml");
    std::fs::write(&path, yaml).expect("the folder is writable");
    check::run(&check::Args { config: Some(path), online }).await.expect("what is wrong is printed")
}

fn one_target(address: &str) -> String {
    format!(
        "sources: {{clerk: {{signing_secrets: [{SECRET}]}}}}\ntargets: {{app: {{url: \"http://{address}/hook\", timeout: 5s}}}}\n"
    )
}

#[test]
fn the_summary_says_what_the_file_comes_to_and_no_secret() {
    let text = "sources:
  clerk: {signing_secrets: [\"${SECRET}\"], allow_from: [10.0.0.0/8]}
targets:
  app: {url: \"https://user:${TOKEN}@app.example.com:8443/hook?key=${TOKEN}\", events: [\"user.*\"]}
  all: {url: \"http://localhost:3000/\", sources: [clerk]}
admin: {tokens: [{name: ops, token: \"${TOKEN}\", can: write}]}
";
    let (config, _) = load(text, "relay.yaml", &env).unwrap();
    let summary = check::summary(&config).replace(&config.fingerprint, "FINGERPRINT");
    insta::assert_snapshot!(summary);
}

#[test]
fn init_writes_the_example_and_never_over_a_file_unless_forced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("relay.yaml");
    let run = |force| init::run(&init::Args { path: path.clone(), force }).unwrap();
    assert_eq!(run(false), ExitCode::SUCCESS);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), include_str!("../../relay.yaml"));
    std::fs::write(&path, format!("mine {}", "x".repeat(10_000))).unwrap();
    assert_eq!(run(false), ExitCode::FAILURE);
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("mine"));
    assert_eq!(run(true), ExitCode::SUCCESS);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), include_str!("../../relay.yaml"));
}

#[tokio::test]
async fn check_ends_with_64_for_a_mistake_and_with_0_for_none() {
    assert_eq!(check("sources: {}", false).await, ExitCode::from(EXIT_USAGE));
    assert_eq!(check(&one_target("localhost:1"), false).await, ExitCode::SUCCESS);
    let absent = check::Args { config: Some("/nowhere/relay.yaml".into()), online: false };
    assert_eq!(check::run(&absent).await.unwrap(), ExitCode::from(EXIT_USAGE));
}

#[tokio::test]
async fn check_online_asks_for_headers_only_and_takes_any_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let target = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(socket.read_u8().await.unwrap());
        }
        socket
            .write_all(b"HTTP/1.1 307 Temporary Redirect\r\nlocation: /else\r\ncontent-length: 0\r\n\r\n")
            .await
            .unwrap();
        String::from_utf8(request).unwrap()
    });
    assert_eq!(check(&one_target(&address), true).await, ExitCode::SUCCESS);
    let request = target.await.unwrap();
    assert!(request.starts_with("HEAD /hook HTTP/1.1\r\n"), "{request}");
}

#[tokio::test]
async fn check_online_ends_with_1_when_a_target_is_not_there() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(check(&one_target(&closed.to_string()), true).await, ExitCode::FAILURE);
}
