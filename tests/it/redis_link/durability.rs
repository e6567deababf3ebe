//! The check of durability against real servers: proven, amiss, hidden, and what each wish makes of it.

use clerk_relay::config::DurabilityWanted::{self, Managed, Relaxed, Strict};
use clerk_relay::config::RedisUrl;
use clerk_relay::config::redis_url::Topology;
use clerk_relay::store::query::Durability;
use clerk_relay::store::redis::durability::{CheckError, Misplaced, Setting, Verdict, check, used_memory};
use clerk_relay::store::redis::link::Link;

use super::{assert_unavailable, open};
use crate::support::redis::cluster::RedisCluster;
use crate::support::redis::sentinel::SentinelSet;
use crate::support::redis::{RedisServer, tcp_url};

async fn durability(link: &Link, wanted: DurabilityWanted) -> Durability {
    check(link, wanted).await.unwrap().durability
}

/// The settings for which a check refuses, and its words.
async fn refusal(link: &Link, wanted: DurabilityWanted) -> (Vec<Setting>, String) {
    let error = check(link, wanted).await.unwrap_err();
    let settings = match &error {
        CheckError::Unsafe(found) => found.iter().map(|finding| finding.setting).collect(),
        CheckError::CannotTell(hidden) => hidden.iter().map(|hidden| hidden.setting).collect(),
        CheckError::Link(_) | CheckError::TooOld(_) | CheckError::Misplaced(_) => panic!("{error}"),
    };
    (settings, error.to_string())
}

#[tokio::test]
async fn a_server_with_the_right_settings_is_proven_whatever_is_wanted() {
    let server = RedisServer::start_with(&["--maxmemory", "100mb"]).await;
    let link = open(server.redis_url());
    for wanted in [Strict, Managed, Relaxed] {
        assert_eq!(durability(&link, wanted).await, Durability::Proven);
    }
    let checked = check(&link, Strict).await.unwrap();
    assert!(checked.server.is_some());
    assert_eq!(checked.memory.unwrap().max_bytes, Some(100 * 1024 * 1024));
    let memory = used_memory(&link).await.unwrap().unwrap();
    assert!(memory.used_bytes > 100_000 && memory.limit(1_000) == 1_000);
}

#[tokio::test]
async fn each_setting_that_may_lose_events_is_refused_with_its_cure_and_cured_by_it() {
    let server = RedisServer::start().await;
    let link = open(server.redis_url());
    let wrong = [
        (Setting::AppendOnly, "no"),
        (Setting::AppendFsync, "everysec"),
        (Setting::AppendFsync, "no"),
        (Setting::NoFsyncOnRewrite, "yes"),
        (Setting::MaxMemoryPolicy, "allkeys-lru"),
        (Setting::MaxMemoryPolicy, "volatile-ttl"),
    ];
    for (setting, value) in wrong {
        server.config_set(setting.name(), value).await;
        for wanted in [Strict, Managed] {
            let (settings, text) = refusal(&link, wanted).await;
            assert_eq!(settings, [setting]);
            assert!(text.contains(&format!("`{}` is `{value}`", setting.name())), "{text}");
            let cure = format!("`CONFIG SET {} {}`", setting.name(), setting.needed());
            assert!(text.contains(&cure), "{text}");
        }
        assert_eq!(durability(&link, Relaxed).await, Durability::Relaxed);
        server.config_set(setting.name(), setting.needed()).await;
        assert_eq!(durability(&link, Strict).await, Durability::Proven);
    }
}

#[tokio::test]
async fn everything_amiss_is_told_at_once() {
    let server = RedisServer::start_bare(vec!["--maxmemory-policy".into(), "allkeys-lru".into()]).await;
    let (settings, text) = refusal(&open(server.redis_url()), Strict).await;
    assert_eq!(settings, [Setting::AppendOnly, Setting::AppendFsync, Setting::MaxMemoryPolicy]);
    assert_eq!(text.lines().count(), 4, "a line for each:\n{text}");
}

#[tokio::test]
async fn settings_that_are_renamed_away_must_be_declared() {
    let server = RedisServer::start_with(&["--rename-command", "CONFIG", ""]).await;
    hidden_settings_must_be_declared(server.redis_url()).await;
}

#[tokio::test]
async fn settings_that_a_user_may_not_see_must_be_declared() {
    let server = RedisServer::start().await;
    let rules = ["ACL", "SETUSER", "relay", "on", ">right", "~*", "&*", "+@all", "-config"];
    server.command(&rules).await;
    let (username, password) = (Some("relay".to_owned()), Some("right".to_owned()));
    hidden_settings_must_be_declared(RedisUrl { username, password, ..server.redis_url() }).await;
}

async fn hidden_settings_must_be_declared(url: RedisUrl) {
    let link = open(url);
    let (settings, text) = refusal(&link, Strict).await;
    assert_eq!(settings, [Setting::AppendFsync, Setting::NoFsyncOnRewrite]);
    assert!(text.contains("`durability: managed`"), "{text}");
    assert_eq!(durability(&link, Managed).await, Durability::Declared);
    assert_eq!(durability(&link, Relaxed).await, Durability::Relaxed);
}

#[tokio::test]
async fn a_declaration_that_the_server_contradicts_is_refused() {
    let server = RedisServer::start_with(&["--appendonly", "no", "--rename-command", "CONFIG", ""]).await;
    let link = open(server.redis_url());
    let (settings, _) = refusal(&link, Managed).await;
    assert_eq!(settings, [Setting::AppendOnly]);
    assert_eq!(durability(&link, Relaxed).await, Durability::Relaxed);
}

#[tokio::test]
async fn a_server_that_tells_nothing_must_be_declared_as_a_whole() {
    let server = RedisServer::start().await;
    let rules = ["ACL", "SETUSER", "relay", "on", ">right", "~*", "&*", "+@all", "-config", "-info"];
    server.command(&rules).await;
    let (username, password) = (Some("relay".to_owned()), Some("right".to_owned()));
    let link = open(RedisUrl { username, password, ..server.redis_url() });
    let (settings, _) = refusal(&link, Strict).await;
    assert_eq!(settings, Setting::ALL);
    let checked = check(&link, Managed).await.unwrap();
    assert_eq!((checked.durability, checked.server, checked.memory), (Durability::Declared, None, None));
    assert!(matches!(checked.verdict, Verdict::CannotTell(_)));
    assert_eq!(used_memory(&link).await.unwrap(), None);
}

#[tokio::test]
async fn a_server_that_is_absent_is_no_verdict() {
    let mut server = RedisServer::start().await;
    server.kill();
    let link = open(server.redis_url());
    match check(&link, Relaxed).await {
        Err(CheckError::Link(error)) => assert_unavailable::<()>(Err(error)),
        other => panic!("{other:?}"),
    };
}

#[tokio::test]
async fn the_check_speaks_of_our_node_in_a_cluster_and_of_the_master_behind_sentinels() {
    let (cluster, set) = tokio::join!(RedisCluster::start(), SentinelSet::start(1));
    let link = open(cluster.redis_url());
    assert_eq!(durability(&link, Strict).await, Durability::Proven);
    let ours = cluster.owner("{relay}").await;
    cluster.nodes[ours].config_set("appendfsync", "everysec").await;
    assert_eq!(refusal(&link, Strict).await.0, [Setting::AppendFsync]);

    let link = open(set.redis_url());
    assert_eq!(durability(&link, Strict).await, Durability::Proven);
    set.master.config_set("appendfsync", "no").await;
    assert_eq!(refusal(&link, Strict).await.0, [Setting::AppendFsync]);

    let plain = |port| open(tcp_url(&[port], Topology::Standalone));
    let misplaced =
        [(cluster.nodes[ours].port(), Misplaced::Cluster), (set.sentinels[0].port(), Misplaced::Sentinel)];
    for (port, expected) in misplaced {
        let found = check(&plain(port), Relaxed).await;
        assert!(matches!(found, Err(CheckError::Misplaced(found)) if found == expected), "{found:?}");
    }
}
