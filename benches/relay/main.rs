//! `cargo bench`: ingest and delivery at full durability, each beside its bare ceiling in the same run.
//!
//! Everything shares this machine's cores over loopback, so only the ratios mean something. Rounds are interleaved, the
//! medians are shown with their spread. `CLERK_RELAY_BENCH_EVENTS` sets the events of a round; `CLERK_RELAY_BENCH_REDIS` names a running
//! Redis that the relay keeps its events in instead of a file (the ceiling stays SQLite's); what an event costs that Redis is
//! shown as well.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a benchmark that cannot go on ends; its table is its output

mod bare;
mod cost;
mod load;
mod relay;

use std::time::Duration;

use load::{Load, Measured};

/// Rounds of each measurement; the median of an odd number is one of them.
const ROUNDS: usize = 3;
/// Events of one round, unless the environment says otherwise.
const EVENTS: usize = 20_000;
/// Connections of the load generator.
const CONNECTIONS: usize = 64;

fn main() {
    let events =
        std::env::var("CLERK_RELAY_BENCH_EVENTS").ok().and_then(|text| text.parse().ok()).unwrap_or(EVENTS);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run(events));
    runtime.shutdown_timeout(Duration::from_secs(1));
}

async fn run(events: usize) {
    println!(
        "{events} events a round, {ROUNDS} rounds, {CONNECTIONS} connections, 1.2 KB bodies, loopback\n"
    );
    let mut ingest = Pair::new("ingest", "bare hyper + HMAC + SQLite commit (FULL)");
    let mut delivery = Pair::new("delivery", "bare reqwest to the same receiver");
    for _ in 0..ROUNDS {
        let load = Load::sign(events);
        ingest.ceiling.push(bare::ingest(&load, CONNECTIONS).await);
        ingest.relay.push(relay::ingest(&load, CONNECTIONS).await);
        delivery.ceiling.push(bare::delivery(&load, relay::CONCURRENCY).await);
        delivery.relay.push(relay::delivery(&load).await);
    }
    println!("{:<10} {:>22} {:>22} {:>7}   ceiling", "", "relay", "ceiling", "ratio");
    for pair in [&ingest, &delivery] {
        pair.print();
    }
    if let Some(url) = relay::redis_url() {
        cost::print(&Load::sign(events), &url).await;
    }
}

/// The relay's rounds beside their ceiling's.
struct Pair {
    name: &'static str,
    ceiling_name: &'static str,
    relay: Vec<Measured>,
    ceiling: Vec<Measured>,
}

impl Pair {
    fn new(name: &'static str, ceiling_name: &'static str) -> Self {
        Self { name, ceiling_name, relay: Vec::new(), ceiling: Vec::new() }
    }

    fn print(&self) {
        let rate = |rounds: &[Measured]| spread(rounds.iter().map(|round| round.per_second()).collect());
        let (relay, ceiling) = (rate(&self.relay), rate(&self.ceiling));
        println!(
            "{:<10} {:>22} {:>22} {:>6.0}%   {}",
            self.name,
            format!("{:.0}/s (±{:.0})", relay.0, relay.1),
            format!("{:.0}/s (±{:.0})", ceiling.0, ceiling.1),
            100.0 * relay.0 / ceiling.0,
            self.ceiling_name
        );
        for (label, quantile) in [("p50", 0.5), ("p99", 0.99)] {
            let at = |rounds: &[Measured]| {
                spread(rounds.iter().filter_map(|round| round.latency_ms(quantile)).collect::<Vec<f64>>())
            };
            if self.relay.iter().all(|round| round.latency_ms(quantile).is_some()) {
                let (relay, ceiling) = (at(&self.relay), at(&self.ceiling));
                println!(
                    "{:<10} {:>22} {:>22} {:>6.0}%   at full load",
                    format!("  {label}"),
                    format!("{:.2} ms (±{:.2})", relay.0, relay.1),
                    format!("{:.2} ms (±{:.2})", ceiling.0, ceiling.1),
                    100.0 * relay.0 / ceiling.0,
                );
            }
        }
    }
}

/// Median and half the range.
fn spread(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let (first, last) = (values[0], values[values.len() - 1]);
    (values[values.len() / 2], (last - first) / 2.0)
}
