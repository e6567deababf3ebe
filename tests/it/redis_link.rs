//! The connections to Redis against real servers: what they survive, what they refuse, what they tell.

mod durability;
mod topology;

use std::error::Error as _;
use std::time::Duration;

use clerk_relay::config::redis_url::Transport;
use clerk_relay::config::{DurabilityWanted, RedisUrl, StoreTls};
use clerk_relay::store::redis::link::{Lane, Link, LinkError, LinkOptions, Script, Timeouts};
use redis::Value;

use crate::support::proxy::{Mode, Proxy};
use crate::support::redis::sentinel::pair;
use crate::support::redis::{RedisServer, tcp_url};
use crate::support::relay::{PATIENCE, eventually};

/// For tests in which a deadline passes.
const SHORT: Duration = Duration::from_millis(400);
/// Counts its calls under the one key that it gets.
const COUNT: &str = "#!lua\nreturn redis.call('INCR', KEYS[1])";

fn options(url: RedisUrl) -> LinkOptions {
    LinkOptions {
        url,
        tls: StoreTls::default(),
        prefix: "relay".to_owned(),
        wait_replicas: 0,
        timeouts: Timeouts::default(),
    }
}

fn open(url: RedisUrl) -> Link {
    Link::open(options(url)).unwrap()
}

fn impatient(url: RedisUrl) -> Link {
    let timeouts = Timeouts { connect: SHORT, ingest: SHORT, other: SHORT, ..Timeouts::default() };
    Link::open(LinkOptions { timeouts, ..options(url) }).unwrap()
}

fn by_proxy(proxy: &Proxy) -> RedisUrl {
    tcp_url(&[proxy.port()], clerk_relay::config::redis_url::Topology::Standalone)
}

fn key() -> Vec<Vec<u8>> {
    vec![b"{relay}:count".to_vec()]
}

async fn count(link: &Link) -> Result<Value, LinkError> {
    link.command(Lane::Ingest, redis::cmd("INCR").arg(key())).await
}

async fn counts_again(link: &Link) {
    eventually("the link heals", async || count(link).await.ok()).await;
}

#[track_caller]
fn assert_unavailable<T: std::fmt::Debug>(outcome: Result<T, LinkError>) -> LinkError {
    match outcome {
        Err(error @ LinkError::Unavailable(_)) => error,
        other => panic!("not unavailable: {other:?}"),
    }
}

#[tokio::test]
async fn a_link_heals_after_the_server_was_killed_and_started_again() {
    let mut server = RedisServer::start().await;
    let link = open(server.redis_url());
    assert_eq!(count(&link).await.unwrap(), Value::Int(1));
    server.kill();
    assert_unavailable(count(&link).await);
    server.restart().await;
    counts_again(&link).await;
}

#[tokio::test]
async fn a_server_that_was_absent_at_first_is_found() {
    let mut server = RedisServer::start().await;
    server.kill();
    let link = open(server.redis_url());
    assert_unavailable(count(&link).await);
    server.restart().await;
    counts_again(&link).await;
}

#[tokio::test]
async fn a_dead_server_is_not_hammered() {
    let server = RedisServer::start().await;
    let proxy = Proxy::to_port(server.port()).await;
    proxy.set(Mode::Refuse);
    let link = open(by_proxy(&proxy));
    for _ in 0..500 {
        let error = assert_unavailable(count(&link).await);
        assert!(error.source().is_some(), "the last error is carried");
    }
    assert!(proxy.accepted() <= 8, "{} attempts for 500 calls", proxy.accepted());
    proxy.set(Mode::Pass);
    counts_again(&link).await;
}

#[tokio::test]
async fn calls_that_wait_for_one_attempt_to_connect_share_its_failure() {
    let server = RedisServer::start().await;
    let proxy = Proxy::to_port(server.port()).await;
    proxy.set(Mode::Swallow);
    let link = impatient(by_proxy(&proxy));
    let calls = futures_util::future::join_all((0..50).map(|_| count(&link)));
    for outcome in calls.await {
        assert_unavailable(outcome);
    }
    assert_eq!(proxy.accepted(), 1);
}

#[tokio::test]
async fn a_link_heals_after_its_connections_were_killed() {
    let server = RedisServer::start().await;
    let link = open(server.redis_url());
    count(&link).await.unwrap();
    server.command(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    counts_again(&link).await;
    assert_eq!(link.connections(Lane::Ingest), 2);
    assert_eq!(link.connections(Lane::Claim), 0, "a lane connects on first use");
}

#[tokio::test]
async fn an_idle_connection_that_died_costs_no_call() {
    let server = RedisServer::start().await;
    let proxy = Proxy::to_port(server.port()).await;
    let timeouts = Timeouts { idle: SHORT, ..Timeouts::default() };
    let link = Link::open(LinkOptions { timeouts, ..options(by_proxy(&proxy)) }).unwrap();
    count(&link).await.unwrap();
    proxy.cut();
    tokio::time::sleep(SHORT + SHORT / 4).await; // what is tried is a span of time without calls
    assert_eq!(count(&link).await.unwrap(), Value::Int(2));
    assert_eq!(link.connections(Lane::Ingest), 2);
}

#[tokio::test]
async fn a_script_that_the_server_forgot_is_sent_again() {
    let server = RedisServer::start().await;
    let link = open(server.redis_url());
    let script = Script::new(COUNT.to_owned());
    for expected in 1..=2 {
        server.command(&["SCRIPT", "FLUSH"]).await;
        let answer = link.call(Lane::Ingest, &script, &key(), &[]).await.unwrap();
        assert_eq!(answer, Value::Int(expected));
    }
    let info = server.info("number_of_cached_scripts").await.unwrap();
    assert_eq!(info, "1", "the server knows it by its digest");
    link.call(Lane::Ingest, &script, &key(), &[]).await.unwrap();
}

#[tokio::test]
async fn a_half_open_connection_is_an_error_in_time_and_heals() {
    let server = RedisServer::start().await;
    let proxy = Proxy::to_port(server.port()).await;
    let link = impatient(by_proxy(&proxy));
    count(&link).await.unwrap();
    proxy.set(Mode::Swallow);
    let error = tokio::time::timeout(PATIENCE, count(&link)).await.expect("within the deadline");
    assert_unavailable(error);
    proxy.set(Mode::Pass);
    counts_again(&link).await;
    assert!(link.connections(Lane::Ingest) > 1, "the old connection was left");
}

#[tokio::test]
async fn a_server_that_stands_still_is_an_error_in_time_and_heals() {
    let server = RedisServer::start().await;
    let link = impatient(server.redis_url());
    count(&link).await.unwrap();
    server.pause();
    assert_unavailable(count(&link).await);
    server.resume();
    counts_again(&link).await;
}

#[tokio::test]
async fn a_reply_that_is_lost_is_an_error_although_the_call_was_done() {
    let server = RedisServer::start().await;
    let proxy = Proxy::to_port(server.port()).await;
    let link = open(by_proxy(&proxy));
    count(&link).await.unwrap();
    let lost = proxy.lose_reply("INCR");
    assert_unavailable(count(&link).await);
    lost.await.unwrap();
    assert_eq!(count(&link).await.unwrap(), Value::Int(3));
}

#[tokio::test]
async fn a_server_that_became_a_replica_is_left_for_a_new_connection() {
    let server = RedisServer::start().await;
    let link = open(server.redis_url());
    count(&link).await.unwrap();
    server.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let script = Script::new(COUNT.to_owned());
    assert_unavailable(count(&link).await);
    assert_unavailable(link.call(Lane::Settle, &script, &key(), &[]).await);
    server.command(&["REPLICAOF", "NO", "ONE"]).await;
    counts_again(&link).await;
    assert!(link.connections(Lane::Ingest) > 1, "the name is looked up again");
}

#[tokio::test]
async fn a_lane_does_not_wait_for_another() {
    let server = RedisServer::start().await;
    let link = open(server.redis_url());
    let blocked = tokio::spawn({
        let link = link.clone();
        async move { link.command(Lane::Ingest, redis::cmd("BLPOP").arg("{relay}:list").arg(0)).await }
    });
    eventually("the ingest lane is blocked", async || {
        (server.info("blocked_clients").await? == "1").then_some(())
    })
    .await;
    for lane in [Lane::Claim, Lane::Settle, Lane::Admin] {
        link.command(lane, redis::cmd("RPUSH").arg("{relay}:other").arg("x")).await.unwrap();
    }
    link.command(Lane::Admin, redis::cmd("RPUSH").arg("{relay}:list").arg("x")).await.unwrap();
    blocked.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_call_that_is_given_up_confuses_no_other() {
    let server = RedisServer::start().await;
    let link = open(server.redis_url());
    count(&link).await.unwrap();
    server.pause();
    let mut given_up = Box::pin(count(&link));
    assert!(futures_util::poll!(&mut given_up).is_pending());
    drop(given_up);
    server.resume();
    let echo = link.command(Lane::Ingest, redis::cmd("ECHO").arg("mine")).await.unwrap();
    assert_eq!(echo, Value::BulkString(b"mine".to_vec()));
}

#[tokio::test]
async fn a_full_server_is_full_for_commands_and_scripts_and_the_link_stays() {
    let server = RedisServer::start().await;
    let link = open(server.redis_url());
    count(&link).await.unwrap();
    server.config_set("maxmemory", "1").await;
    let script = Script::new(COUNT.to_owned());
    let pipeline = redis::pipe().cmd("PING").cmd("SET").arg("{relay}:x").arg("x").clone();
    assert!(matches!(count(&link).await, Err(LinkError::Full)));
    assert!(matches!(link.call(Lane::Ingest, &script, &key(), &[]).await, Err(LinkError::Full)));
    assert!(matches!(link.pipeline(Lane::Ingest, &pipeline).await, Err(LinkError::Full)));
    server.config_set("maxmemory", "0").await;
    count(&link).await.unwrap();
    assert_eq!(link.connections(Lane::Ingest), 1);
}

#[tokio::test]
async fn a_call_that_the_server_refuses_is_refused_and_the_link_stays() {
    let server = RedisServer::start().await;
    let link = open(server.redis_url());
    count(&link).await.unwrap();
    let wrong_type = link.command(Lane::Ingest, redis::cmd("LPUSH").arg(key()).arg("x")).await;
    assert!(matches!(wrong_type, Err(LinkError::Refused(_))), "{wrong_type:?}");
    let script = Script::new("#!lua\nreturn redis.call('LPUSH', KEYS[1], 'x')".to_owned());
    let wrong_type = link.call(Lane::Ingest, &script, &key(), &[]).await;
    assert!(matches!(wrong_type, Err(LinkError::Refused(_))), "{wrong_type:?}");
    count(&link).await.unwrap();
    assert_eq!(link.connections(Lane::Ingest), 1);
}

#[tokio::test]
async fn a_durable_call_waits_for_replicas_and_says_how_many_are_missing() {
    let (master, mut replica) = pair().await;
    let timeouts = Timeouts { ingest: Duration::from_secs(2), ..Timeouts::default() };
    let link = Link::open(LinkOptions { wait_replicas: 1, timeouts, ..options(master.redis_url()) }).unwrap();
    let script = Script::new(COUNT.to_owned());
    assert_eq!(link.call_durably(Lane::Ingest, &script, &key(), &[]).await.unwrap(), Value::Int(1));
    let copy = replica.command(&["GET", "{relay}:count"]).await;
    assert_eq!(copy, Value::BulkString(b"1".to_vec()), "the replica has it when the call returns");
    master.command(&["SCRIPT", "FLUSH"]).await;
    assert_eq!(link.call_durably(Lane::Ingest, &script, &key(), &[]).await.unwrap(), Value::Int(2));
    replica.kill();
    let missing = link.call_durably(Lane::Ingest, &script, &key(), &[]).await;
    assert!(matches!(missing, Err(LinkError::Replicas { have: 0, wanted: 1 })), "{missing:?}");
    assert_eq!(count(&link).await.unwrap(), Value::Int(4), "the write itself was done");
}

#[tokio::test]
async fn a_subscription_hears_what_is_published_and_tells_its_death() {
    let mut server = RedisServer::start().await;
    let link = open(server.redis_url());
    let mut subscription = link.subscribe(b"{relay}:bell").await.unwrap();
    for ring in ["1", "2"] {
        server.command(&["PUBLISH", "{relay}:bell", ring]).await;
        let heard = tokio::time::timeout(PATIENCE, subscription.next()).await.unwrap().unwrap();
        assert_eq!(heard, ring.as_bytes());
    }
    server.kill();
    assert_unavailable(tokio::time::timeout(PATIENCE, subscription.next()).await.unwrap());
    assert_unavailable(link.subscribe(b"{relay}:bell").await.map(|_| ()));
    server.restart().await;
    link.subscribe(b"{relay}:bell").await.unwrap();
}

#[tokio::test]
async fn everything_can_be_done_in_tasks() {
    let server = RedisServer::start().await;
    let link = open(server.redis_url());
    let doing = async move {
        let script = Script::new(COUNT.to_owned());
        link.call(Lane::Ingest, &script, &key(), &[]).await.unwrap();
        link.call_durably(Lane::Ingest, &script, &key(), &[]).await.unwrap();
        link.pipeline(Lane::Admin, redis::pipe().cmd("PING")).await.unwrap();
        clerk_relay::store::redis::durability::check(&link, DurabilityWanted::Strict).await.unwrap();
        let mut subscription = link.subscribe(b"{relay}:bell").await.unwrap();
        link.command(Lane::Admin, redis::cmd("PUBLISH").arg("{relay}:bell").arg("ring")).await.unwrap();
        subscription.next().await.unwrap()
    };
    assert_eq!(tokio::spawn(doing).await.unwrap(), b"ring");
}

#[tokio::test]
async fn a_server_is_reached_by_its_unix_socket() {
    let server = RedisServer::start().await;
    let url = RedisUrl { transport: Transport::Unix(server.socket()), ..server.redis_url() };
    let link = open(url);
    assert_eq!(count(&link).await.unwrap(), Value::Int(1));
    link.subscribe(b"{relay}:bell").await.unwrap();
}

#[tokio::test]
async fn a_user_logs_in_and_has_its_database() {
    let server = RedisServer::start().await;
    server.command(&["ACL", "SETUSER", "relay", "on", ">right", "~*", "&*", "+@all"]).await;
    let login = RedisUrl {
        username: Some("relay".to_owned()),
        password: Some("right".to_owned()),
        database: 3,
        ..server.redis_url()
    };
    let link = open(login);
    let name = link.command(Lane::Admin, redis::cmd("ACL").arg("WHOAMI")).await.unwrap();
    assert_eq!(name, Value::BulkString(b"relay".to_vec()));
    count(&link).await.unwrap();
    assert_eq!(server.info("db3").await.as_deref(), Some("keys=1,expires=0,avg_ttl=0"));
}

#[tokio::test]
async fn a_wrong_password_is_an_error_that_does_not_show_it() {
    let server = RedisServer::start().await;
    server.command(&["ACL", "SETUSER", "relay", "on", ">right", "~*", "&*", "+@all"]).await;
    let login = RedisUrl {
        username: Some("relay".to_owned()),
        password: Some("hunter2".to_owned()),
        ..server.redis_url()
    };
    let options = options(login);
    assert!(!format!("{options:?}").contains("hunter2"));
    let error = assert_unavailable(count(&Link::open(options).unwrap()).await);
    let shown = format!("{error} {error:?} {:?}", error.source().map(ToString::to_string));
    assert!(shown.contains("authentication failed") && !shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn a_server_that_wants_a_login_and_gets_none_is_unavailable_until_it_wants_none() {
    let server = RedisServer::start().await;
    server.command(&["ACL", "SETUSER", "admin", "on", "nopass", "~*", "&*", "+@all"]).await;
    let link = open(server.redis_url());
    server.config_set("requirepass", "secret").await;
    assert_unavailable(count(&link).await);
    let admin = redis::Client::open(format!("redis://admin:any@127.0.0.1:{}", server.port())).unwrap();
    let mut admin = admin.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("CONFIG").arg("SET").arg("requirepass").arg("").exec_async(&mut admin).await.unwrap();
    counts_again(&link).await;
}
