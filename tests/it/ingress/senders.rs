//! Who may post, with and without proxies in front.

use super::relay::{Relay, Setup, source};

#[tokio::test]
async fn only_listed_addresses_may_post() {
    let mut clerk = source("clerk");
    clerk.allow_from = vec!["192.0.2.0/24".parse().unwrap()];
    let relay = Relay::start(Setup { sources: vec![clerk], ..Setup::default() }).await;
    let post = relay.post("msg_1", "{}").line("X-Forwarded-For: 192.0.2.7");
    let answer = relay.ask(&post).await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "sender_not_allowed"), "no proxy is trusted");
    assert_eq!(answer.header("connection"), Some("close"), "its body is unread");
    assert!(relay.stored("msg_1").await.is_none());
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_rightmost_untrusted_address_counts() {
    let mut clerk = source("clerk");
    clerk.allow_from = vec!["192.0.2.0/24".parse().unwrap()];
    let trusted_proxies = vec!["127.0.0.0/8".parse().unwrap(), "10.0.0.0/8".parse().unwrap()];
    let relay = Relay::start(Setup { sources: vec![clerk], trusted_proxies, ..Setup::default() }).await;
    let status = async |id: &str, lines: &[&str]| {
        let mut post = relay.post(id, "{}");
        post.lines.extend(lines.iter().map(|line| format!("X-Forwarded-For: {line}")));
        relay.ask(&post).await.status
    };
    assert_eq!(status("msg_1", &["192.0.2.7"]).await, 200);
    assert_eq!(status("msg_2", &["192.0.2.7, 10.1.1.1"]).await, 200);
    assert_eq!(status("msg_3", &["203.0.113.1", "192.0.2.7", "10.1.1.1"]).await, 200);
    assert_eq!(status("msg_4", &["192.0.2.7, 203.0.113.1"]).await, 403, "a stranger wrote the left part");
    assert_eq!(status("msg_5", &["192.0.2.7, unknown"]).await, 403);
    assert_eq!(status("msg_6", &[]).await, 403, "the proxy itself is not in allow_from");
    assert_eq!(relay.stored("msg_2").await.unwrap().remote.as_deref(), Some("192.0.2.7"));
}
