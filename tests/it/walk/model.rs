//! The model: what a store must hold, in plain maps, by the words of the port. Time is in seconds since the walk began; it
//! only moves by whole minutes, and every span that is compared with it ends half a minute off, so that the real time
//! that a walk takes decides nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use clerk_relay::event::EventId;
use clerk_relay::lifecycle::{State, Transition};
use clerk_relay::store::query::RedriveAction;

/// Half a minute.
pub const HALF: Duration = Duration::from_secs(30);
const DAY: i64 = 24 * 3600;

/// An event that is kept.
#[derive(Debug, Clone)]
pub struct Event {
    pub accepted: i64,
    pub event_type: &'static str,
    pub subject: Option<String>,
    pub erased: bool,
}

/// A delivery that has a record, or is in flight.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub state: State,
    /// Since the budget began.
    pub attempts: u32,
    pub total: u32,
    pub reason: Option<String>,
    pub due: i64,
    pub retried: Option<i64>,
    pub takeovers: u32,
    pub died: i64,
    pub lane: Option<String>,
    /// A claim may have looked at it while its subject held it back: for half a second it may not come.
    pub put_off: bool,
}

impl Delivery {
    pub fn new(state: State, due: i64, lane: Option<String>) -> Self {
        Self {
            state,
            attempts: 0,
            total: 0,
            reason: None,
            due,
            retried: None,
            takeovers: 0,
            died: 0,
            lane,
            put_off: false,
        }
    }

    fn is_erased(&self) -> bool {
        self.reason.as_deref() == Some("erased")
    }

    pub fn end_erased(&mut self) {
        (self.state, self.reason) = (State::Cancelled, Some("erased".to_owned()));
    }

    fn rearm(&mut self, now: i64) {
        (self.state, self.due, self.reason) = (State::Waiting, now, None);
        (self.attempts, self.retried, self.put_off) = (0, Some(now), false);
    }

    /// Due again as if it had not been claimed.
    fn give_back(&mut self, now: i64) {
        if self.is_erased() {
            return self.end_erased();
        }
        self.state = if self.total == 0 { State::Queued } else { State::Waiting };
        (self.due, self.put_off) = (now, false);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Configured,
    Orphan,
    Forgotten,
}

#[derive(Debug, Clone)]
pub struct Target {
    pub standing: Standing,
    pub paused: bool,
    pub ordered: bool,
    /// The last event that it has passed.
    pub cursor: Option<EventId>,
    pub revision: u64,
    /// Failed probes and the next probe, while the breaker is open.
    pub open: Option<(u32, i64)>,
    pub deliveries: BTreeMap<EventId, Delivery>,
}

#[derive(Debug, Default)]
pub struct Model {
    pub now: i64,
    pub events: BTreeMap<EventId, Event>,
    /// `svix-id` to event and end of the window.
    pub marks: BTreeMap<String, (EventId, i64)>,
    pub targets: BTreeMap<String, Target>,
}

impl Target {
    /// The subject as a lane, where this target orders such events.
    pub fn lane(&self, event: &Event) -> Option<String> {
        event.subject.clone().filter(|_| self.ordered && event.event_type != "email.created")
    }

    fn unfinished<'t>(&'t self, lane: &'t str) -> impl Iterator<Item = (&'t EventId, &'t Delivery)> {
        let of_lane = move |one: &(&EventId, &Delivery)| one.1.lane.as_deref() == Some(lane);
        self.deliveries
            .iter()
            .filter(|(_, one)| !one.state.is_ended() && one.state != State::Dead)
            .filter(of_lane)
    }

    /// Whether an unfinished delivery of the lane holds back a new one.
    pub fn holds(&self, lane: &str) -> bool {
        self.unfinished(lane).next().is_some()
    }

    /// Whether its lane keeps this delivery from being claimed.
    pub fn blocks(&self, id: EventId) -> bool {
        let delivery = &self.deliveries[&id];
        let Some(lane) = &delivery.lane else { return false };
        self.unfinished(lane).any(|(other, one)| {
            *other != id && (one.state == State::InFlight || (delivery.retried.is_none() && *other < id))
        })
    }

    /// One of the lane has ended: where only parked ones are left, the oldest is due.
    pub fn release(&mut self, lane: Option<String>, now: i64) {
        let Some(lane) = lane else { return };
        let oldest = self.unfinished(&lane).next().map(|(id, _)| *id);
        if let Some(id) = oldest.filter(|_| self.unfinished(&lane).all(|(_, one)| one.state == State::Parked))
        {
            let head = self.deliveries.get_mut(&id).unwrap();
            (head.state, head.due, head.put_off) = (State::Waiting, now, false);
        }
    }

    /// What its cursor has not reached.
    pub fn unreached(&self, events: &BTreeMap<EventId, Event>) -> Vec<EventId> {
        let is_unreached = |id: &EventId| self.cursor.is_none_or(|cursor| *id > cursor);
        events.iter().filter(|(id, one)| !one.erased && is_unreached(id)).map(|(id, _)| *id).collect()
    }

    /// How many new ones it will get: what has not ended since it was forgotten and came back is passed, and no new one.
    pub fn new_ones(&self, events: &BTreeMap<EventId, Event>) -> usize {
        let goes_on = |one: &Delivery| !one.state.is_ended();
        self.unreached(events).iter().filter(|id| !self.deliveries.get(id).is_some_and(goes_on)).count()
    }

    pub fn count(&self, state: State) -> u64 {
        self.deliveries.values().filter(|one| one.state == state).count() as u64
    }

    fn cancel_unfinished(&mut self) {
        for one in self.deliveries.values_mut() {
            if matches!(one.state, State::Queued | State::Waiting | State::Parked) {
                one.state = State::Cancelled;
            }
        }
    }
}

impl Model {
    pub fn target(&mut self, name: &str) -> &mut Target {
        self.targets.get_mut(name).unwrap()
    }

    pub fn advance(&mut self, minutes: i64) {
        self.now += minutes * 60;
        for target in self.targets.values_mut() {
            target.deliveries.values_mut().for_each(|one| one.put_off = false);
        }
    }

    /// The event that makes this `svix-id` a duplicate.
    pub fn known(&self, svix_id: &str) -> Option<EventId> {
        self.marks.get(svix_id).filter(|(_, until)| *until > self.now).map(|(id, _)| *id)
    }

    pub fn keep(&mut self, id: EventId, svix_id: &str, event: Event) {
        self.marks.insert(svix_id.to_owned(), (id, self.now + 7 * DAY + 30));
        self.events.insert(id, event);
    }

    /// A settle under a lease that is held.
    pub fn settle(&mut self, name: &str, id: EventId, transition: Transition) {
        let now = self.now;
        let target = self.targets.get_mut(name).unwrap();
        let one = target.deliveries.get_mut(&id).unwrap();
        assert_eq!(one.state, State::InFlight, "{id} to {name}");
        let erased = one.is_erased();
        one.reason = None;
        if transition.counts() {
            (one.attempts, one.total) = (one.attempts + 1, one.total + 1);
        }
        match if erased { transition.of_erased() } else { transition } {
            Transition::Deliver => one.state = State::Delivered,
            Transition::Erase => one.end_erased(),
            Transition::Wait { after } | Transition::Postpone { after } => {
                (one.state, one.due) = (State::Waiting, now + after.as_secs() as i64);
            }
            Transition::Return => one.give_back(now),
            Transition::Skip(reason) => {
                (one.state, one.reason) = (State::Skipped, Some(reason.as_str().to_owned()));
            }
            Transition::Die(reason) => {
                (one.state, one.reason, one.died) = (State::Dead, Some(reason.as_str().to_owned()), now);
            }
        }
        one.put_off = false;
        if target.standing == Standing::Forgotten && matches!(one.state, State::Queued | State::Waiting) {
            one.state = State::Cancelled;
        }
        let lane = one.lane.clone().filter(|_| !matches!(one.state, State::Queued | State::Waiting));
        target.release(lane, now);
        if matches!(transition, Transition::Die(_)) && !erased {
            for (_, until) in self.marks.values_mut().filter(|(marked, _)| *marked == id) {
                *until = (*until).max(now + 30 * DAY + 30);
            }
        }
    }

    /// The relay died, or closed: what was in flight is taken over.
    pub fn take_over(&mut self) {
        for target in self.targets.values_mut() {
            let mut ended = Vec::new();
            for one in target.deliveries.values_mut().filter(|one| one.state == State::InFlight) {
                one.give_back(self.now);
                one.takeovers += 1;
                if target.standing == Standing::Forgotten {
                    one.state = State::Cancelled;
                }
                ended.extend(one.lane.clone().filter(|_| one.state == State::Cancelled));
            }
            ended.into_iter().for_each(|lane| target.release(Some(lane), self.now));
        }
    }

    /// Makes `name` begin, with what it passes.
    pub fn begin(&mut self, name: &str, ordered: bool, cursor: Option<EventId>) {
        let deliveries = self.targets.remove(name).map_or_else(BTreeMap::new, |old| old.deliveries);
        let standing = Standing::Configured;
        let target = Target { standing, paused: false, ordered, cursor, revision: 0, open: None, deliveries };
        self.targets.insert(name.to_owned(), target);
    }

    pub fn forget(&mut self, name: &str) {
        let target = self.target(name);
        (target.standing, target.paused) = (Standing::Forgotten, false);
        target.cancel_unfinished();
    }

    /// A redrive of everything to `only`, or to all; returns how many move.
    pub fn redrive(&mut self, action: RedriveAction, only: Option<&str>, states: &[State]) -> u64 {
        use State::{Cancelled, Dead, Delivered, Parked, Queued, Skipped, Waiting};
        let allowed: &[State] = match action {
            RedriveAction::Retry => &[Dead, Waiting],
            RedriveAction::Replay => &[Delivered, Skipped, Cancelled, Dead],
            RedriveAction::Cancel => &[Queued, Waiting, Parked, Dead],
        };
        let from_log = action == RedriveAction::Replay && only.is_some() && states.is_empty();
        let (now, mut moved) = (self.now, 0);
        for (_, target) in
            self.targets.iter_mut().filter(|(name, _)| only.is_none_or(|only| only == name.as_str()))
        {
            for (id, event) in self.events.iter().rev().filter(|(_, event)| !event.erased) {
                let lane = target.lane(event);
                if let Some(one) = target.deliveries.get_mut(id) {
                    if !allowed.contains(&one.state) || !(states.is_empty() || states.contains(&one.state)) {
                        continue;
                    }
                    moved += 1;
                    if action == RedriveAction::Cancel {
                        (one.state, one.reason) = (Cancelled, None);
                        let lane = one.lane.clone();
                        target.release(lane, now);
                    } else {
                        one.rearm(now);
                    }
                } else if from_log
                    && target.standing != Standing::Forgotten
                    && target.cursor.is_some_and(|at| *id <= at)
                {
                    let mut one = Delivery::new(Queued, now, lane);
                    one.retried = Some(now);
                    target.deliveries.insert(*id, one);
                    moved += 1;
                }
            }
        }
        moved
    }

    /// A sweep left these events; checks that all others might go.
    pub fn sweep(&mut self, left: &[EventId]) -> u64 {
        let now = self.now;
        for target in self.targets.values_mut() {
            if target.standing == Standing::Forgotten {
                target.cancel_unfinished();
            }
            target.deliveries.retain(|_, one| one.state != State::Dead || one.died + 30 * DAY + 30 > now);
        }
        let removable = |id: &EventId, event: &Event| {
            let free = |target: &Target| {
                let passed = event.erased
                    || target.standing == Standing::Forgotten
                    || target.cursor.is_some_and(|at| *id <= at);
                passed
                    && target
                        .deliveries
                        .get(id)
                        .is_none_or(|one| one.state.is_ended() && one.state != State::Dead)
            };
            event.accepted + 7 * DAY + 30 <= now && self.targets.values().all(free)
        };
        let removable: Vec<EventId> =
            self.events.iter().filter(|(id, event)| removable(id, event)).map(|(id, _)| *id).collect();
        let gone: Vec<EventId> = self.events.keys().filter(|id| !left.contains(id)).copied().collect();
        for id in &gone {
            assert!(removable.contains(id), "{id} was removed although it is needed");
            self.events.remove(id);
            self.targets.values_mut().for_each(|target| drop(target.deliveries.remove(id)));
        }
        // What is in flight from the log may hold back what came after it.
        if self.targets.values().all(|target| target.count(State::InFlight) == 0) {
            // An erased event may stay for as long as an earlier one is waited for.
            let waited_for = self.targets.values().filter(|target| target.standing != Standing::Forgotten);
            let first = waited_for.filter_map(|target| target.unreached(&self.events).first().copied()).min();
            let must = removable.iter().filter(|id| first.is_none_or(|first| **id < first));
            assert!(must.into_iter().all(|id| gone.contains(id)), "several sweeps remove all that may go");
        }
        gone.len() as u64
    }
}
