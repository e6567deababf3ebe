//! The places where Redis may stand: in a cluster, behind Sentinels, behind TLS, restarted on its files.

use clerk_relay::lifecycle::{State, Transition};
use clerk_relay::store::redis::Options;
use clerk_relay::store::{Ingested, Lease, Settle, Settled};

use super::{At, assert_unavailable, lab_with, options_at};
use crate::contract::harness::{Lab, MINUTE, wanted};
use crate::support::events;
use crate::support::redis::RedisServer;
use crate::support::redis::cluster::RedisCluster;
use crate::support::redis::sentinel::{SentinelSet, pair};
use crate::support::redis::tls::{ClientCertificate, TlsServer};
use crate::support::relay::eventually;

/// Delivers, fails and keeps one each; returns what is kept.
async fn work(lab: &Lab) -> Lease {
    lab.add_many(3).await;
    let mut leases = lab.claim("app").await;
    assert_eq!(leases.len(), 3);
    lab.deliver(leases.remove(0)).await;
    lab.fail(leases.remove(0), MINUTE).await;
    lab.store.tick().await.unwrap();
    leases.remove(0)
}

/// Everything that `work` left comes in the end, and once.
async fn nothing_is_lost(lab: &Lab, held: Lease) {
    let body = events::body("user.created", "user_1");
    let event = || events::verified("clerk", "msg_after", &body, lab.clock.now());
    eventually("it takes events again", async || lab.store.ingest(event()).await.ok()).await;
    lab.clock.advance(MINUTE);
    let claimed =
        eventually("it gives leases again", async || lab.store.claim(wanted("app")).await.ok()).await;
    assert_eq!(claimed.leases.len(), 2, "the one that waited and the new one; one is still held");
    let settle = Settle { lease: held, transition: Transition::Return, attempt: None };
    let settled = eventually("it settles again", async || lab.store.settle(settle.again()).await.ok()).await;
    assert_eq!(settled, Settled::Done, "a lease outlives the server that gave it");
    for lease in claimed.leases {
        lab.deliver(lease).await;
    }
    let lease = lab.claim_one("app").await;
    lab.deliver(lease).await;
    eventually("it is asked again", async || lab.store.overview().await.ok()).await;
    let app = lab.target("app").await;
    assert_eq!((app.queued, app.in_flight, app.waiting), (0, 0, 0));
}

#[tokio::test]
async fn in_a_cluster_nothing_is_lost_while_the_node_with_our_slot_is_gone() {
    let mut cluster = RedisCluster::start().await;
    let options = options_at(&cluster.nodes[0], cluster.redis_url());
    let lab = lab_with(options, &["app"]).await;
    let held = work(&lab).await;
    let ours = cluster.owner("{relay}").await;
    cluster.nodes[ours].kill();
    let body = events::body("user.created", "user_2");
    assert_unavailable(lab.store.ingest(events::verified("clerk", "msg_x", &body, lab.clock.now())).await);
    assert_unavailable(lab.store.claim(wanted("app")).await.map(drop));
    cluster.nodes[ours].restart().await;
    nothing_is_lost(&lab, held).await;
}

#[tokio::test]
async fn a_server_that_was_killed_goes_on_from_its_files() {
    let mut server = RedisServer::start().await;
    let lab = lab_with(options_at(&server, server.redis_url()), &["app"]).await;
    let held = work(&lab).await;
    server.kill();
    let body = events::body("user.created", "user_2");
    assert_unavailable(lab.store.ingest(events::verified("clerk", "msg_x", &body, lab.clock.now())).await);
    server.restart().await;
    nothing_is_lost(&lab, held).await;
}

/// Replication is asynchronous: what was answered in the last moments before a master dies may be missing on the new one,
/// unless `wait_replicas` asks for it. Here the replica had caught up before, so that nothing may be missing.
#[tokio::test]
async fn after_a_failover_by_sentinels_the_store_goes_on_with_the_new_master() {
    let mut set = SentinelSet::start(1).await;
    let lab = lab_with(options_at(&set.master, set.redis_url()), &["app"]).await;
    let held = work(&lab).await;
    let offset = set.master.info("master_repl_offset").await;
    eventually("the replica has caught up", async || {
        let replica = set.replica.info("slave_repl_offset").await?.parse::<u64>().ok()?;
        (replica >= offset.as_ref()?.parse::<u64>().ok()?).then_some(())
    })
    .await;
    set.master.kill();
    set.failed_over().await;
    nothing_is_lost(&lab, held).await;
}

#[tokio::test]
async fn a_store_works_through_tls() {
    let server = TlsServer::start(ClientCertificate::Required).await;
    let mut options = Options { url: server.redis_url(), ..super::options(&server.server) };
    options.config.tls = server.trust_and_identity();
    let lab = Lab::new(&At(options)).await;
    lab.declare(&["app"]).await;
    let mut bell = lab.store.bell();
    bell.mark_unchanged();
    let id = lab.add("user.created", "user_1").await;
    assert!(bell.has_changed().unwrap());
    let lease = lab.claim_one("app").await;
    lab.deliver(lease).await;
    let lab = lab.reopen().await;
    assert_eq!(lab.state(id, "app").await, State::Delivered);
}

#[tokio::test]
async fn with_wait_replicas_nothing_is_answered_that_no_replica_has_duplicates_included() {
    let (master, mut replica) = pair().await;
    let mut options = super::options(&master);
    options.config.wait_replicas = 1;
    let lab = Lab::new(&At(options)).await;
    let body = events::body("user.created", "user_1");
    let post =
        |svix_id: &'static str| lab.store.ingest(events::verified("clerk", svix_id, &body, lab.clock.now()));
    assert!(matches!(post("msg_1").await.unwrap(), Ingested::New(_)));
    assert!(matches!(post("msg_1").await.unwrap(), Ingested::Duplicate(_)));
    replica.kill();
    let (known, new) = tokio::join!(post("msg_1"), post("msg_2"));
    assert_unavailable(known);
    assert_unavailable(new);
    replica.restart().await;
    // What was not answered is there all the same: once a replica has it, its sender hears so.
    eventually("the replica has it", async || {
        post("msg_2").await.ok().filter(|kept| matches!(kept, Ingested::Duplicate(_)))
    })
    .await;
}
