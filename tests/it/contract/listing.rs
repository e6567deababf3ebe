//! Laws of looking: every page is bounded, in order, and right while data changes.

use std::collections::HashSet;

use clerk_relay::event::{EventId, Subject};
use clerk_relay::lifecycle::State;
use clerk_relay::store::ledger::{Refusal, RefusalQuery};
use clerk_relay::store::query::{Cursor, DeliveryQuery, EventLookup, EventQuery, EventRef, Page, Paged};

use super::harness::{DAY, Kind, Lab, MINUTE, ids, name, new, wanted_in_order};
use crate::support::events;

async fn found(lab: &Lab, query: EventQuery) -> Vec<EventId> {
    let paged = lab.store.events(query, Page::first(500)).await.unwrap();
    assert_eq!(paged.next, None);
    paged.rows.iter().map(|meta| meta.id).collect()
}

pub async fn pages_stay_right_while_events_arrive(kind: &dyn Kind) {
    let lab = Lab::new(kind).await;
    let mut added = lab.add_many(25).await;
    added.reverse();
    let (mut listed, mut page) = (Vec::new(), Page::first(10));
    loop {
        let paged = lab.store.events(EventQuery::default(), page).await.unwrap();
        assert!(paged.rows.len() <= 10);
        listed.extend(paged.rows.iter().map(|meta| meta.id));
        lab.add_many(7).await;
        let Some(next) = paged.next else { break };
        page = Page::after(10, next.to_string().parse().unwrap());
    }
    assert_eq!(listed, added);
}

pub async fn events_are_found_by_type_subject_source_and_time(kind: &dyn Kind) {
    let lab = Lab::new(kind).await;
    let created = lab.add("user.created", "user_1").await;
    let updated = lab.add("user.updated", "user_1").await;
    lab.clock.advance(MINUTE);
    let later = lab.clock.now();
    let other = lab.add("user.updated", "user_2").await;
    let body = events::body("user.updated", "user_1");
    let staging = new(lab.ingest("staging", &lab.svix_id(), &body).await);

    let subject = Subject::of("user_1");
    let of_type = |event_type: &str| Some(event_type.to_owned());
    let all = EventQuery::default;
    assert_eq!(found(&lab, all()).await, [staging, other, updated, created]);
    assert_eq!(found(&lab, EventQuery { event_type: of_type("user.created"), ..all() }).await, [created]);
    assert_eq!(found(&lab, EventQuery { event_type: of_type("user"), ..all() }).await, []);
    assert_eq!(
        found(&lab, EventQuery { subject: subject.clone(), ..all() }).await,
        [staging, updated, created]
    );
    let both = EventQuery { subject, event_type: of_type("user.updated"), ..all() };
    assert_eq!(found(&lab, both.clone()).await, [staging, updated]);
    let source = Some("clerk".parse().unwrap());
    assert_eq!(found(&lab, EventQuery { source, ..both.clone() }).await, [updated]);
    assert_eq!(found(&lab, EventQuery { since: Some(later), ..both.clone() }).await, [staging]);
    assert_eq!(found(&lab, EventQuery { until: Some(later), ..both }).await, [updated]);
    assert_eq!(found(&lab, EventQuery { since: Some(later), until: Some(later), ..all() }).await, []);
}

pub async fn an_event_is_found_by_either_id(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let id = new(lab.ingest("clerk", "msg_1", &events::body("user.created", "user_1")).await);
    for text in [id.to_string(), "msg_1".to_owned()] {
        let EventLookup::One(detail) = lab.store.event(text.as_str().into()).await.unwrap() else {
            panic!("{text}")
        };
        assert_eq!((detail.meta.id, detail.meta.svix_id.as_str()), (id, "msg_1"));
        assert_eq!(detail.meta.body_bytes, detail.event.unwrap().body.len() as u64);
    }
    for unknown in [EventRef::SvixId("msg_2".into()), EventRef::Id(EventId { ms: u64::MAX, seq: u32::MAX })] {
        assert!(matches!(lab.store.event(unknown).await.unwrap(), EventLookup::None));
    }
    // Its mark's window may be over long before a target has taken it.
    lab.clock.advance(30 * DAY);
    lab.store.sweep(500).await.unwrap();
    assert!(matches!(lab.store.event("msg_1".into()).await.unwrap(), EventLookup::One(_)));
}

pub async fn an_ambiguous_id_names_its_candidates(kind: &dyn Kind) {
    let lab = Lab::new(kind).await;
    let body = events::body("user.created", "user_1");
    let mut candidates = Vec::new();
    for source in ["one", "two", "three"] {
        candidates.push(new(lab.ingest(source, "msg_1", &body).await));
    }
    let EventLookup::Many(mut found) = lab.store.event("msg_1".into()).await.unwrap() else {
        panic!("not ambiguous")
    };
    found.sort_unstable();
    assert_eq!(found, candidates);
}

pub async fn deliveries_are_found_by_every_condition(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app", "other"]).await;
    let delivered = lab.add("user.created", "user_1").await;
    let dead = lab.add("user.updated", "user_1").await;
    lab.clock.advance(MINUTE);
    let later = lab.clock.now();
    let waiting = lab.add("user.updated", "user_2").await;
    let in_flight = lab.add("session.ended", "user_2").await;
    for lease in lab.claim("app").await {
        match lease.event_id() {
            id if id == delivered => lab.deliver(lease).await,
            id if id == dead => lab.die(lease).await,
            id if id == waiting => lab.fail(lease, DAY).await,
            _ => drop(lease),
        }
    }
    let listed = async |query: DeliveryQuery| -> Vec<EventId> {
        let paged = lab.store.deliveries(query, Page::first(100)).await.unwrap();
        assert_eq!(paged.next, None);
        paged.rows.into_iter().map(|view| view.event_id).collect()
    };
    let all = DeliveryQuery::default;
    let of = |states: &[State]| DeliveryQuery { states: states.to_vec(), ..DeliveryQuery::default() };
    assert_eq!(listed(all()).await, [in_flight, waiting, dead, delivered]);
    assert_eq!(listed(of(&[State::Dead])).await, [dead]);
    assert_eq!(listed(of(&[State::InFlight])).await, [in_flight]);
    assert_eq!(listed(of(&[State::Delivered])).await, [delivered]);
    assert_eq!(listed(of(&[State::Waiting, State::Dead])).await, [waiting, dead]);
    assert_eq!(listed(of(&[State::Dead, State::InFlight, State::Waiting])).await, [in_flight, waiting, dead]);
    assert_eq!(listed(of(&[State::Delivered, State::Waiting])).await, [waiting, delivered]);
    assert_eq!(listed(of(&[State::Queued, State::Parked])).await, []);
    assert_eq!(listed(DeliveryQuery { target: Some(name("app")), ..of(&[State::Dead]) }).await, [dead]);
    assert_eq!(listed(DeliveryQuery { target: Some(name("other")), ..all() }).await, []);
    assert_eq!(listed(DeliveryQuery { target: Some(name("nobody")), ..all() }).await, []);
    let updated = Some("user.updated".to_owned());
    assert_eq!(listed(DeliveryQuery { event_type: updated.clone(), ..all() }).await, [waiting, dead]);
    assert_eq!(listed(DeliveryQuery { event_type: updated, ..of(&[State::Dead]) }).await, [dead]);
    let subject = Subject::of("user_2");
    assert_eq!(listed(DeliveryQuery { subject: subject.clone(), ..all() }).await, [in_flight, waiting]);
    assert_eq!(listed(DeliveryQuery { subject, ..of(&[State::Waiting]) }).await, [waiting]);
    assert_eq!(listed(DeliveryQuery { since: Some(later), ..all() }).await, [in_flight, waiting]);
    assert_eq!(
        listed(DeliveryQuery { until: Some(later), ..of(&[State::Dead, State::Waiting]) }).await,
        [dead]
    );
}

pub async fn pages_of_deliveries_join_without_gaps(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["a", "b", "c"]).await;
    let added = lab.add_many(16).await;
    for target in ["a", "b", "c"] {
        for lease in lab.claim(target).await {
            lab.die(lease).await;
        }
    }
    for states in [vec![], vec![State::Dead], vec![State::Dead, State::InFlight]] {
        let query = DeliveryQuery { states, ..DeliveryQuery::default() };
        let (mut listed, mut page) = (Vec::new(), Page::first(7));
        loop {
            let Paged { rows, next } = lab.store.deliveries(query.clone(), page).await.unwrap();
            listed.extend(rows.into_iter().map(|view| (view.event_id, view.target)));
            let Some(next) = next else { break };
            page = Page::after(7, next.to_string().parse().unwrap());
        }
        assert_eq!(listed.len(), 48);
        assert_eq!(listed.iter().collect::<HashSet<_>>().len(), 48);
        assert!(listed.iter().map(|(id, _)| std::cmp::Reverse(id)).is_sorted());
        assert_eq!(listed.first().map(|(id, _)| id), added.last());
    }
}

pub async fn the_overview_counts_every_state(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app", "idle"]).await;
    let oldest = lab.add("user.updated", "user_1").await;
    let lease = lab.claim_with(wanted_in_order("app")).await.leases.remove(0);
    lab.fail(lease, DAY).await;
    for _ in 0..2 {
        lab.add("user.updated", "user_1").await;
    }
    lab.add_many(4).await;
    for (place, lease) in lab.claim_with(wanted_in_order("app")).await.leases.into_iter().enumerate() {
        match place {
            0 => lab.die(lease).await,
            1 => lab.deliver(lease).await,
            _ => drop(lease),
        }
    }
    lab.clock.advance(MINUTE);
    lab.add_many(3).await;
    let app = lab.target("app").await;
    assert_eq!((app.queued, app.in_flight, app.waiting, app.parked, app.dead), (3, 1, 1, 3, 1));
    assert_eq!(app.oldest_unfinished.unwrap().as_ms() as u64, oldest.ms);
    let idle = lab.target("idle").await;
    assert_eq!((idle.queued, idle.in_flight, idle.waiting, idle.parked, idle.dead), (10, 0, 0, 0, 0));
    let overview = lab.store.overview().await.unwrap();
    assert_eq!(overview.events, 10);
    assert!(overview.size_bytes > 0 && overview.size_bytes < overview.size_max_bytes);
    assert_eq!(overview.targets.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["app", "idle"]);
}

fn refusal(number: u64, lab: &Lab) -> Refusal {
    Refusal {
        at: lab.clock.now(),
        source: number.is_multiple_of(2).then(|| "clerk".parse().unwrap()),
        status: 401,
        code: "invalid_signature".into(),
        cause: format!("refusal {number}"),
        remote: Some("192.0.2.1".into()),
        svix_id: None,
        user_agent: Some("Svix-Webhooks/1".into()),
        body_bytes: number,
    }
}

pub async fn refusals_are_listed_newest_first_up_to_their_cap(kind: &dyn Kind) {
    let lab = Lab::new(kind).await;
    let all: Vec<Refusal> = (0..1_200).map(|number| refusal(number, &lab)).collect();
    for chunk in all.chunks(170) {
        let appended = lab.store.refusals(RefusalQuery::Append(chunk.to_vec())).await.unwrap();
        assert!(appended.rows.is_empty());
    }
    let lab = lab.reopen().await;
    let (mut listed, mut page) = (Vec::new(), Page::first(300));
    loop {
        let Paged { rows, next } = lab.store.refusals(RefusalQuery::List(page)).await.unwrap();
        listed.extend(rows);
        let Some(next) = next else { break };
        page = Page::after(300, next.to_string().parse().unwrap());
    }
    assert_eq!(listed, all.into_iter().skip(200).rev().collect::<Vec<_>>());
}

pub async fn an_event_shows_targets_that_have_not_reached_it(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["done", "lags"]).await;
    let id = lab.add("user.created", "user_1").await;
    lab.declare(&["done", "lags", "late"]).await;
    let lease = lab.claim_one("done").await;
    lab.deliver(lease).await;
    let detail = lab.event(id).await;
    let states: Vec<_> =
        detail.deliveries.iter().map(|one| (one.view.target.as_str(), one.view.state)).collect();
    assert_eq!(
        states,
        [("done", State::Delivered), ("lags", State::Queued)],
        "the late one begins behind it"
    );
    assert_eq!(ids(&lab.claim("lags").await), [id]);
}

pub async fn a_cursor_of_another_list_gives_nothing(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    lab.add_many(3).await;
    lab.claim("app").await;
    let page = || Page::after(10, Cursor::Number(5));
    assert!(lab.store.events(EventQuery::default(), page()).await.unwrap().rows.is_empty());
    assert!(lab.store.deliveries(DeliveryQuery::default(), page()).await.unwrap().rows.is_empty());
}

fn by_payload(condition: &str) -> EventQuery {
    EventQuery { payload: Some(condition.parse().unwrap()), ..EventQuery::default() }
}

pub async fn events_are_found_by_what_their_payload_says(kind: &dyn Kind) {
    let lab = Lab::new(kind).await;
    let body = |event_type: &str, email: &str| {
        format!(
            r#"{{"type":"{event_type}","data":{{"id":"user_1","email_addresses":[{{"email_address":"{email}"}}]}}}}"#
        )
    };
    let add = async |event_type: &str, email: &str| {
        new(lab.ingest("clerk", &lab.svix_id(), &body(event_type, email)).await)
    };
    let created = add("user.created", "jane@example.com").await;
    let updated = add("user.updated", "Jane@Example.com").await;
    add("user.updated", "john@example.com").await;
    let not_json = new(lab.ingest("clerk", &lab.svix_id(), "jane@example.com").await);
    assert_eq!(found(&lab, by_payload("jane@example.com")).await, [updated, created]);
    assert_eq!(
        found(&lab, by_payload("/data/email_addresses/*/email_address=jane@example.com")).await.len(),
        2
    );
    assert_eq!(found(&lab, by_payload("/data/email_addresses/1/email_address=jane@example.com")).await, []);
    let narrowed = EventQuery { event_type: Some("user.created".into()), ..by_payload("jane@example.com") };
    assert_eq!(found(&lab, narrowed).await, [created]);
    let narrowed = EventQuery { subject: Subject::of("user_2"), ..by_payload("jane@example.com") };
    assert_eq!(found(&lab, narrowed).await, []);
    assert!(lab.is_kept(not_json).await);
}

pub async fn a_search_by_payload_is_done_a_page_at_a_time(kind: &dyn Kind) {
    let lab = Lab::new(kind).await;
    let wanted = lab.add("user.created", "jane").await;
    let at = lab.clock.now();
    let many = futures_util::future::join_all((0..2_100).map(|number| {
        let event =
            events::verified("clerk", &format!("msg_x{number}"), &events::body("user.updated", "user_1"), at);
        lab.store.ingest(event)
    }));
    assert!(many.await.into_iter().all(|kept| kept.is_ok()));
    let (mut listed, mut pages, mut page) = (Vec::new(), 0, Page::first(500));
    loop {
        let paged = lab.store.events(by_payload("jane"), page).await.unwrap();
        pages += 1;
        listed.extend(paged.rows.iter().map(|meta| meta.id));
        let Some(next) = paged.next else { break };
        page = Page::after(500, next);
    }
    assert_eq!(listed, [wanted]);
    assert!((2..=6).contains(&pages), "{pages} pages");
}

pub async fn deliveries_are_found_by_source(kind: &dyn Kind) {
    let lab = Lab::with_targets(kind, &["app"]).await;
    let mut all = Vec::new();
    for (number, source) in ["clerk", "staging", "clerk", "staging"].into_iter().enumerate() {
        let body = events::body(["user.created", "user.updated"][number / 2], "user_1");
        all.push(new(lab.ingest(source, &lab.svix_id(), &body).await));
        let lease = lab.claim_one("app").await;
        if number < 3 { lab.die(lease).await } else { lab.deliver(lease).await }
    }
    let of = async |source: &str, states: &[State], event_type: Option<&str>| {
        let query = DeliveryQuery {
            source: Some(source.parse().unwrap()),
            states: states.to_vec(),
            event_type: event_type.map(str::to_owned),
            ..DeliveryQuery::default()
        };
        let paged = lab.store.deliveries(query, Page::first(100)).await.unwrap();
        assert_eq!(paged.next, None);
        paged.rows.into_iter().map(|view| view.event_id).collect::<Vec<_>>()
    };
    assert_eq!(of("clerk", &[], None).await, [all[2], all[0]]);
    assert_eq!(of("staging", &[], None).await, [all[3], all[1]]);
    assert_eq!(of("staging", &[State::Dead], None).await, [all[1]]);
    assert_eq!(of("staging", &[State::Delivered], Some("user.updated")).await, [all[3]]);
    assert_eq!(of("staging", &[State::Dead], Some("user.updated")).await, []);
    assert_eq!(of("nowhere", &[], None).await, []);
}
