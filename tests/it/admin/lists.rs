//! Lists: paged to their end, filtered by what they name.

use serde_json::{Value, json};

use super::{in_state, refused, relay_answered};
use crate::support::clerk::Clerk;
use crate::support::relay::{client, eventually};
use crate::support::stage::{Stage, on_both_stores};

on_both_stores! {
    every_list_is_paged_to_its_end_and_never_twice
    the_filters_of_each_list_find_what_they_name
}

/// The `svix_id` of every row.
fn svix_ids(page: &Value) -> Vec<String> {
    page["rows"].as_array().unwrap().iter().map(|row| row["svix_id"].as_str().unwrap().to_owned()).collect()
}

async fn every_list_is_paged_to_its_end_and_never_twice(stage: Stage) {
    let (_receiver, relay) = relay_answered(&stage, 500).await;
    let clerk = Clerk::new(&relay);
    let mut sent = Vec::new();
    for _ in 0..7 {
        sent.push(clerk.send("user.created").await);
        let refused = client().post(format!("{}/webhooks/clerk", relay.ingress)).send().await.unwrap();
        assert_ne!(refused.status(), 200);
    }
    for id in &sent {
        in_state(&relay, id, "dead").await;
        super::api(&relay, reqwest::Method::GET, &format!("events/{id}?reveal=true")).await;
    }
    eventually("all are refused on record", async || (relay.list("refusals").await.len() == 7).then_some(()))
        .await;
    for list in ["events", "deliveries", "dead-letters", "refusals", "audit"] {
        let mut rows = Vec::new();
        let (mut cursor, mut pages) = (String::new(), 0);
        loop {
            let page = relay.get(&format!("{list}?limit=3{cursor}")).await;
            rows.extend(page["rows"].as_array().unwrap().iter().map(|row| row.to_string()));
            pages += 1;
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!((rows.len(), pages), (7, 3), "{list}");
        let whole = relay.list(list).await.iter().map(Value::to_string).collect::<Vec<_>>();
        assert_eq!(rows, whole, "{list}");
    }
    let newest_first: Vec<_> = sent.iter().rev().cloned().collect();
    assert_eq!(svix_ids(&relay.get("events").await), newest_first);
    let next = relay.get("refusals?limit=1").await["next"].as_str().unwrap().to_owned();
    for list in ["events", "deliveries", "dead-letters"] {
        let path = format!("{list}?cursor={next}");
        refused(&relay, reqwest::Method::GET, &path, 400, "bad_request").await;
    }
}

async fn the_filters_of_each_list_find_what_they_name(stage: Stage) {
    let (_receiver, relay) = relay_answered(&stage, 500).await;
    let clerk = Clerk::new(&relay);
    let body = |event_type: &str, user: &str| {
        let data =
            json!({ "id": user, "email_addresses": [{ "email_address": format!("{user}@example.com") }] });
        json!({ "type": event_type, "data": data }).to_string().into_bytes()
    };
    let one = clerk.send_body(body("user.created", "user_one")).await;
    let other = clerk.send_body(body("user.updated", "user_other")).await;
    for id in [&one, &other] {
        in_state(&relay, id, "dead").await;
    }
    let accepted = relay.get(&format!("events/{other}")).await["accepted_at"].as_str().unwrap().to_owned();
    for (filter, found) in [
        ("type=user.updated", vec![&other]),
        ("subject=user_one", vec![&one]),
        ("subject=user_one&type=user.updated", vec![]),
        ("source=clerk", vec![&other, &one]),
        ("source=nobody", vec![]),
        ("until=2020-01-01T00:00:00Z", vec![]),
        ("since=2020-01-01T00:00:00Z", vec![&other, &one]),
        ("since=1900-01-01T00:00:00%2B01:00", vec![&other, &one]),
        ("until=9999-12-30T00:00:00Z", vec![&other, &one]),
        ("where=USER_one@example.com", vec![&one]),
        (
            "where=/data/email_addresses/*/email_address%3Duser_other@example.com&type=user.updated",
            vec![&other],
        ),
        ("where=/data/id=user_nobody", vec![]),
    ] {
        let page = relay.get(&format!("events?{filter}")).await;
        assert_eq!(svix_ids(&page).iter().collect::<Vec<_>>(), found, "{filter}");
    }
    for list in ["deliveries", "dead-letters"] {
        for (filter, rows) in [
            ("target=app", 2),
            ("target=nobody", 0),
            ("type=user.created", 1),
            ("subject=user_other", 1),
            (&format!("since={accepted}&subject=user_other"), 1),
            ("until=2020-01-01T00:00:00Z", 0),
        ] {
            assert_eq!(relay.list(&format!("{list}?{filter}")).await.len(), rows, "{list}?{filter}");
        }
    }
    for (states, rows) in [("dead", 2), ("delivered,waiting", 0), ("delivered,dead", 2)] {
        assert_eq!(relay.list(&format!("deliveries?state={states}")).await.len(), rows, "{states}");
    }
}
