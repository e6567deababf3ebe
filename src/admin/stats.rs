//! The last hour at a glance, from the tallies that the relays keep minute by minute: `GET /api/v1/stats`, and the
//! success rate and latency that the list of targets shows. Latency is told from classes of durations: good enough to
//! see whether an app is slow, not for accounts.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State as Shared;
use serde::Serialize;
use utoipa::ToSchema;

use super::asked::{Nothing, Params};
use super::problem::answers::Always;
use super::views::Time;
use super::{Answer, Deps};
use crate::clock::Timestamp;
use crate::store::StoreError;
use crate::store::ledger::StatsQuery;
use crate::telemetry::tally::{Counted, Counter, TOOK, Tally};

/// Minutes that are shown, the present one included.
const MINUTES: usize = 60;
/// A minute in ms.
const MINUTE_MS: i64 = 60_000;

/// What came in and went out in the last hour
#[utoipa::path(get, path = "/stats", tag = "relay", operation_id = "getStats",
    responses((status = 200, description = "Counts for each minute", body = StatsJson), Always))]
pub async fn stats(Shared(deps): Shared<Deps>, _: Params<Nothing>) -> Answer<StatsJson> {
    let since = first_minute(deps.clock.now());
    Ok(Json(StatsJson::of(since, &deps.store.stats(StatsQuery::Since(since)).await?)))
}

/// The tallies of the last hour.
///
/// # Errors
/// The store's.
pub async fn last_hour(deps: &Deps) -> Result<Vec<Tally>, StoreError> {
    deps.store.stats(StatsQuery::Since(first_minute(deps.clock.now()))).await
}

/// The beginning of the first of the shown minutes.
fn first_minute(now: Timestamp) -> Timestamp {
    let present = now.as_ms().div_euclid(MINUTE_MS) * MINUTE_MS;
    Timestamp::from_ms(present - (MINUTES as i64 - 1) * MINUTE_MS)
}

/// Attempts of one target over some minutes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attempts {
    delivered: u64,
    failed: u64,
    took_ms: u64,
    /// How many took how long, by the classes of [`TOOK`].
    classes: [u64; TOOK.len()],
}

impl Attempts {
    /// Those in `tallies` that are of `of`.
    pub fn among(tallies: &[Tally], of: &Counted) -> Self {
        let mut found = Self::default();
        for tally in tallies.iter().filter(|tally| tally.of == *of) {
            found.add(tally);
        }
        found
    }

    fn add(&mut self, tally: &Tally) {
        if let Some(class) = TOOK.iter().position(|(counter, _)| *counter == tally.counter) {
            self.classes[class] += tally.count;
        } else if tally.counter == Counter::Delivered {
            self.delivered += tally.count;
        } else if tally.counter == Counter::Failed {
            self.failed += tally.count;
        } else if tally.counter == Counter::TookMs {
            self.took_ms += tally.count;
        }
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.delivered + self.failed
    }

    /// The part that delivered, 0 to 1.
    pub fn success_rate(&self) -> Option<f64> {
        (self.count() > 0).then(|| self.delivered as f64 / self.count() as f64)
    }

    /// How long they took.
    pub fn latency(&self) -> Option<LatencyJson> {
        let timed: u64 = self.classes.iter().sum();
        (timed > 0).then(|| LatencyJson {
            mean: self.took_ms as f64 / timed as f64,
            p50: self.quantile(0.5, timed),
            p95: self.quantile(0.95, timed),
        })
    }

    /// The duration in ms below which this part of the attempts stayed, as if each class were filled evenly. The last
    /// class has no end, so that its beginning stands for it.
    fn quantile(&self, part: f64, timed: u64) -> f64 {
        let rank = part * timed as f64;
        let (mut below, mut from_ms) = (0.0, 0.0);
        for (count, (_, bound)) in self.classes.iter().zip(TOOK) {
            let count = *count as f64;
            if bound == Duration::MAX {
                break;
            }
            let to_ms = bound.as_millis() as f64;
            if count > 0.0 && below + count >= rank {
                return from_ms + (to_ms - from_ms) * (rank - below) / count;
            }
            (below, from_ms) = (below + count, to_ms);
        }
        from_ms
    }
}

/// How long attempts took, in ms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
pub struct LatencyJson {
    /// On average.
    #[schema(minimum = 0)]
    mean: f64,
    /// Half of them took at most this, by classes of durations.
    #[schema(minimum = 0)]
    p50: f64,
    /// 95 of 100 took at most this.
    #[schema(minimum = 0)]
    p95: f64,
}

/// The last 60 minutes. Every list has one number for each of `minutes`.
#[derive(Serialize, ToSchema)]
pub struct StatsJson {
    /// Their beginnings, oldest first.
    minutes: Vec<Time>,
    /// By the source's name.
    sources: BTreeMap<String, SourceStatsJson>,
    /// By the target's name.
    targets: BTreeMap<String, TargetStatsJson>,
}

#[derive(Serialize, ToSchema)]
struct SourceStatsJson {
    /// Events stored.
    received: Vec<u64>,
    /// Known events that came again.
    duplicates: Vec<u64>,
    /// Requests that were not accepted.
    refused: Vec<u64>,
}

#[derive(Serialize, ToSchema)]
struct TargetStatsJson {
    /// Attempts that delivered.
    delivered: Vec<u64>,
    /// Attempts that failed.
    failed: Vec<u64>,
    /// Deliveries given up.
    dead: Vec<u64>,
    /// Over the whole hour; null where there were no attempts.
    #[schema(required)]
    latency_ms: Option<LatencyJson>,
}

impl StatsJson {
    fn of(since: Timestamp, tallies: &[Tally]) -> Self {
        let minute = |index: usize| Time(Timestamp::from_ms(since.as_ms() + index as i64 * MINUTE_MS));
        let (mut sources, mut targets) = (BTreeMap::new(), BTreeMap::new());
        for tally in tallies {
            let series = |counter| series(since, tallies, &tally.of, counter);
            match &tally.of {
                Counted::Source(name) => {
                    sources.entry(name.to_string()).or_insert_with(|| SourceStatsJson {
                        received: series(Counter::Received),
                        duplicates: series(Counter::Duplicates),
                        refused: series(Counter::Refused),
                    });
                }
                Counted::Target(name) => {
                    targets.entry(name.to_string()).or_insert_with(|| TargetStatsJson {
                        delivered: series(Counter::Delivered),
                        failed: series(Counter::Failed),
                        dead: series(Counter::Dead),
                        latency_ms: Attempts::among(tallies, &tally.of).latency(),
                    });
                }
            }
        }
        Self { minutes: (0..MINUTES).map(minute).collect(), sources, targets }
    }
}

/// One number for each minute.
fn series(since: Timestamp, tallies: &[Tally], of: &Counted, counter: Counter) -> Vec<u64> {
    let mut counts = vec![0; MINUTES];
    for tally in tallies.iter().filter(|tally| tally.of == *of && tally.counter == counter) {
        let index = (tally.minute.as_ms() - since.as_ms()).div_euclid(MINUTE_MS);
        if let Some(count) = usize::try_from(index).ok().and_then(|index| counts.get_mut(index)) {
            *count += tally.count;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> Counted {
        Counted::Target("app".parse().unwrap())
    }

    fn tally(minute_ms: i64, counter: Counter, count: u64) -> Tally {
        Tally { minute: Timestamp::from_ms(minute_ms), of: app(), counter, count }
    }

    #[test]
    fn latency_is_told_from_classes() {
        let tallies = [
            tally(0, Counter::Delivered, 90),
            tally(0, Counter::Failed, 10),
            tally(0, Counter::TookMs, 5_000),
            tally(0, Counter::TookUpTo10Ms, 50),
            tally(0, Counter::TookUpTo100Ms, 40),
            tally(0, Counter::TookUpTo300Ms, 10),
        ];
        let attempts = Attempts::among(&tallies, &app());
        assert_eq!((attempts.count(), attempts.success_rate()), (100, Some(0.9)));
        assert_eq!(attempts.latency(), Some(LatencyJson { mean: 50.0, p50: 10.0, p95: 200.0 }));
        let other = Counted::Source("app".parse().unwrap());
        assert_eq!(Attempts::among(&tallies, &other), Attempts::default());
    }

    #[test]
    fn nothing_has_no_rate_and_the_longest_class_has_its_beginning() {
        assert_eq!((Attempts::default().success_rate(), Attempts::default().latency()), (None, None));
        let long = [tally(0, Counter::TookLonger, 3), tally(0, Counter::TookMs, 60_000)];
        let latency = Attempts::among(&long, &app()).latency().unwrap();
        assert_eq!((latency.mean, latency.p50, latency.p95), (20_000.0, 10_000.0, 10_000.0));
    }

    #[test]
    fn every_minute_has_its_number() {
        let now = Timestamp::from_ms(2 * 3_600_000 + 61_500);
        let since = first_minute(now);
        let last = since.as_ms() + 59 * MINUTE_MS;
        assert_eq!(last, 2 * 3_600_000 + 60_000);
        let tallies = [
            tally(last, Counter::Delivered, 2),
            tally(last, Counter::Delivered, 3),
            tally(0, Counter::Dead, 9),
        ];
        let stats = StatsJson::of(since, &tallies);
        let app = &stats.targets["app"];
        assert_eq!((app.delivered.len(), app.delivered[59], app.delivered[58]), (MINUTES, 5, 0));
        assert!(app.dead.iter().all(|count| *count == 0), "it was before");
        assert!(stats.sources.is_empty() && stats.minutes.len() == MINUTES);
    }
}
