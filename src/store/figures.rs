//! The figures of a store at a moment, as metrics: read when somebody scrapes, never counted. Beside them what the relay
//! says of itself. Targets are labels by their configured names; who left the configuration stays while the store knows
//! of it.

use prometheus_client::metrics::gauge::Gauge;

use super::query::{Durability, Overview, TargetOverview, TargetStatus};
use super::readiness::{Health, Ready};
use crate::clock::Timestamp;
use crate::lifecycle::State;
use crate::lifecycle::breaker::Phase;
use crate::telemetry::meters::family::{Book, Metered};
use crate::telemetry::meters::{GaugeF64, about};

/// The gauges of targets.
struct OfTargets {
    deliveries: Metered<Gauge>,
    oldest: Metered<GaugeF64>,
    breaker_open: Metered<Gauge>,
    breaker_since: Metered<GaugeF64>,
    paused: Metered<Gauge>,
    orphaned: Metered<Gauge>,
}

/// What `health` says, as metrics.
pub fn of(health: &Health) -> Book {
    let mut book = Book::default();
    let identity = &health.identity;
    let build = about!(Info "clerk_relay_build" ["version"], "The program");
    book.info(build, &[identity.version]);
    let configuration = about!(Info "clerk_relay_configuration" ["fingerprint"],
        "The configuration: equal for equal configurations");
    book.info(configuration, &[&identity.fingerprint]);
    let start = about!(Gauge "clerk_relay_start_time_seconds" [], "When the relay started");
    book.one::<GaugeF64>(start).set(seconds(identity.started_at));
    let ready = about!(Gauge "clerk_relay_ready" [], "1 where events are taken, else 0");
    let is_ready = health.ready != Ready::No;
    book.reading(ready, Some(i64::from(is_ready)));
    let up = about!(Gauge "clerk_relay_store_up" [],
        "1 where the store answered when it was last asked, else 0; then the other figures of the store are absent");
    book.reading(up, Some(i64::from(health.overview.is_some())));
    of_store(&mut book, health.overview.as_deref());
    let of_targets = OfTargets::new(&mut book);
    health.overview.iter().flat_map(|overview| &overview.targets).for_each(|target| of_targets.set(target));
    book
}

#[rustfmt::skip] // a table
fn of_store(book: &mut Book, overview: Option<&Overview>) {
    let mut of = |about, value: fn(&Overview) -> u64| book.reading(about, overview.map(value).map(whole));
    of(about!(Gauge "clerk_relay_store_events" [],
        "Events that are kept"), |overview| overview.events);
    of(about!(Gauge "clerk_relay_store_bytes" [],
        "Bytes that the store uses"), |overview| overview.size_bytes);
    of(about!(Gauge "clerk_relay_store_limit_bytes" [],
        "Bytes that the store may use; beyond them events are answered 503"), |overview| overview.size_max_bytes);
    let durability: Metered<Gauge> = book.family(about!(Gauge "clerk_relay_store_durability" ["durability"],
        "1 for how sure it is that an answered event survives a crash, else 0: `proven`, `declared`, `memory`, `overlay`, `relaxed`"),
        Gauge::default);
    let Some(overview) = overview else { return };
    for degree in Durability::ALL {
        durability.with(&[degree.as_str()]).set(i64::from(overview.durability == degree));
    }
}

impl OfTargets {
    #[rustfmt::skip] // a table
    fn new(book: &mut Book) -> Self {
        Self {
            deliveries: book.family(about!(Gauge "clerk_relay_deliveries" ["target", "state"],
                "Deliveries that have not ended well: `queued`, `in_flight`, `waiting`, `parked`, `dead`"), Gauge::default),
            oldest: book.family(about!(Gauge "clerk_relay_oldest_unfinished_timestamp_seconds" ["target"],
                "When the event of the oldest unfinished delivery was accepted; absent where there is none"), GaugeF64::default),
            breaker_open: book.family(about!(Gauge "clerk_relay_breaker_open" ["target"],
                "1 while the target's breaker is open, else 0"), Gauge::default),
            breaker_since: book.family(about!(Gauge "clerk_relay_breaker_opened_timestamp_seconds" ["target"],
                "When the target's breaker opened; absent while it is closed"), GaugeF64::default),
            paused: book.family(about!(Gauge "clerk_relay_target_paused" ["target"],
                "1 while the target is paused, else 0"), Gauge::default),
            orphaned: book.family(about!(Gauge "clerk_relay_target_orphaned" ["target"],
                "1 where the target has left the configuration and is not forgotten, else 0"), Gauge::default),
        }
    }

    fn set(&self, target: &TargetOverview) {
        let TargetOverview {
            name,
            status,
            breaker,
            queued,
            in_flight,
            waiting,
            parked,
            dead,
            oldest_unfinished,
        } = target;
        let name = name.as_str();
        for (state, count) in [
            (State::Queued, queued),
            (State::InFlight, in_flight),
            (State::Waiting, waiting),
            (State::Parked, parked),
            (State::Dead, dead),
        ] {
            self.deliveries.with(&[name, state.as_str()]).set(whole(*count));
        }
        if let Some(oldest) = oldest_unfinished {
            self.oldest.with(&[name]).set(seconds(*oldest));
        }
        let open = match breaker.phase {
            Phase::Closed { .. } => None,
            Phase::Open { since, .. } => Some(since),
        };
        self.breaker_open.with(&[name]).set(i64::from(open.is_some()));
        if let Some(since) = open {
            self.breaker_since.with(&[name]).set(seconds(since));
        }
        let (is_paused, is_orphan) = match status {
            TargetStatus::Active => (false, false),
            TargetStatus::Paused(_) => (true, false),
            TargetStatus::Orphan => (false, true),
        };
        self.paused.with(&[name]).set(i64::from(is_paused));
        self.orphaned.with(&[name]).set(i64::from(is_orphan));
    }
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn seconds(at: Timestamp) -> f64 {
    at.as_ms() as f64 / 1000.0
}
