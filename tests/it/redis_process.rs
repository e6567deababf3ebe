//! The program's commands with a Redis: `dev`, `check --online`, and what `run` says of a server that it must not use.

use serde_json::json;

use crate::support::clerk::{Clerk, SECRET};
use crate::support::redis::RedisServer;
use crate::support::relay::{Home, command, eventually};

/// A command's exit code and all that it printed.
fn ended(args: &[&str]) -> (i32, String) {
    let output = command().args(args).output().unwrap();
    let shown = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.code().unwrap(), shown.concat())
}

/// A configuration without targets, written into `home`.
fn written(home: &Home, server: &RedisServer) -> String {
    let config = json!({
        "sources": { "clerk": { "signing_secrets": [SECRET] } },
        "targets": {},
        "store": { "url": server.url(), "prefix": "checked" },
    });
    home.write(&config).display().to_string()
}

async fn keys(server: &RedisServer) -> usize {
    let keys = server.command(&["KEYS", "*"]).await;
    redis::from_redis_value::<Vec<String>>(keys).unwrap().len()
}

#[tokio::test]
async fn dev_runs_on_a_redis_as_on_a_file_and_says_what_it_risks() {
    let server = RedisServer::start().await;
    for _ in 0..2 {
        let (code, shown) = ended(&["dev", "--once", "--listen", "127.0.0.1:0", "--store", &server.url()]);
        assert_eq!(code, 0, "{shown}");
        for claim in ["the relay answered 200", "attempt 1 to app: 503", "attempt 2 to app: 200"] {
            assert_eq!(shown.matches(claim).count(), 3, "{claim}:\n{shown}");
        }
        assert!(shown.contains("durability relaxed"), "{shown}");
    }
}

#[tokio::test]
async fn check_online_tells_what_redis_promises_and_leaves_nothing_behind() {
    let (server, home) = (RedisServer::start().await, Home::new());
    let path = written(&home, &server);
    let check = || ended(&["check", "--online", "--config", &path]);
    let (code, shown) = check();
    assert!(code == 0 && shown.contains("0 events") && shown.contains("proven"), "{shown}");
    assert_eq!(keys(&server).await, 0);
    server.config_set("appendfsync", "everysec").await;
    let (code, shown) = check();
    assert!(
        code == 1 && shown.contains("failed  store") && shown.contains("CONFIG SET appendfsync always"),
        "{shown}"
    );
    assert_eq!(keys(&server).await, 0);
}

#[tokio::test]
async fn check_online_beside_running_relays_disturbs_none_of_them() {
    let (server, home) = (RedisServer::start().await, Home::new());
    let path = written(&home, &server);
    let relay = home.start(&serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap());
    Clerk::new(&relay).send("user.created").await;
    let before = keys(&server).await;
    let (code, shown) = ended(&["check", "--online", "--config", &path]);
    assert!(code == 0 && shown.contains("1 events"), "{shown}");
    assert_eq!(keys(&server).await, before);
    eventually("the relay goes on", async || (relay.list("events").await.len() == 1).then_some(())).await;
    assert_eq!(relay.stop().0.code(), Some(0));
}

#[tokio::test]
async fn a_server_that_may_lose_events_is_refused_with_all_that_cures_it() {
    let (server, home) = (RedisServer::start_bare(Vec::new()).await, Home::new());
    let path = written(&home, &server);
    let (code, shown) = ended(&["run", "--config", &path]);
    assert_eq!(code, 1, "{shown}");
    assert!(shown.contains("cannot open the store at redis://127.0.0.1"), "{shown}");
    for cure in ["CONFIG SET appendonly yes", "CONFIG SET appendfsync always"] {
        assert!(shown.contains(cure), "{cure}:\n{shown}");
    }
    assert_eq!(shown.lines().filter(|line| line.starts_with("error")).count(), 1, "{shown}");
}

#[tokio::test]
async fn a_redis_that_is_not_there_is_one_clear_message() {
    let (mut server, home) = (RedisServer::start().await, Home::new());
    let path = written(&home, &server);
    server.kill();
    let (code, shown) = ended(&["run", "--config", &path]);
    assert_eq!(code, 1, "{shown}");
    assert!(shown.contains("cannot open the store at redis://127.0.0.1"), "{shown}");
    assert_eq!(shown.lines().filter(|line| line.starts_with("error")).count(), 1, "{shown}");
}
