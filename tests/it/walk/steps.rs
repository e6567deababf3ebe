//! The steps of a walk: what is done to the store and, in the same words, to the model.

use std::sync::Arc;
use std::time::Duration;

use clerk_relay::event::EventId;
use clerk_relay::lifecycle::{DeadReason, Ordering, SkipReason, Start, State, Transition};
use clerk_relay::store::query::{DeliveryQuery, EventQuery, Page, Redrive, RedriveAction};
use clerk_relay::store::{
    ClaimScope, ClaimWanted, Control, Controlled, Ingested, Lease, PauseReason, Settle, Settled,
    TargetChange, Turn,
};
use rand::RngExt as _;
use rand::rngs::SmallRng;

use super::claims::Asked;
use super::model::{Event, HALF, Model, Standing};
use crate::contract::harness::{Lab, name, redrive, wanted};
use crate::support::events;

const TARGETS: [&str; 3] = ["app", "crm", "web"];
/// Ordered; the others are not.
const ORDERED: [&str; 2] = ["crm", "web"];
const MINUTE: Duration = Duration::from_secs(60);

/// A lease that is held, or was.
pub struct Held {
    target: String,
    lease: Lease,
}

pub struct Walk {
    /// Open, but for moments.
    pub lab: Option<Lab>,
    pub model: Model,
    pub random: SmallRng,
    pub held: Vec<Held>,
    /// What must be lost.
    pub stale: Vec<Settle>,
    /// The steps so far, for the report of a failure.
    pub log: Vec<String>,
}

impl Drop for Walk {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let from = self.log.len().saturating_sub(25);
            println!("the last steps:\n{}", self.log[from..].join("\n"));
        }
    }
}

/// Some whole minutes and a half.
fn span(minutes: u64) -> Duration {
    MINUTE * minutes as u32 + HALF
}

impl Walk {
    pub fn lab(&self) -> &Lab {
        self.lab.as_ref().expect("it is open")
    }

    fn note(&mut self, step: String) {
        self.log.push(step);
    }

    fn pick<'t>(&mut self, from: &[&'t str]) -> &'t str {
        from[self.random.random_range(0..from.len())]
    }

    fn known_target(&mut self) -> &'static str {
        let known: Vec<_> =
            TARGETS.into_iter().filter(|name| self.model.targets.contains_key(*name)).collect();
        self.pick(&known)
    }

    pub async fn step(&mut self) {
        match self.random.random_range(0..103) {
            0..28 => self.ingest().await,
            28..48 => self.claim().await,
            48..72 => self.settle().await,
            72..75 => self.settle_stale().await,
            75..78 => self.claim_older().await,
            78..84 => self.advance(),
            84..88 => self.pause_or_resume().await,
            88..91 => self.turn().await,
            91..93 => self.declare_some().await,
            93 => self.forget().await,
            94..97 => self.redrive().await,
            97..99 => self.sweep().await,
            99..102 => self.erase().await,
            _ => self.reopen().await,
        }
    }

    async fn ingest(&mut self) {
        let again = self.random.random_range(0..6) == 0 && !self.model.marks.is_empty();
        let svix_id = if again {
            let at = self.random.random_range(0..self.model.marks.len());
            self.model.marks.keys().nth(at).unwrap().clone()
        } else {
            self.lab().svix_id()
        };
        let event_type = self.pick(&["user.updated", "user.updated", "email.created", "user.deleted"]);
        let subject = self.random.random_range(0..4);
        let (subject, body) = if subject == 3 {
            (None, format!(r#"{{"type":"{event_type}","data":{{}}}}"#))
        } else {
            let subject = format!("user_{subject}");
            let body = events::body(event_type, &subject);
            (Some(subject), body)
        };
        self.note(format!("ingest {svix_id} {event_type} {subject:?}"));
        match (self.lab().ingest("clerk", &svix_id, &body).await, self.model.known(&svix_id)) {
            (Ingested::New(id), None) => {
                assert!(self.model.events.keys().all(|earlier| *earlier < id), "ids grow");
                self.model.keep(
                    id,
                    &svix_id,
                    Event { accepted: self.model.now, event_type, subject, erased: false },
                );
            }
            (Ingested::Duplicate(duplicate), Some(kept)) => assert_eq!(duplicate.id, kept),
            (other, known) => panic!("{svix_id}: {other:?}, by the model {known:?}"),
        }
    }

    async fn claim_of(&mut self, target: &str, asked: Asked) {
        let ordered = ORDERED.contains(&target);
        let wanted = ClaimWanted {
            leases_max: asked.leases_max,
            bytes_max: if asked.one_by_bytes { 1 } else { 1 << 20 },
            ordering: if ordered { Ordering::Subject } else { Ordering::None },
            unordered_types: Arc::from(["email.created".to_owned()]),
            probe_hold: Duration::from_secs(asked.hold as u64),
            ..wanted(target)
        };
        let claimed = self.lab().claim_with(wanted).await;
        let given: Vec<String> = claimed.leases.iter().map(|lease| lease.event_id().to_string()).collect();
        self.note(format!("claim {target} {asked:?}: {given:?} {:?}", claimed.more));
        let seen = self.listed().await.into_keys().filter(|(_, of)| of == target).map(|(id, _)| id).collect();
        self.model.claim_ready(target, asked, &claimed, &seen);
        self.hold(target, claimed.leases);
    }

    fn hold(&mut self, target: &str, leases: Vec<Lease>) {
        self.held.extend(leases.into_iter().map(|lease| Held { target: target.to_owned(), lease }));
    }

    async fn claim(&mut self) {
        let target = self.known_target();
        let leases_max = [0, 1, 1, 2, 3, 5, 100][self.random.random_range(0..7)];
        let one_by_bytes = self.random.random_range(0..5) == 0;
        let hold = span(self.random.random_range(0..3)).as_secs() as i64;
        self.claim_of(target, Asked { leases_max, one_by_bytes, hold }).await;
    }

    async fn claim_older(&mut self) {
        let target = self.known_target();
        let age = span([0, 30, 3 * 24 * 60][self.random.random_range(0..3)]);
        let wanted = ClaimWanted { leases_max: 200, scope: ClaimScope::OlderThan(age), ..wanted(target) };
        let claimed = self.lab().claim_with(wanted).await;
        self.note(format!("claim {target} older than {age:?}: {}", claimed.leases.len()));
        self.model.claim_older(target, age.as_secs() as i64, &claimed);
        self.hold(target, claimed.leases);
    }

    fn transition(&mut self) -> Transition {
        let after = [Duration::ZERO, span(0), span(5), span(600)][self.random.random_range(0..4)];
        match self.random.random_range(0..12) {
            0..5 => Transition::Deliver,
            5..8 => Transition::Wait { after },
            8 => Transition::Die([DeadReason::Exhausted, DeadReason::TooOld][self.random.random_range(0..2)]),
            9 => Transition::Skip(SkipReason::EventType),
            10 => Transition::Return,
            _ => Transition::Postpone { after },
        }
    }

    async fn settle(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let at = self.random.random_range(0..self.held.len());
        let Held { target, lease } = self.held.swap_remove(at);
        let (id, transition) = (lease.event_id(), self.transition());
        self.note(format!("settle {id} {target} {transition:?}"));
        let attempt = transition.counts().then(|| self.lab().attempt(&lease, transition));
        let settle = Settle { lease, transition, attempt };
        assert_eq!(self.lab().store.settle(settle.again()).await.unwrap(), Settled::Done);
        self.model.settle(&target, id, transition);
        self.stale.push(settle);
    }

    async fn settle_stale(&mut self) {
        if self.stale.is_empty() {
            return;
        }
        let at = self.random.random_range(0..self.stale.len());
        let settle = self.stale.swap_remove(at);
        self.note(format!("settle {} {} once more", settle.lease.event_id(), settle.lease.target()));
        assert_eq!(self.lab().store.settle(settle).await.unwrap(), Settled::Lost);
    }

    fn advance(&mut self) {
        let minutes = [1, 1, 6, 60, 60 * 24, 60 * 24 * 4, 60 * 24 * 8][self.random.random_range(0..7)];
        self.note(format!("{minutes} minutes pass"));
        self.lab().clock.advance(MINUTE * minutes);
        self.model.advance(i64::from(minutes));
    }

    async fn control(&mut self, target: &str, control: Control, expected: Controlled) {
        self.note(format!("{control:?} {target}: {expected:?}"));
        assert_eq!(self.lab().store.control(&name(target), control).await.unwrap(), expected, "{control:?}");
    }

    async fn pause_or_resume(&mut self) {
        let name = self.known_target();
        let pause = self.random.random_range(0..3) == 0;
        let target = self.model.target(name);
        let expected = match (target.standing, target.paused == pause) {
            (Standing::Forgotten, _) => Controlled::Refused,
            (_, true) => Controlled::Unchanged,
            (_, false) => Controlled::Changed,
        };
        if target.standing != Standing::Forgotten {
            target.paused = pause;
        }
        let control = if pause { Control::Pause(PauseReason::Operator) } else { Control::Resume };
        self.control(name, control, expected).await;
    }

    async fn turn(&mut self) {
        let name = self.known_target();
        let (stale, open) = (self.random.random_range(0..5) == 0, self.random.random_range(0..5) < 2);
        let probe_after = [Duration::ZERO, span(0), span(2)][self.random.random_range(0..3)];
        let now = self.model.now;
        let target = self.model.target(name);
        let from = if stale { target.revision + 7 } else { target.revision };
        let to = if open { Turn::Open { probe_after } } else { Turn::Close { spread: Duration::ZERO } };
        let expected = if target.standing == Standing::Forgotten || stale {
            Controlled::Refused
        } else if !open && target.open.is_none() {
            Controlled::Unchanged
        } else {
            target.revision += 1;
            let failed = target.open.map_or(0, |(failed, _)| failed + u32::from(!probe_after.is_zero()));
            target.open = open.then_some((failed, now + probe_after.as_secs() as i64));
            if !open {
                let waiting = |state| matches!(state, State::Queued | State::Waiting);
                for one in target.deliveries.values_mut().filter(|one| waiting(one.state)) {
                    one.due = one.due.min(now);
                }
            }
            Controlled::Changed
        };
        self.control(name, Control::Turn { from, to }, expected).await;
    }

    /// Declares these, and lets those that are new claim all they can at once: so they have their ordering, and nothing
    /// old of theirs is beyond their cursor.
    pub async fn declare(&mut self, targets: &[&str], start: Start) {
        self.note(format!("declare {targets:?} from {start:?}"));
        let mut expected = Vec::new();
        for &target in targets {
            match self.model.targets.get_mut(target).map(|one| (one.standing, one)) {
                Some((Standing::Configured, _)) => {}
                Some((Standing::Orphan, one)) => {
                    one.standing = Standing::Configured;
                    expected.push(TargetChange::Returned(name(target)));
                }
                None | Some((Standing::Forgotten, _)) => {
                    let last = self.model.events.keys().next_back().copied().filter(|_| start == Start::Now);
                    self.model.begin(target, ORDERED.contains(&target), last);
                    expected.push(TargetChange::Added(name(target)));
                }
            }
        }
        for (of, target) in &mut self.model.targets {
            if target.standing == Standing::Configured && !targets.contains(&of.as_str()) {
                target.standing = Standing::Orphan;
                expected.push(TargetChange::Orphaned(name(of)));
            }
        }
        let mut changes = self.lab().declare_from(targets, start).await;
        changes.sort_by_key(|change| format!("{change:?}"));
        expected.sort_by_key(|change| format!("{change:?}"));
        assert_eq!(changes, expected);
        for change in changes {
            if let TargetChange::Added(name) = change {
                self.claim_of(name.as_str(), Asked { leases_max: 200, one_by_bytes: false, hold: 30 }).await;
            }
        }
    }

    async fn declare_some(&mut self) {
        let some: Vec<_> = TARGETS.into_iter().filter(|_| self.random.random_range(0..4) > 0).collect();
        let start = if self.random.random() { Start::Now } else { Start::Beginning };
        self.declare(&some, start).await;
    }

    async fn forget(&mut self) {
        let target = self.known_target();
        let expected = if self.model.target(target).standing == Standing::Orphan {
            self.model.forget(target);
            Controlled::Changed
        } else {
            Controlled::Refused
        };
        self.control(target, Control::Forget, expected).await;
    }

    async fn redrive(&mut self) {
        let action = [RedriveAction::Retry, RedriveAction::Replay, RedriveAction::Cancel]
            [self.random.random_range(0..3)];
        let target = self.known_target();
        let target = (self.random.random_range(0..3) > 0).then_some(target);
        let some =
            [vec![], vec![], vec![State::Dead], vec![State::Waiting, State::Delivered], vec![State::Parked]];
        let states = some[self.random.random_range(0..some.len())].clone();
        let query =
            DeliveryQuery { target: target.map(name), states: states.clone(), ..DeliveryQuery::default() };
        self.note(format!("{action:?} {target:?} {states:?}"));
        let redriven = self.lab().redrive(Redrive { query, ..redrive(action) }).await;
        assert_eq!((redriven.moved, redriven.next), (self.model.redrive(action, target, &states), None));
    }

    async fn sweep(&mut self) {
        let mut removed = 0;
        for _ in 0..4 {
            removed += self.lab().store.sweep(100).await.unwrap().events;
        }
        self.note(format!("sweep: {removed}"));
        let page = Page::first(500);
        let left = self.lab().store.events(EventQuery::default(), page).await.unwrap().rows;
        let left: Vec<EventId> = left.into_iter().map(|event| event.id).collect();
        assert_eq!(self.model.sweep(&left), removed);
    }

    async fn reopen(&mut self) {
        self.note("reopen".to_owned());
        let configured = self.model.targets.iter().filter(|(_, one)| one.standing == Standing::Configured);
        let configured: Vec<String> = configured.map(|(name, _)| name.clone()).collect();
        for Held { lease, .. } in self.held.drain(..) {
            self.stale.push(Settle { lease, transition: Transition::Return, attempt: None });
        }
        let lab = self.lab.take().expect("it is open");
        self.lab = Some(lab.reopen().await);
        self.model.take_over();
        let configured: Vec<&str> = configured.iter().map(String::as_str).collect();
        self.declare(&configured, Start::Now).await;
    }
}
