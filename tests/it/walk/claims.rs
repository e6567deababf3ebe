//! Whether the model allows what a claim gave, and what follows from it.

use std::collections::BTreeSet;

use clerk_relay::event::EventId;
use clerk_relay::lifecycle::State;
use clerk_relay::store::{Claimed, Lease, More};

use super::model::{Delivery, Model, Standing, Target};

/// What a claim asked for.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub leases_max: usize,
    /// One lease at most, by its bytes.
    pub one_by_bytes: bool,
    /// How long a probe holds off others, in seconds.
    pub hold: i64,
}

impl Asked {
    fn most(self) -> usize {
        if self.one_by_bytes { self.leases_max.min(1) } else { self.leases_max }
    }
}

fn take(target: &mut Target, id: EventId, lease: &Lease) {
    let one = target.deliveries.get_mut(&id).unwrap();
    one.state = State::InFlight;
    let progress = lease.progress();
    assert_eq!((progress.attempts, progress.attempts_total), (one.attempts, one.total), "{id}");
    assert_eq!(progress.takeovers, one.takeovers, "{id}");
    assert_eq!(progress.retried_at.is_some(), one.retried.is_some(), "{id}");
}

impl Model {
    /// Passes what the claim has taken from the log: `seen` are the target's deliveries after it.
    fn pass(&mut self, name: &str, claimed: &Claimed, seen: &BTreeSet<EventId>, all: bool) -> Vec<EventId> {
        let events = &self.events;
        let target = self.targets.get_mut(name).unwrap();
        let (mut taken, mut over) = (Vec::new(), false);
        for id in target.unreached(events) {
            if !all && !seen.contains(&id) {
                over = true;
                continue;
            }
            assert!(!over, "{id} was taken before an earlier one");
            target.cursor = Some(id);
            let (lane, lease) =
                (target.lane(&events[&id]), claimed.leases.iter().find(|one| one.event_id() == id));
            let held = lane.as_deref().is_some_and(|lane| target.holds(lane));
            let old = target.deliveries.get(&id).cloned();
            if let Some(old) = &old
                && !(old.state.is_ended() || old.state == State::Dead)
            {
                // It has not ended since the target was forgotten, and is no new one.
                continue;
            }
            let mut one = match old {
                // A target that was forgotten and came back meets its own history.
                Some(mut old) => {
                    (old.state, old.due, old.reason, old.lane) = (State::Waiting, self.now, None, lane);
                    (old.attempts, old.retried) = (0, Some(self.now));
                    old
                }
                None => Delivery::new(if held { State::Parked } else { State::Queued }, self.now, lane),
            };
            one.put_off = held; // it may have been looked at by the same claim
            target.deliveries.insert(id, one);
            assert_eq!(
                lease.is_none(),
                held,
                "{id} to {name}: a new one is leased unless its subject holds it"
            );
            if let Some(lease) = lease {
                take(target, id, lease);
                taken.push(id);
            }
        }
        taken
    }

    /// A claim of what is ready.
    pub fn claim_ready(&mut self, name: &str, asked: Asked, claimed: &Claimed, seen: &BTreeSet<EventId>) {
        let now = self.now;
        let target = self.target(name);
        let given = claimed.leases.len();
        if target.standing != Standing::Configured || target.paused {
            assert_eq!(given, 0, "{name} takes nothing");
            return;
        }
        if target.open.is_some() {
            return self.probe(name, asked, claimed, seen);
        }
        assert!(given <= asked.most());
        let is_due = |one: &Delivery| matches!(one.state, State::Queued | State::Waiting) && one.due <= now;
        let may_be_put_off: Vec<EventId> = target
            .deliveries
            .iter()
            .filter(|(id, one)| is_due(one) && target.blocks(**id))
            .map(|(id, _)| *id)
            .collect();
        for id in may_be_put_off {
            target.deliveries.get_mut(&id).unwrap().put_off = true;
        }
        let ordered = target.ordered;
        let ready = target.deliveries.values().filter(|one| is_due(one)).count();
        let all = asked.leases_max >= 100 && !asked.one_by_bytes;
        let new_ones = self.targets[name].new_ones(&self.events);
        let available = ready + new_ones;
        let mut known = self.pass(name, claimed, seen, all);
        let target = self.target(name);
        let mut last_due = i64::MIN;
        for lease in &claimed.leases {
            let id = lease.event_id();
            if known.contains(&id) {
                continue;
            }
            let one = target.deliveries.get(&id).unwrap_or_else(|| panic!("{id} was not there for {name}"));
            assert!(is_due(one), "{id} is not due: {one:?} at {now}");
            assert!(!target.blocks(id), "{id} runs beside or before its subject");
            assert!(ordered || one.due >= last_due, "{id} comes before one that was due earlier");
            last_due = one.due;
            take(target, id, lease);
            known.push(id);
        }
        let left = target
            .deliveries
            .iter()
            .filter(|(id, one)| is_due(one) && !one.put_off && !target.blocks(**id))
            .count();
        if ordered {
            let is_done = given == asked.most() || claimed.more == More::Ready || left == 0;
            assert!(is_done, "{left} ready ones of {name} were passed over");
        } else {
            assert_eq!(given, available.min(asked.most()), "{name} has {available} ready ones");
            let more = if available > given { More::Ready } else { More::None };
            assert_eq!(claimed.more, more);
            let waits =
                target.deliveries.values().any(|one| matches!(one.state, State::Queued | State::Waiting));
            assert_eq!(claimed.next_due.is_some(), more == More::None && waits, "{claimed:?}");
        }
        // Some of what was looked at may have been held back by what this claim itself took.
        let held: Vec<EventId> = target
            .deliveries
            .iter()
            .filter(|(id, one)| is_due(one) && target.blocks(**id))
            .map(|(id, _)| *id)
            .collect();
        held.iter().for_each(|id| target.deliveries.get_mut(id).unwrap().put_off = true);
    }

    fn probe(&mut self, name: &str, asked: Asked, claimed: &Claimed, seen: &BTreeSet<EventId>) {
        let now = self.now;
        let target = self.target(name);
        let (failed, probe_at) = target.open.unwrap();
        let most = asked.most().min(1);
        assert_eq!(claimed.more, More::None);
        if now < probe_at || most == 0 {
            assert_eq!(claimed.leases.len(), 0, "no probe before its time");
            return;
        }
        let ordered = target.ordered;
        let free: Vec<(State, u32)> = target
            .deliveries
            .iter()
            .filter(|(id, one)| matches!(one.state, State::Queued | State::Waiting) && !target.blocks(**id))
            .map(|(_, one)| (one.state, one.attempts))
            .collect();
        let unreached = !self.targets[name].unreached(&self.events).is_empty();
        let taken = self.pass(name, claimed, seen, false);
        let target = self.target(name);
        if !ordered || !free.is_empty() {
            assert_eq!(
                claimed.leases.len(),
                usize::from(unreached || !free.is_empty()),
                "{name} has {free:?}"
            );
        }
        let Some(lease) = claimed.leases.first() else { return };
        target.open = Some((failed, now + asked.hold));
        if !taken.is_empty() {
            return;
        }
        assert!(ordered || !unreached, "a new one is the probe");
        let id = lease.event_id();
        let one = &target.deliveries[&id];
        assert!(!target.blocks(id), "a probe keeps the order");
        let queued = free.iter().any(|(state, _)| *state == State::Queued);
        let fewest = free.iter().map(|(_, attempts)| *attempts).min();
        let is_right = if queued { one.state == State::Queued } else { Some(one.attempts) == fewest };
        assert!(is_right, "{one:?} is the probe, of {free:?}");
        take(target, id, lease);
    }

    /// A claim, with room, of what was accepted more than `age` seconds ago.
    pub fn claim_older(&mut self, name: &str, age: i64, claimed: &Claimed) {
        let cutoff = self.now - age;
        let target = self.targets.get_mut(name).unwrap();
        if target.standing == Standing::Forgotten {
            assert!(claimed.leases.is_empty());
            return;
        }
        for (id, event) in &self.events {
            let lane = target.lane(event);
            if !event.erased && event.accepted < cutoff && target.cursor.is_none_or(|cursor| *id > cursor) {
                target.cursor = Some(*id);
                target.deliveries.entry(*id).or_insert_with(|| Delivery::new(State::Queued, self.now, lane));
            }
        }
        let is_old = |id: &EventId, one: &Delivery| {
            matches!(one.state, State::Queued | State::Waiting | State::Parked)
                && self.events[id].accepted < cutoff
                && one.retried.is_none_or(|retried| retried < cutoff)
        };
        let wanted: BTreeSet<EventId> =
            target.deliveries.iter().filter(|(id, one)| is_old(id, one)).map(|(id, _)| *id).collect();
        let given: BTreeSet<EventId> = claimed.leases.iter().map(Lease::event_id).collect();
        assert_eq!(given, wanted, "older than {age} s, for {name}");
        for lease in &claimed.leases {
            take(target, lease.event_id(), lease);
        }
    }
}
