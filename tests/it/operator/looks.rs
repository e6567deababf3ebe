//! Looking: lists, the story of an event, targets, refusals; as tables and as JSON.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_and_what_became_of_it_is_shown() {
    let scene = Scene::start(|_| Reply::status(503)).await;
    let id = scene.event("user.created", "waiting").await;
    let list = scene.run(&["events", "list", "--subject", SUBJECT]);
    insta::assert_snapshot!("events_list", list.told());
    insta::assert_snapshot!("deliveries_list", scene.run(&["deliveries", "list"]).told());
    let none = scene.run(&["events", "list", "--type", "user.deleted"]);
    assert_eq!((none.code, none.out.as_str(), none.err.as_str()), (0, "", "no such events\n"));

    let story = scene.run(&["events", "show", &id]).good();
    let kept = story.split("\npayload").next().unwrap();
    insta::assert_snapshot!("the_story_of_an_event", steady(kept));
    insta::assert_snapshot!("one_delivery", scene.run(&["deliveries", "show", &id]).told());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_is_whole_and_in_utc_whatever_its_length() {
    let scene = Scene::start(|_| Reply::status(200)).await;
    for _ in 0..3 {
        scene.event("user.updated", "delivered").await;
    }
    let rows = scene.run(&["events", "list", "-o", "json"]).json();
    assert_eq!(rows.as_array().unwrap().len(), 3);
    assert!(rows[0]["accepted_at"].as_str().unwrap().ends_with('Z'));
    let some = scene.run(&["events", "list", "-o", "json", "--limit", "2"]);
    assert!(some.err.contains("more follow"), "{}", some.err);
    assert_eq!(some.json().as_array().unwrap().len(), 2);
    let all = scene.run(&["deliveries", "list", "-o", "json", "--all", "--since", "1h"]).json();
    assert_eq!(all.as_array().unwrap().len(), 3);
    let none = scene.run(&["dead-letters", "list", "-o", "json"]).json();
    assert_eq!(none, json!([]));
    let later = scene.run(&["events", "list", "-o", "json", "--until", "1h"]).json();
    assert_eq!(later, json!([]));
    let story = scene.run(&["events", "show", rows[0]["id"].as_str().unwrap(), "-o", "json"]).json();
    assert_eq!(story["deliveries"][0]["attempts_kept"][0]["status"], 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_is_piped_has_colours_or_is_broken_into_lines() {
    let scene = Scene::start(|_| Reply::status(503)).await;
    scene.event("organizationInvitation.accepted", "waiting").await;
    for args in [&["deliveries", "list"][..], &["targets", "list"], &["events", "list"]] {
        let piped = Ran::of(scene.command(args).env_remove("COLUMNS").output().unwrap()).good();
        assert!(!piped.contains('\u{1b}'), "{piped:?}");
        assert!(piped.lines().count() <= 3, "{piped}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_is_shown_paused_and_resumed() {
    let scene = Scene::start(|_| Reply::status(200)).await;
    scene.event("user.created", "delivered").await;
    let targets = scene.run(&["targets", "list"]).good();
    assert!(targets.contains("app") && targets.contains("active"), "{targets}");
    assert_eq!(
        scene.run(&["targets", "pause", "app"]).good(),
        "app: paused: its events are kept until it is resumed\n"
    );
    let shown = scene.run(&["targets", "show", "app"]).good();
    assert!(shown.starts_with("app  paused (by operator)"), "{shown}");
    assert_eq!(scene.run(&["targets", "resume", "app"]).good(), "app: resumed\n");
    assert_eq!(scene.run(&["targets", "close-breaker", "app"]).good(), "app: its breaker is closed\n");
    assert_eq!(scene.run(&["targets", "show", "app", "-o", "json"]).json()["status"], "active");
    let forget = scene.run(&["targets", "forget", "app", "--yes"]);
    assert_eq!(forget.code, 1);
    assert!(forget.err.contains("is configured"), "{}", forget.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_shown_with_its_cause() {
    let scene = Scene::start(|_| Reply::status(200)).await;
    let url = format!("{}/webhooks/clerk", scene.relay.ingress);
    crate::support::relay::client().post(url).body("{}").send().await.unwrap();
    let shown = eventually("the refusal is kept", async || {
        let ran = scene.run(&["refusals", "list"]);
        ran.out.contains("missing_headers").then_some(ran)
    })
    .await;
    insta::assert_snapshot!("refusals_list", shown.told());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_delivery_is_retried_waited_for_and_discarded() {
    let scene = Scene::start(|before| Reply::status(if before == 1 { 200 } else { 503 })).await;
    let id = scene.event("user.created", "waiting").await;
    let ran = scene.run(&["deliveries", "retry", &id, "app", "--wait"]);
    assert!(ran.err.contains("#2") && ran.err.contains("200"), "{}", ran.err);
    assert!(ran.good().contains(&format!("{id} to app: retried")));
    let other = scene.event("user.created", "waiting").await;
    assert!(
        scene
            .run(&["deliveries", "retry", &other, "nobody"])
            .err
            .contains("no delivery to `nobody`; it has one to app")
    );
    assert_eq!(scene.receiver.requests().len(), 3);
}

#[test]
fn every_command_has_an_example_and_every_shell_its_completions() {
    let help = |args: &[&str]| {
        let output = command().args(args).arg("--help").output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    };
    for (group, commands) in [
        ("events", &["list", "show"][..]),
        ("deliveries", &["list", "show", "retry", "discard"]),
        ("dead-letters", &["list", "retry", "discard"]),
        ("targets", &["list", "show", "pause", "resume", "close-breaker", "forget"]),
        ("refusals", &["list"]),
        ("audit", &["list"]),
        ("jobs", &["list", "show", "cancel"]),
    ] {
        for command in commands {
            assert!(help(&[group, command]).contains("Example"), "{group} {command}");
        }
    }
    for command in ["replay", "erase", "log-level", "tail", "listen", "completions", "health"] {
        assert!(help(&[command]).contains("Examples:"), "{command}");
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = command().args(["completions", shell]).output().unwrap();
        assert!(String::from_utf8(output.stdout).unwrap().contains("dead-letters"), "{shell}");
    }
}
