//! Many at once: counted, asked about, done as a job of the relay; erasures, replays and the audit of it all.

use super::*;

/// How many deliveries of the app are in `state`.
async fn count(scene: &Scene, state: &str) -> usize {
    scene.get(&format!("deliveries?state={state}&limit=500")).await["rows"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bulk_retry_is_counted_first_and_done_only_when_it_is_wanted() {
    let scene = Scene::start(|before| Reply::status(if before == 0 { 503 } else { 200 })).await;
    for _ in 0..3 {
        scene.event("user.created", "waiting").await;
    }
    let wanted = ["deliveries", "retry", "--target", "app", "--state", "waiting", "--since", "1h"];
    let with = |more: &[&'static str]| [&wanted[..], more].concat();
    assert_eq!(scene.run(&with(&["--dry-run"])).good(), "3 deliveries would be retried\n");
    let json = scene.run(&with(&["--dry-run", "-o", "json"])).json();
    assert_eq!((&json["moved"], &json["dry_run"]), (&json!(3), &json!(true)));

    let unasked = scene.run(&wanted);
    assert_eq!(unasked.code, 64, "{}", unasked.err);
    assert!(
        unasked.err.contains("retry 3 deliveries") && unasked.err.contains("--yes does it"),
        "{}",
        unasked.err
    );
    assert_eq!(count(&scene, "waiting").await, 3, "nothing was done");

    assert_eq!(scene.run(&with(&["--yes", "--rate", "100/s"])).good(), "3 deliveries retried\n");
    eventually("they are delivered", async || (count(&scene, "delivered").await == 3).then_some(())).await;
    assert_eq!(scene.run(&wanted).err, "no deliveries to retry\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_discarded_and_ended_deliveries_replayed() {
    let scene = Scene::start(|before| {
        if before == 0 {
            Reply::Status(400, vec!["webhook-delivery: abort-message".to_owned()])
        } else {
            Reply::status(200)
        }
    })
    .await;
    let id = scene.event("user.created", "dead").await;
    insta::assert_snapshot!("dead_letters_list", scene.run(&["dead-letters", "list"]).told());
    assert_eq!(
        scene.run(&["dead-letters", "discard", "--target", "app", "--yes"]).good(),
        "1 delivery discarded\n"
    );
    assert_eq!(count(&scene, "cancelled").await, 1);
    let again = scene.run(&["deliveries", "retry", &id, "app"]);
    assert_eq!(again.code, 1);
    assert!(again.err.contains("`--again` delivers it once more"), "{}", again.err);
    let replayed =
        scene.run(&["replay", "--target", "app", "--since", "1h", "--type", "user.created", "--yes"]);
    assert_eq!(replayed.good(), "1 delivery replayed\n");
    eventually("it is delivered", async || (count(&scene, "delivered").await == 1).then_some(())).await;
    assert_eq!(scene.receiver.requests()[1].header("relay-replay"), "true");
}

/// A scene in which a retry of all at one a second takes a while.
async fn long_work() -> (Scene, [&'static str; 7]) {
    let scene = Scene::start(|_| Reply::status(503)).await;
    for _ in 0..15 {
        let body = json!({ "type": "user.created", "data": { "id": SUBJECT } });
        scene.clerk().send_body(body.to_string().into_bytes()).await;
    }
    eventually("all wait", async || (count(&scene, "waiting").await == 15).then_some(())).await;
    (scene, ["deliveries", "retry", "--state", "waiting", "--rate", "1/s", "--yes"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_detached_is_listed_shown_and_cancelled() {
    let (scene, work) = long_work().await;
    let started = scene.run(&[&work[..], &["--detach", "-o", "json"]].concat());
    let job = started.json()["id"].to_string();
    let shown = scene.run(&["jobs", "show", &job]).good();
    assert!(shown.contains("running") && shown.contains("states=waiting"), "{shown}");
    let cancelled = scene.run(&["jobs", "cancel", &job]).good();
    assert!(cancelled.contains("cancelled"), "{cancelled}");
    assert!(scene.run(&["jobs", "list"]).good().contains("cancelled"));
    assert_eq!(scene.run(&["jobs", "show", &job, "--wait", "-o", "json"]).json()["state"], "cancelled");
    assert_eq!(scene.run(&["jobs", "show", "999999"]).code, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_leaves_the_job_running_and_says_how_to_stop_it() {
    let (scene, work) = long_work().await;
    let watching = Running::start(scene.command(&work));
    let job = eventually("the job is there", async || {
        let jobs = scene.get("jobs").await;
        jobs["rows"][0]["id"].as_u64().map(|id| id.to_string())
    })
    .await;
    watching.signal_interrupt();
    let line = watching.line("goes on in the relay");
    assert!(line.contains(&format!("clerk-relay jobs cancel {job}")), "{line}");
    assert_eq!(watching.interrupt(), Some(130));
    assert_eq!(scene.get(&format!("jobs/{job}")).await["state"], "running");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_saw_a_payload_whole_is_in_the_audit() {
    let scene = Scene::start(|_| Reply::status(200)).await;
    let id = scene.event("user.created", "delivered").await;
    assert_eq!(scene.run(&["events", "show", &id, "--reveal", "--token", READER]).code, 77);
    let story = scene.run(&["events", "show", &id, "--reveal"]).good();
    assert!(story.contains("payload\n{"), "{story}");
    let audit = scene.run(&["audit", "list"]).good();
    assert_eq!(audit.matches("payload.revealed").count(), 1, "{audit}");
    assert!(audit.contains("ops") && audit.contains(&id), "{audit}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_found_by_what_its_payload_says() {
    let scene = Scene::start(|_| Reply::status(200)).await;
    let body = json!({ "type": "user.created", "data": { "id": SUBJECT, "email": "jane@example.com" } });
    scene.clerk().send_body(body.to_string().into_bytes()).await;
    scene.event("user.created", "delivered").await;
    let find = |condition: &str| scene.run(&["events", "list", "--where", condition, "-o", "json"]).json();
    assert_eq!(find("jane@example.com").as_array().unwrap().len(), 1);
    assert_eq!(find("/data/email=jane@example.com").as_array().unwrap().len(), 1);
    assert_eq!(find("john@example.com"), json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_level_and_the_health_of_a_running_relay_are_shown() {
    let scene = Scene::start(|_| Reply::status(200)).await;
    assert_eq!(scene.run(&["log-level"]).good(), "info\n");
    assert_eq!(scene.run(&["log-level", "debug"]).good(), "debug\n");
    assert_eq!(scene.run(&["log-level", "loud"]).code, 64);
    let health = scene.run(&["health"]).good();
    assert!(health.contains(env!("CARGO_PKG_VERSION")) && health.contains("durability"), "{health}");
    assert_eq!(scene.run(&["health", "-o", "json"]).json()["ready"], true);
    let without = Ran::of(scene.command(&["health"]).env_remove("CLERK_RELAY_TOKEN").output().unwrap());
    assert_eq!(without.good(), "ok\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_left_the_configuration_is_forgotten_once_it_is_wanted() {
    let mut scene = Scene::start(|_| Reply::status(503)).await;
    scene.event("user.created", "waiting").await;
    let mut without = config(&scene.receiver.url);
    without["targets"] = json!({});
    scene.restart(&without);
    let would = scene.run(&["targets", "forget", "app", "--dry-run"]).good();
    assert_eq!(would, "would forget app with 1 deliveries that are unfinished or dead\n");
    assert_eq!(scene.run(&["targets", "forget", "app"]).code, 64);
    assert_eq!(scene.run(&["targets", "forget", "app", "--yes"]).good(), "app: forgotten\n");
    assert_eq!(scene.run(&["targets", "show", "app"]).code, 1);
}
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subject_is_erased_once_it_is_wanted() {
    let scene = Scene::start(|_| Reply::status(200)).await;
    let id = scene.event("user.created", "delivered").await;
    assert_eq!(scene.run(&["erase", SUBJECT, "--dry-run"]).good(), "1 event would be erased\n");
    assert_eq!(scene.run(&["erase", SUBJECT, "--yes"]).good(), "1 event erased\n");
    let story = scene.run(&["events", "show", &id]).good();
    assert!(story.contains("the payload was erased"), "{story}");
}
