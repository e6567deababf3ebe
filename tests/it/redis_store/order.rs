//! Order by subject while relays crash and the replies of their claims are lost.

use clerk_relay::config::redis_url::Topology;
use proptest::prelude::*;

use super::{At, options_at};
use crate::contract::interleaving::{Step, Wire, block_on, run, steps_with_faults};
use crate::support::proxy::Proxy;
use crate::support::redis::{RedisServer, tcp_url};

async fn run_with_faults(steps: Vec<Step>) {
    let server = RedisServer::start().await;
    let proxy = Proxy::to_port(server.port()).await;
    let kind = At(options_at(&server, tcp_url(&[proxy.port()], Topology::Standalone)));
    let wire = Wire { server, proxy };
    run(steps, &kind, Some(&wire)).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn order_holds_whatever_crashes_and_whatever_claim_is_lost(steps in steps_with_faults()) {
        block_on(run_with_faults(steps));
    }
}
