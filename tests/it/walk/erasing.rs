//! Erasing in a walk: the step, and what it means to the model.

use clerk_relay::event::Subject;
use clerk_relay::lifecycle::State;
use clerk_relay::store::query::{Erase, Erased, Mode};
use rand::RngExt as _;

use super::model::{Delivery, Model, Standing};
use super::steps::Walk;

impl Model {
    /// Erases what is kept of `subject`; returns how many events that are, and how many deliveries are in flight.
    fn erase(&mut self, subject: &str) -> (u64, u64) {
        let (now, mut erased, mut in_flight) = (self.now, 0, 0);
        let of_subject =
            self.events.iter_mut().rev().filter(|(_, one)| one.subject.as_deref() == Some(subject));
        for (id, event) in of_subject {
            let is_new = !std::mem::replace(&mut event.erased, true);
            erased += u64::from(is_new);
            for target in self.targets.values_mut() {
                let is_unreached = target.cursor.is_none_or(|cursor| *id > cursor);
                match target.deliveries.get_mut(id) {
                    Some(one) if one.state == State::InFlight => {
                        in_flight += 1;
                        one.reason = Some("erased".to_owned());
                    }
                    Some(one) if !one.state.is_ended() || one.state == State::Dead => {
                        one.end_erased();
                        let lane = one.lane.clone();
                        target.release(lane, now);
                    }
                    Some(_) => {}
                    None if is_new && is_unreached && target.standing != Standing::Forgotten => {
                        let mut one = Delivery::new(State::Cancelled, 0, None);
                        one.end_erased();
                        target.deliveries.insert(*id, one);
                    }
                    None => {}
                }
            }
        }
        (erased, in_flight)
    }
}

impl Walk {
    /// Erases one subject, all at once or in steps.
    pub async fn erase(&mut self) {
        let subject = format!("user_{}", self.random.random_range(0..3));
        let max = [2, 100][self.random.random_range(0..2)];
        let mut step = Erase {
            subject: Subject::of(&subject).unwrap(),
            as_of: self.lab().clock.now(),
            mode: Mode::Count,
            max: 100,
            after: None,
        };
        let counted = self.lab().store.erase(step.clone()).await.unwrap();
        (step.mode, step.max) = (Mode::Apply, max);
        let (mut events, mut in_flight) = (0, 0);
        loop {
            let done: Erased = self.lab().store.erase(step.clone()).await.unwrap();
            (events, in_flight) = (events + done.events, in_flight + done.in_flight);
            step.after = done.next;
            if step.after.is_none() {
                break;
            }
        }
        self.log.push(format!("erase {subject} by {max}: {events}, {in_flight} in flight"));
        if counted.next.is_none() {
            assert_eq!((counted.events, counted.in_flight), (events, in_flight), "a count counts");
        }
        assert_eq!((events, in_flight), self.model.erase(&subject));
    }
}
