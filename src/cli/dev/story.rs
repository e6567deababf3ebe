//! Tells what happens to events, by looking at the store's records: what is shown is what was written down.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use reqwest::StatusCode;
use tokio::sync::watch;

use crate::event::{EventId, TargetName};
use crate::lifecycle::State;
use crate::lifecycle::attempt::{Attempt, ErrorClass};
use crate::store::Store;
use crate::store::query::{
    DeliveryDetail, DeliveryQuery, EventDetail, EventLookup, EventRef, Page, TargetStatus,
};

/// Between two looks at the store while something is unfinished: not every end rings the bell.
const LOOK_BUSY: Duration = Duration::from_millis(250);
/// Between two looks while nothing is: what comes rings the bell, so this only makes sure.
const LOOK_IDLE: Duration = Duration::from_secs(2);
/// After a ring, until the next look: many events in a row are one look.
const LOOK_APART: Duration = Duration::from_millis(50);
/// The newest deliveries looked at; a demonstration has a handful.
const DELIVERIES_LOOKED_AT: u32 = 100;

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const FAINT: Style = Style::new().dimmed();

/// A sample was posted and answered.
pub fn sent(event_type: &str, svix_id: &str, status: StatusCode) {
    let style = if status.is_success() { GOOD } else { BAD };
    anstream::println!(
        "→ {event_type:<32} posted, signed; the relay answered {style}{}{style:#} {FAINT}{svix_id}{FAINT:#}",
        status.as_u16()
    );
}

/// Whether the bell ended a rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rung {
    Yes,
    No,
}

/// Remembers what was told, so that each thing is told once.
pub struct Story {
    store: Arc<dyn Store>,
    /// Rung by the store where there is new work.
    bell: watch::Receiver<u64>,
    /// Of the deliveries that the last look saw, and those of the samples.
    told: HashMap<(EventId, TargetName), (u32, State)>,
}

impl Story {
    /// Nothing has been told yet.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { bell: store.bell(), store, told: HashMap::new() }
    }

    /// Tells on until every delivery of these events has ended, or the target is paused; whether all were delivered.
    ///
    /// # Errors
    /// The store's.
    pub async fn tell_until_all_ended(&mut self, svix_ids: &[String]) -> anyhow::Result<bool> {
        loop {
            let mut states = Vec::new();
            for svix_id in svix_ids {
                match self.store.event(EventRef::SvixId(svix_id.clone())).await? {
                    EventLookup::One(detail) => {
                        states.extend(detail.deliveries.iter().map(|delivery| delivery.view.state));
                        self.tell(&detail);
                    }
                    EventLookup::None | EventLookup::Many(_) => return Ok(false),
                }
            }
            if states.iter().all(|state| state.is_ended()) {
                return Ok(states.iter().all(|state| *state == State::Delivered));
            }
            if self.is_paused().await? {
                anstream::println!(
                    "{BAD}✗ the target is paused: what is left waits until it is resumed{BAD:#}"
                );
                return Ok(false);
            }
            self.rest(LOOK_BUSY).await;
        }
    }

    /// Whether nothing more ends by itself: an answer 410 pauses a target, and so does an operator.
    async fn is_paused(&self) -> anyhow::Result<bool> {
        let targets = self.store.overview().await?.targets;
        Ok(targets
            .iter()
            .any(|target| matches!(target.status, TargetStatus::Paused(_)) && target.in_flight == 0))
    }

    /// Tells whatever happens from now on.
    ///
    /// # Errors
    /// The store's.
    pub async fn tell_for_ever(&mut self) -> anyhow::Result<u8> {
        let mut rung = Rung::Yes;
        loop {
            let page =
                self.store.deliveries(DeliveryQuery::default(), Page::first(DELIVERIES_LOOKED_AT)).await?;
            let is_busy = page.rows.iter().any(|view| !view.state.is_ended());
            let mut seen = HashSet::new();
            for view in page.rows.into_iter().rev() {
                let key = (view.event_id, view.target);
                seen.insert(key.clone());
                if self.told.get(&key) == Some(&(view.attempts, view.state)) {
                    continue;
                }
                if let EventLookup::One(detail) = self.store.event(EventRef::Id(key.0)).await? {
                    self.tell(&detail);
                }
            }
            self.told.retain(|key, _| seen.contains(key)); // what fell off the page is over
            // Right after a ring what rang may not have a record yet.
            rung = self.rest(if is_busy || rung == Rung::Yes { LOOK_BUSY } else { LOOK_IDLE }).await;
        }
    }

    /// Waits for the bell, but not for longer than `at_most`.
    async fn rest(&mut self, at_most: Duration) -> Rung {
        match tokio::time::timeout(at_most, self.bell.changed()).await {
            Ok(Ok(())) => {
                tokio::time::sleep(LOOK_APART).await;
                return Rung::Yes;
            }
            Ok(Err(_)) => tokio::time::sleep(at_most).await, // a bell without a store does not ring again
            Err(_) => {}
        }
        Rung::No
    }

    fn tell(&mut self, detail: &EventDetail) {
        for delivery in &detail.deliveries {
            let view = &delivery.view;
            let key = (view.event_id, view.target.clone());
            let now = (view.attempts, view.state);
            let (attempts_told, state_told) = self.told.insert(key, now).unwrap_or((0, State::Queued));
            for attempt in delivery.attempts.iter().filter(|attempt| attempt.number > attempts_told) {
                tell_attempt(&detail.meta.event_type, delivery, attempt);
            }
            if view.state == State::Dead && state_told != State::Dead {
                let reason = view.reason.as_deref().unwrap_or("given up");
                anstream::println!("{BAD}✗ {:<32} dead letter: {reason}{BAD:#}", detail.meta.event_type);
            }
        }
    }
}

fn tell_attempt(event_type: &str, delivery: &DeliveryDetail, attempt: &Attempt) {
    let took_ms = attempt.took.as_millis();
    let number = attempt.number;
    let target = &delivery.view.target;
    let Some(class) = attempt.error else {
        let status = attempt.status.unwrap_or_default();
        anstream::println!(
            "{GOOD}✓ {event_type:<32} attempt {number} to {target}: {status} in {took_ms} ms, delivered{GOOD:#}"
        );
        return;
    };
    let what = match (class, attempt.status) {
        (ErrorClass::Status, Some(status)) => status.to_string(),
        (class, _) => class.as_str().to_owned(),
    };
    let next = delivery.view.due_at.filter(|_| number == delivery.view.attempts);
    let next = next.map_or_else(String::new, |due| {
        format!(", next in {:.1} s", due.since(attempt.at.plus(attempt.took)).as_secs_f64())
    });
    let reply: String =
        String::from_utf8_lossy(&attempt.reply).chars().filter(|c| !c.is_control()).take(60).collect();
    anstream::println!(
        "{BAD}✗ {event_type:<32} attempt {number} to {target}: {what} in {took_ms} ms{next}{BAD:#} {FAINT}{reply}{FAINT:#}"
    );
}
