//! The leases that somebody in this process holds. What is in flight under our lease in Redis but not in here was lost on
//! its way, by a reply that never came or a caller that had gone: the audit gives it back.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use crate::event::{EventId, TargetName};

use super::codes::Token;

/// The leases that are held. Bounded by the leases that the flows ask for.
#[derive(Debug, Clone, Default)]
pub struct Held(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    leases: HashMap<(TargetName, EventId), Token>,
    /// Targets with leases that were dropped on their way.
    dropped: BTreeSet<TargetName>,
}

impl Held {
    /// These leases are on their way to a caller; they are held once it accepts them.
    pub fn hand_over<T>(
        &self, content: T, target: &TargetName, leases: Vec<(EventId, Token)>,
    ) -> Handover<T> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, token) in &leases {
            held.leases.insert((target.clone(), *id), *token);
        }
        Handover { content: Some(content), held: self.clone(), target: target.clone(), leases }
    }

    /// The lease has ended.
    pub fn release(&self, target: &TargetName, id: EventId, token: Token) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (target.clone(), id);
        if held.leases.get(&key) == Some(&token) {
            held.leases.remove(&key);
        }
    }

    /// Whether somebody holds this lease.
    pub fn is_held(&self, target: &TargetName, id: EventId, token: Token) -> bool {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.leases.get(&(target.clone(), id)) == Some(&token)
    }

    /// The targets with leases that were dropped on their way since this was last asked.
    pub fn take_dropped(&self) -> BTreeSet<TargetName> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).dropped)
    }
}

/// A claim's result on its way to its caller. Dropped on the way, its leases are held by nobody.
#[derive(Debug)]
pub struct Handover<T> {
    content: Option<T>,
    held: Held,
    target: TargetName,
    leases: Vec<(EventId, Token)>,
}

impl<T> Handover<T> {
    /// It has arrived.
    pub fn accept(mut self) -> Option<T> {
        self.leases.clear();
        self.content.take()
    }
}

impl<T> Drop for Handover<T> {
    fn drop(&mut self) {
        if self.leases.is_empty() {
            return;
        }
        for (id, token) in &self.leases {
            self.held.release(&self.target, *id, *token);
        }
        self.held.0.lock().unwrap_or_else(PoisonError::into_inner).dropped.insert(self.target.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_on_its_way_is_held_by_nobody() {
        let (held, target) = (Held::default(), "app".parse().unwrap());
        let (id, token) = (EventId { ms: 5, seq: 0 }, Token { lease: 1, claim: 2 });
        let on_its_way = held.hand_over((), &target, vec![(id, token)]);
        assert!(held.is_held(&target, id, token));
        drop(on_its_way);
        assert!(!held.is_held(&target, id, token));
        assert!(held.take_dropped().contains(&target) && held.take_dropped().is_empty());
        held.hand_over((), &target, vec![(id, token)]).accept();
        held.release(&target, id, Token { lease: 2, claim: 2 });
        assert!(held.is_held(&target, id, token), "another lease of it does not end this one");
        held.release(&target, id, token);
        assert!(!held.is_held(&target, id, token));
    }
}
