//! `kill -9` of relays and of Redis under load: at random moments over and over, and of each process in turn while a
//! given load is delivered. Moments are numbers of answers, not of milliseconds: they mean the same on any machine.

use std::str::FromStr;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::books::judge;
use super::fleet::{Apps, Fleet};
use super::load::Load;

/// Rounds in the gate; `CLERK_RELAY_KILLS` asks for more.
const ROUNDS: usize = 10;
/// What the rounds are drawn from; `CLERK_RELAY_SEED` sets another.
const SEED: u64 = 42;
/// Answers between two kills, at most.
const ANSWERS_MAX: usize = 200;
/// What goes wrong for senders before what was killed runs again, at most.
const REFUSALS_MAX: usize = 40;
/// Events of the load in the gate, and kills; `scripts/prove` asks for more.
const EVENTS: usize = 2_000;
const KILLS_IN_TURN: usize = 4;

const RELAYS: usize = 3;

/// What is killed at once.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Victims {
    relays: Vec<usize>,
    redis: bool,
}

impl Victims {
    /// One relay mostly; else Redis, two relays, a relay with Redis, or everything.
    fn draw(dice: &mut StdRng) -> Self {
        let one = dice.random_range(0..RELAYS);
        let other = (one + dice.random_range(1..RELAYS)) % RELAYS;
        match dice.random_range(0..10) {
            0..=3 => Self { relays: vec![one], redis: false },
            4..=5 => Self { relays: vec![], redis: true },
            6..=7 => Self { relays: vec![one, other], redis: false },
            8 => Self { relays: vec![one], redis: true },
            _ => Self { relays: (0..RELAYS).collect(), redis: true },
        }
    }

    /// Each relay and then Redis, and from the beginning again.
    fn in_turn(turn: usize) -> Self {
        match turn % (RELAYS + 1) {
            RELAYS => Self { relays: vec![], redis: true },
            relay => Self { relays: vec![relay], redis: false },
        }
    }

    /// Kills them; senders see it; starts them again.
    async fn kill(&self, fleet: &mut Fleet, load: &Load, refusals: usize) {
        let goal = load.refusals() + refusals;
        for relay in &self.relays {
            fleet.kill(*relay);
        }
        if self.redis {
            fleet.redis.kill();
        }
        let since = Instant::now();
        // Where the load has ended, nobody is refused any more.
        while load.refusals() < goal && since.elapsed() < Duration::from_secs(2) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        if self.redis {
            fleet.redis.restart().await;
        }
        for relay in &self.relays {
            fleet.revive(*relay);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_relays_and_redis_loses_nothing_that_was_answered() {
    let (rounds, seed) = (set("CLERK_RELAY_KILLS", ROUNDS), set("CLERK_RELAY_SEED", SEED));
    println!("{rounds} rounds of CLERK_RELAY_SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let apps = Apps::start().await;
    let mut fleet = Fleet::start(RELAYS, apps.targets(), "1s").await;
    let load = Load::start(&fleet.doors, usize::MAX);
    let (mut relays, mut redis) = (0, 0);
    for _ in 0..rounds {
        let (victims, answers) = (Victims::draw(&mut dice), dice.random_range(1..=ANSWERS_MAX));
        let refusals = dice.random_range(1..=REFUSALS_MAX);
        load.reach(load.answers() + answers).await;
        victims.kill(&mut fleet, &load, refusals).await;
        relays += victims.relays.len();
        redis += usize::from(victims.redis);
    }
    let answered = load.stop().await;
    let result = judge(&fleet, &apps, &answered).await;
    println!("{rounds} rounds, kill -9 of a relay {relays} times, of Redis {redis} times\n{result}");
}

/// What `scripts/prove` runs with larger numbers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_process_is_killed_in_turn_and_the_books_agree() {
    let events = set("CLERK_RELAY_PROVE_EVENTS", EVENTS);
    let kills = set("CLERK_RELAY_PROVE_KILLS", KILLS_IN_TURN);
    let since = Instant::now();
    let apps = Apps::start().await;
    let mut fleet = Fleet::start(RELAYS, apps.targets(), "1s").await;
    let load = Load::start(&fleet.doors, events);
    for turn in 0..kills {
        load.reach(events * (turn + 1) / (kills + 1)).await;
        Victims::in_turn(turn).kill(&mut fleet, &load, REFUSALS_MAX / 2).await;
    }
    let answered = load.finish().await;
    let loaded = since.elapsed();
    let result = judge(&fleet, &apps, &answered).await;
    let of = |victim: usize| (0..kills).filter(|turn| turn % (RELAYS + 1) == victim).count();
    println!(
        "\n{RELAYS} relays on one Redis; kill -9 of relay 1: {}, relay 2: {}, relay 3: {}, Redis: {}",
        of(0),
        of(1),
        of(2),
        of(3)
    );
    println!("{result}\nanswered in {loaded:.1?}, delivered and compared after {:.1?}", since.elapsed());
}

fn set<T: FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
