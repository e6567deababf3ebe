//! What relays tell live, heard at other relays of the same store, and what that costs while nobody listens.

use std::time::Duration;

use clerk_relay::clock::Clock;
use clerk_relay::telemetry::feed::{Feed, Heard, Listener, News};

use super::{At, options};
use crate::contract::harness::{Lab, MINUTE};
use crate::support::redis::RedisServer;
use crate::support::relay::eventually;

async fn relay(server: &RedisServer) -> (Lab, Feed) {
    let options = options(server);
    let feed = options.feed.clone();
    (Lab::new(&At(options)).await, feed)
}

fn tell(feed: &Feed, name: &str) {
    feed.tell(|| News::new(name, Clock::system().now()));
}

async fn next(listener: &mut Listener) -> String {
    match tokio::time::timeout(MINUTE, listener.next()).await.expect("something is heard") {
        Some(Heard::News(news)) => news.name.clone(),
        other @ (Some(Heard::Missed(_)) | None) => panic!("{other:?}"),
    }
}

/// Tells it until it is heard there, and returns what else was heard before.
async fn tell_until_heard(feed: &Feed, name: &str, listener: &mut Listener) -> Vec<String> {
    let heard = async {
        let mut others = Vec::new();
        loop {
            let heard = next(listener).await;
            if heard == name {
                return others;
            }
            others.push(heard);
        }
    };
    let telling = async {
        loop {
            tell(feed, name);
            tokio::time::sleep(Duration::from_millis(50)).await; // the pace of what is told, no synchronisation
        }
    };
    tokio::select! {
        others = heard => others,
        () = telling => unreachable!("it has no end"),
    }
}

#[tokio::test]
async fn a_listener_at_one_relay_hears_what_another_tells_and_its_own_once() {
    let server = RedisServer::start().await;
    let ((_one, feed), (_other, other_feed)) = (relay(&server).await, relay(&server).await);
    let mut listener = feed.listen();
    tell_until_heard(&other_feed, "from the other", &mut listener).await;
    let mut other_listener = other_feed.listen();
    tell_until_heard(&feed, "from the one", &mut other_listener).await;
    // Both listen, both are heard; whoever tells hears itself at once, and not again when it comes by way of the store.
    tell(&feed, "once");
    while next(&mut other_listener).await != "once" {}
    let heard = tell_until_heard(&other_feed, "the last", &mut listener).await;
    assert_eq!(heard.iter().filter(|name| *name == "once").count(), 1, "{heard:?}");
}

#[tokio::test]
async fn nothing_is_told_while_nobody_listens() {
    let server = RedisServer::start().await;
    let ((_one, feed), (_other, other_feed)) = (relay(&server).await, relay(&server).await);
    let is_told = |feed: &Feed| {
        let mut is_told = false;
        feed.tell(|| {
            is_told = true;
            News::default()
        });
        is_told
    };
    assert!(!is_told(&feed) && !is_told(&other_feed));
    let mut listener = feed.listen();
    tell_until_heard(&other_feed, "heard", &mut listener).await;
    drop(listener);
    assert!(!is_told(&feed));
    eventually("the other relay has noticed", async || (!is_told(&other_feed)).then_some(())).await;
    eventually("nobody is subscribed", async || {
        let subscribed = server.command(&["PUBSUB", "NUMSUB", "{relay}:news"]).await;
        let (_, count): (String, u64) = redis::from_redis_value(subscribed).unwrap();
        (count == 0).then_some(())
    })
    .await;
}
