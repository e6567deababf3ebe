//! What an event costs a Redis: commands, round trips, bytes in memory and in the append-only file. Counted by the server
//! itself, so exact on any machine; needs a Redis that nobody else uses meanwhile.

use std::collections::HashMap;

use crate::load::Load;
use crate::relay;

/// Targets of the measurements with deliveries.
const TARGETS: [usize; 2] = [1, 3];

/// The server's counters at a moment.
struct Counters {
    commands: f64,
    calls: f64,
    memory_bytes: f64,
    file_bytes: f64,
}

impl Counters {
    async fn read(url: &str) -> Self {
        let client = redis::Client::open(url).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut text = String::new();
        for section in ["stats", "memory", "persistence", "commandstats"] {
            text += &redis::cmd("INFO").arg(section).query_async::<String>(&mut connection).await.unwrap();
        }
        let fields: HashMap<&str, &str> = text.lines().filter_map(|line| line.split_once(':')).collect();
        let number = |name: &str| fields.get(name).and_then(|text| text.parse().ok()).unwrap_or(0.0);
        let calls = fields.get("cmdstat_evalsha").and_then(|stats| stats.split(',').next());
        let calls = calls.and_then(|calls| calls.strip_prefix("calls=")?.parse().ok()).unwrap_or(0.0);
        Self {
            commands: number("total_commands_processed"),
            calls,
            memory_bytes: number("used_memory"),
            file_bytes: number("aof_current_size"),
        }
    }
}

/// Prints what each of `load`'s events costs the Redis at `url`: kept, and delivered to one target and to three.
pub async fn print(load: &Load, url: &str) {
    let body_bytes = load.events.iter().map(|event| event.body.len()).sum::<usize>() / load.events.len();
    println!("\nWhat an event with a body of {body_bytes} bytes costs Redis, under load");
    println!(
        "{:<28} {:>9} {:>11} {:>13} {:>11}",
        "", "commands", "round trips", "memory bytes", "file bytes"
    );
    let before = Counters::read(url).await;
    relay::ingest(load, 64).await;
    let kept = Counters::read(url).await;
    row("kept", load, &before, &kept);
    for targets in TARGETS {
        let place = relay::fill(load).await;
        let before = Counters::read(url).await;
        relay::deliver(load, &place, targets).await;
        let after = Counters::read(url).await;
        row(&format!("delivered to {targets} target(s)"), load, &before, &after);
    }
}

fn row(what: &str, load: &Load, before: &Counters, after: &Counters) {
    let each = |before: f64, after: f64| (after - before) / load.events.len() as f64;
    println!(
        "{what:<28} {:>9.2} {:>11.2} {:>13.0} {:>11.0}",
        each(before.commands, after.commands),
        each(before.calls, after.calls),
        each(before.memory_bytes, after.memory_bytes),
        each(before.file_bytes, after.file_bytes),
    );
}
