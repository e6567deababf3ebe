//! What is live: `tail` shows what happens, `listen` forwards it, signed for an app on this machine.

use svix::webhooks::Webhook;

use super::*;

/// The secret of the app on the developer's machine.
const LOCAL_SECRET: &str = "whsec_b3RoZXIgc2VjcmV0IG9mIDI0IGJ5dGVz";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tail_shows_what_happens_and_ends_with_0() {
    let scene = Scene::start(|_| Reply::status(200)).await;
    let people = Running::start(scene.command(&["tail", "--target", "app"]));
    let script = Running::start(scene.command(&["tail", "-o", "json", "--name", "event.received"]));
    people.line("listening to");
    script.line("listening to");
    let id = scene.event("user.created", "delivered").await;
    let line = people.line("delivery.attempted");
    assert!(line.contains("target=app") && line.contains("status=200"), "{line}");
    let news: Value = serde_json::from_str(&script.line("event.received")).unwrap();
    assert_eq!((&news["event_id"], &news["type"]), (&json!(id), &json!("user.created")));
    assert_eq!(people.interrupt(), Some(0));
    assert_eq!(script.interrupt(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tail_connects_again_and_says_that_it_missed_something() {
    let mut scene = Scene::start(|_| Reply::status(200)).await;
    let tail = Running::start(scene.command(&["tail"]));
    tail.line("listening to");
    let mut again = config(&scene.receiver.url);
    again["admin"]["listen"] = json!(scene.relay.admin.strip_prefix("http://"));
    scene.restart(&again);
    tail.line("connection lost");
    let line = tail.line("connected again");
    assert!(line.contains("was missed"), "{line}");
    scene.event("user.created", "delivered").await;
    tail.line("event.received");
}

/// An app that verifies as a Clerk app does, and takes what is signed with [`LOCAL_SECRET`] only.
async fn local_app() -> Receiver {
    let webhook = Webhook::new(LOCAL_SECRET).unwrap();
    Receiver::start(move |request, _| {
        let mut headers = reqwest::header::HeaderMap::new();
        for name in ["svix-id", "svix-timestamp", "svix-signature"] {
            headers.insert(name, request.header(name).parse().unwrap());
        }
        Reply::status(if webhook.verify(&request.body, &headers).is_ok() { 200 } else { 401 })
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listen_forwards_past_and_live_events_signed_for_the_local_app() {
    let mut scene = Scene::start(|_| Reply::status(503)).await;
    let app = local_app().await;
    let earlier = scene.event("user.created", "waiting").await;
    scene.event("session.created", "waiting").await;
    let args = ["listen", "--forward", &app.url, "--secret", LOCAL_SECRET, "--last", "5", "--type", "user.*"];
    let listen = Running::start(scene.command(&args));
    let line = listen.line("user.created");
    assert!(line.contains("200 in") && line.contains(&earlier), "{line}");
    listen.line("forwarding what comes to");
    let later = scene.event("user.updated", "waiting").await;
    assert!(listen.line("user.updated").contains(&later));

    // What comes while the connection is lost is not missed.
    let mut again = config(&scene.receiver.url);
    again["admin"]["listen"] = json!(scene.relay.admin.strip_prefix("http://"));
    scene.restart(&again);
    let meanwhile = scene.event("user.deleted", "waiting").await;
    assert!(listen.line("user.deleted").contains(&meanwhile));

    let requests = app.requests();
    assert_eq!(requests.len(), 3, "each once, the session not at all");
    assert_eq!(requests[0].header("relay-replay"), "true");
    assert_eq!(requests[1].header("relay-replay"), "");
    for name in ["webhook-signature", "relay-attempt", "relay-source", "relay-received-at", "relay-sequence"]
    {
        assert!(!requests[1].header(name).is_empty(), "{name}");
    }
    let original = scene
        .receiver
        .requests()
        .into_iter()
        .find(|request| request.header("svix-id") == requests[1].header("svix-id"));
    assert_eq!(requests[1].body, original.unwrap().body, "byte for byte");
    let delivery = &scene.get(&format!("events/{later}")).await["deliveries"][0];
    assert_eq!((&delivery["state"], &delivery["attempts"]), (&json!("waiting"), &json!(1)), "left alone");
    assert_eq!(listen.interrupt(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listen_makes_a_secret_where_there_is_none_and_needs_a_token_that_may_write() {
    let scene = Scene::start(|_| Reply::status(200)).await;
    scene.event("user.created", "delivered").await;
    let app = Receiver::start(|_, _| Reply::status(500)).await;
    let once = scene.run(&["listen", "--forward", &app.url, "--last", "1", "--once"]);
    assert_eq!(once.code, 1, "the app did not take it");
    assert!(once.err.contains("CLERK_WEBHOOK_SIGNING_SECRET=whsec_"), "{}", once.err);
    assert!(once.out.contains("500 in"), "{}", once.out);
    let reader = ["listen", "--forward", &app.url, "--last", "1", "--once", "--token", READER];
    assert_eq!(scene.run(&reader).code, 77);
}
