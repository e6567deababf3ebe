//! What can be seen of the store after a step, compared with the model.

use std::collections::{BTreeMap, BTreeSet};

use clerk_relay::event::EventId;
use clerk_relay::lifecycle::State;
use clerk_relay::lifecycle::breaker::Phase;
use clerk_relay::store::PauseReason;
use clerk_relay::store::query::{DeliveryQuery, DeliveryView, Page, TargetStatus};

use super::model::Standing;
use super::steps::Walk;

impl Walk {
    /// Every delivery that the store lists.
    pub async fn listed(&self) -> BTreeMap<(EventId, String), DeliveryView> {
        let (mut found, mut page) = (BTreeMap::new(), Page::first(500));
        loop {
            let paged = self.lab().store.deliveries(DeliveryQuery::default(), page).await.unwrap();
            found.extend(paged.rows.into_iter().map(|row| ((row.event_id, row.target.to_string()), row)));
            let Some(next) = paged.next else { return found };
            page = Page::after(500, next);
        }
    }

    /// Compares everything that can be seen.
    pub async fn compare(&self) {
        let listed = self.listed().await;
        let mut expected = BTreeSet::new();
        for (target, of) in &self.model.targets {
            for (id, one) in &of.deliveries {
                let key = (*id, target.clone());
                let view = listed.get(&key).unwrap_or_else(|| panic!("{key:?} is not listed: {one:?}"));
                let seen = (view.state, view.attempts, view.reason.as_deref(), view.takeovers);
                assert_eq!(
                    seen,
                    (one.state, one.total, one.reason.as_deref(), one.takeovers),
                    "{key:?} {one:?}"
                );
                if let Some(due) = view.due_at.filter(|_| !one.put_off && one.state == State::Waiting) {
                    // How long ago it became due is not told apart: it may have been put off until then.
                    let ahead = (due.as_ms() - self.lab().clock.now().as_ms()).max(0);
                    let wanted = ((one.due - self.model.now) * 1_000).max(0);
                    assert!((ahead - wanted).abs() < 29_000, "{key:?} is due in {ahead} ms: {one:?}");
                }
                expected.insert(key);
            }
        }
        let more: Vec<_> = listed.iter().filter(|(key, _)| !expected.contains(*key)).collect();
        assert!(more.is_empty(), "the model has no {more:?}");
        self.compare_overview().await;
    }

    async fn compare_overview(&self) {
        let overview = self.lab().store.overview().await.unwrap();
        assert_eq!(overview.events, self.model.events.len() as u64);
        let known = self.model.targets.iter().filter(|(_, one)| one.standing != Standing::Forgotten);
        let known: Vec<_> = known.collect();
        assert_eq!(overview.targets.len(), known.len(), "{:?}", overview.targets);
        for (seen, (name, target)) in overview.targets.iter().zip(known) {
            assert_eq!(seen.name.as_str(), name);
            let status = match (target.standing, target.paused) {
                (Standing::Orphan | Standing::Forgotten, _) => TargetStatus::Orphan,
                (Standing::Configured, true) => TargetStatus::Paused(PauseReason::Operator),
                (Standing::Configured, false) => TargetStatus::Active,
            };
            assert_eq!((seen.status, seen.breaker.revision), (status, target.revision), "{name}");
            let open = match seen.breaker.phase {
                Phase::Closed { .. } => None,
                Phase::Open { failed_probes, .. } => Some(failed_probes),
            };
            assert_eq!(open, target.open.map(|(failed, _)| failed), "{name}");
            let queued = target.unreached(&self.model.events).len() as u64 + target.count(State::Queued);
            let [in_flight, waiting, parked, dead] =
                [State::InFlight, State::Waiting, State::Parked, State::Dead]
                    .map(|state| target.count(state));
            assert_eq!(
                [seen.queued, seen.in_flight, seen.waiting, seen.parked, seen.dead],
                [queued, in_flight, waiting, parked, dead],
                "{name}: queued, in flight, waiting, parked, dead"
            );
        }
    }
}
