//! Redis behind TLS, as a cluster and behind Sentinels.

use std::path::PathBuf;

use clerk_relay::config::StoreTls;
use clerk_relay::store::redis::link::{Lane, Link, LinkOptions, OpenError, Script};
use redis::Value;

use super::{COUNT, assert_unavailable, count, counts_again, impatient, key, open, options};
use crate::support::redis::cluster::RedisCluster;
use crate::support::redis::sentinel::SentinelSet;
use crate::support::redis::tls::{Authority, ClientCertificate, TlsServer};
use crate::support::relay::PATIENCE;

fn by_tls(server: &TlsServer, tls: StoreTls) -> Link {
    Link::open(LinkOptions { tls, ..options(server.redis_url()) }).unwrap()
}

#[tokio::test]
async fn a_server_behind_tls_is_trusted_by_the_file_that_names_its_authority_and_by_no_other() {
    let server = TlsServer::start(ClientCertificate::Ignored).await;
    let link = by_tls(&server, server.trust());
    assert_eq!(count(&link).await.unwrap(), Value::Int(1));
    link.subscribe(b"{relay}:bell").await.unwrap();

    let stranger = Authority::new();
    let wrong = StoreTls { ca_file: Some(stranger.ca_file()), ..StoreTls::default() };
    assert_unavailable(count(&by_tls(&server, wrong)).await);
    // The system's roots do not know it either.
    assert_unavailable(count(&by_tls(&server, StoreTls::default())).await);
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_ours() {
    let server = TlsServer::start(ClientCertificate::Required).await;
    let link = by_tls(&server, server.trust_and_identity());
    assert_eq!(count(&link).await.unwrap(), Value::Int(1));
    assert_unavailable(count(&by_tls(&server, server.trust())).await);
}

#[tokio::test]
async fn tls_files_that_cannot_be_used_are_told_before_anything_is_sent() {
    let server = TlsServer::start(ClientCertificate::Ignored).await;
    let refused = |tls| Link::open(LinkOptions { tls, ..options(server.redis_url()) }).err().unwrap();
    let absent = StoreTls { ca_file: Some(PathBuf::from("/nowhere/ca.pem")), ..StoreTls::default() };
    assert!(matches!(refused(absent), OpenError::File { .. }));
    let identity = server.trust_and_identity();
    let no_certificate = StoreTls { ca_file: identity.key_file.clone(), ..StoreTls::default() };
    assert!(matches!(refused(no_certificate), OpenError::NoCertificate(_)));
    let half = StoreTls { key_file: None, ..identity.clone() };
    assert!(matches!(refused(half), OpenError::HalfPair));
    let swapped = StoreTls { cert_file: identity.key_file, key_file: identity.cert_file, ..server.trust() };
    assert!(matches!(refused(swapped), OpenError::Unusable(_)));
}

#[tokio::test]
async fn a_cluster_works_through_any_of_its_nodes_and_heals_after_ours_was_gone() {
    let mut cluster = RedisCluster::start().await;
    let script = Script::new(COUNT.to_owned());
    for node in 0..cluster.nodes.len() {
        let link = open(cluster.redis_url_by(node));
        link.call(Lane::Ingest, &script, &key(), &[]).await.unwrap();
        link.call_durably(Lane::Ingest, &script, &key(), &[]).await.unwrap();
        let pipeline = redis::pipe().cmd("GET").arg(key()).cmd("DBSIZE").clone();
        let replies = link.pipeline(Lane::Admin, &pipeline).await.unwrap();
        let so_far = ((node + 1) * 2).to_string().into_bytes();
        assert_eq!(replies, [Value::BulkString(so_far), Value::Int(1)], "keyless commands go to our node");
    }

    let ours = cluster.owner("{relay}").await;
    let other = (ours + 1) % cluster.nodes.len();
    cluster.nodes[other].pause();
    count(&open(cluster.redis_url())).await.expect("a dead node that holds nothing of ours does no harm");
    cluster.nodes[other].resume();
    cluster.settle().await;

    let link = impatient(cluster.redis_url());
    counts_again(&link).await;
    cluster.nodes[ours].kill();
    assert_unavailable(count(&link).await);
    cluster.nodes[ours].restart().await;
    counts_again(&link).await;
}

#[tokio::test]
async fn a_subscription_in_a_cluster_hears_what_is_published_at_any_node() {
    let cluster = RedisCluster::start().await;
    let link = open(cluster.redis_url_by(0));
    let mut subscription = link.subscribe(b"{relay}:bell").await.unwrap();
    for node in &cluster.nodes {
        node.command(&["PUBLISH", "{relay}:bell", "ring"]).await;
        let heard = tokio::time::timeout(PATIENCE, subscription.next()).await.unwrap().unwrap();
        assert_eq!(heard, b"ring");
    }
}

#[tokio::test]
async fn a_failover_by_sentinels_is_followed() {
    let mut set = SentinelSet::start(1).await;
    let link = open(set.redis_url());
    assert_eq!(count(&link).await.unwrap(), Value::Int(1));
    link.subscribe(b"{relay}:bell").await.unwrap();
    set.master.kill();
    assert_unavailable(count(&link).await);
    set.failed_over().await;
    counts_again(&link).await;
    let port = link.command(Lane::Ingest, redis::cmd("CONFIG").arg("GET").arg("port")).await.unwrap();
    let port: (String, String) = redis::from_redis_value(port).unwrap();
    assert_eq!(port.1, set.replica.port().to_string());
}

#[tokio::test]
async fn sentinels_without_a_login_lead_to_a_master_that_wants_one() {
    let set = SentinelSet::start(1).await;
    set.master.command(&["ACL", "SETUSER", "relay", "on", ">right", "~*", "&*", "+@all"]).await;
    let mut url = set.redis_url();
    (url.username, url.password) = (Some("relay".to_owned()), Some("right".to_owned()));
    let name = open(url).command(Lane::Admin, redis::cmd("ACL").arg("WHOAMI")).await.unwrap();
    assert_eq!(name, Value::BulkString(b"relay".to_vec()));
}

#[tokio::test]
async fn a_sentinel_that_is_gone_does_not_stand_in_the_way() {
    let mut set = SentinelSet::start(2).await;
    let link = open(set.redis_url());
    set.sentinels[0].kill();
    assert_eq!(count(&link).await.unwrap(), Value::Int(1));
}
