//! The program as a process: stopping under load, signals, exit codes, `dev`, and one clear message for each thing that
//! is wrong.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::StatusCode;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::{Value, json};

use crate::support::clerk::{Clerk, SECRET};
use crate::support::receiver::{Receiver, Reply};
use crate::support::relay::{Home, command, eventually};

/// Any free port.
const ANY: &str = "127.0.0.1:0";
/// A secret that is not that of the tests' relays.
const OTHER_SECRET: &str = "whsec_b3RoZXIgc2VjcmV0IG9mIDI0IGJ5dGVz";

fn config(url: &str) -> Value {
    json!({
        "sources": { "clerk": { "signing_secrets": [SECRET] } },
        "targets": { "app": { "url": url } },
    })
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs the relay with this configuration although it cannot start.
fn run_that_fails(home: &Home, config: &Value) -> (i32, String) {
    let path = home.write(config);
    let output = command().args(["run", "--config"]).arg(path).current_dir(home.path()).output().unwrap();
    (output.status.code().unwrap(), text(&output))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_loses_nothing_counts_nothing_and_exits_0() {
    let receiver = Receiver::start(|_, _| Reply::Slow(Duration::from_millis(20), 200)).await;
    let home = Home::new();
    let relay = home.start(&config(&receiver.url));
    let (clerk, stop) = (Clerk::new(&relay), Arc::new(AtomicBool::new(false)));
    let load = {
        let stop = stop.clone();
        tokio::spawn(async move {
            let mut answered = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let now = clerk_relay::clock::Clock::system().now();
                let id = clerk_relay::cli::sample::new_id(now);
                let body = br#"{"type":"user.updated","data":{"id":"user_1"}}"#.to_vec();
                match clerk.post(&id, now, body).await {
                    Ok(StatusCode::OK) => answered.push(id),
                    Ok(status) => panic!("answered {status}"),
                    Err(_) => break, // the listener is closed
                }
            }
            answered
        })
    };
    eventually("deliveries are under way", async || (receiver.requests().len() > 50).then_some(())).await;
    let (status, log) = tokio::task::spawn_blocking(move || relay.stop()).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    let answered = load.await.unwrap();
    assert_eq!(status.code(), Some(0), "{log}");

    let relay = home.start(&config(&receiver.url));
    eventually("every answered event is delivered", async || {
        let counts = receiver.counts();
        answered.iter().all(|id| counts.contains_key(id)).then_some(())
    })
    .await;
    assert!(receiver.counts().values().all(|count| *count == 1), "a graceful stop repeats nothing");
    assert!(receiver.requests().iter().all(|request| request.header("relay-attempt") == "1"));
    let (status, _) = relay.stop();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn an_attempt_cut_short_by_the_grace_goes_back_uncounted() {
    let receiver =
        Receiver::start(|_, before| if before == 0 { Reply::Hang } else { Reply::status(200) }).await;
    let home = Home::new();
    let mut config = config(&receiver.url);
    config["shutdown_grace"] = json!("100ms");
    let relay = home.start(&config);
    let id = Clerk::new(&relay).send("user.created").await;
    eventually("the attempt is under way", async || (receiver.requests().len() == 1).then_some(())).await;
    let (status, log) = relay.stop();
    assert_eq!(status.code(), Some(0), "{log}");
    let relay = home.start(&config);
    eventually("it is delivered", async || {
        let event = relay.get(&format!("events/{id}")).await;
        (event["deliveries"][0]["state"] == "delivered").then_some(())
    })
    .await;
    assert_eq!(receiver.requests()[1].header("relay-attempt"), "1");
    assert_eq!(relay.get(&format!("events/{id}")).await["deliveries"][0]["takeovers"], 0);
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once_with_1() {
    let receiver = Receiver::start(|_, _| Reply::Hang).await;
    let home = Home::new();
    let relay = home.start(&config(&receiver.url));
    Clerk::new(&relay).send("user.created").await;
    eventually("the attempt is under way", async || (receiver.requests().len() == 1).then_some(())).await;
    relay.signal("INT");
    eventually("it is stopping", async || relay.log().contains("stopping").then_some(())).await;
    let (status, log) = relay.stop();
    assert_eq!(status.code(), Some(1), "{log}");
}

#[test]
fn dev_once_shows_a_delivery_after_a_retry_and_exits_0() {
    let output = command().args(["dev", "--once", "--listen", ANY]).stdin(Stdio::null()).output().unwrap();
    let shown = text(&output);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    for claim in ["the relay answered 200", "attempt 1 to app: 503", "next in", "attempt 2 to app: 200"] {
        assert_eq!(shown.matches(claim).count(), 3, "{claim}:\n{shown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_forwards_to_an_app_and_exits_1_where_it_never_takes_the_events() {
    for (status, code) in [(200, 0), (410, 1)] {
        let receiver = Receiver::start(move |_, _| Reply::status(status)).await;
        let url = receiver.url.clone();
        let output = tokio::task::spawn_blocking(move || {
            let args = ["dev", "--once", "--listen", ANY, "--secret", SECRET, "--forward", &url];
            command().args(args).output().unwrap()
        })
        .await
        .unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", text(&output));
        assert!(!receiver.requests().is_empty());
    }
}

/// Runs `dev` up to its hints and returns what it printed so far.
fn dev_up_to_its_hints(dev: &mut Command) -> String {
    let mut child = dev.stdout(Stdio::piped()).spawn().unwrap();
    let mut shown = String::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        shown += &format!("{}\n", line.unwrap());
        if shown.contains("Ctrl-C") {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    shown
}

#[test]
fn dev_shows_a_secret_only_where_it_made_it() {
    let shown = dev_up_to_its_hints(
        command().args(["dev", "--listen", ANY]).env("CLERK_WEBHOOK_SIGNING_SECRET", OTHER_SECRET),
    );
    assert!(shown.contains("--secret whsec_") && !shown.contains(OTHER_SECRET), "{shown}");
    let shown = dev_up_to_its_hints(command().args(["dev", "--listen", ANY, "--secret", OTHER_SECRET]));
    assert!(shown.contains("--secret \"$YOUR_SECRET\"") && !shown.contains(OTHER_SECRET), "{shown}");
}

#[test]
fn send_signs_with_the_argument_else_the_configuration_else_the_variable() {
    let (home, elsewhere) = (Home::new(), Home::new());
    let mut config = config("http://127.0.0.1:9/");
    let relay = home.start(&config);
    let to = format!("{}/webhooks/clerk", relay.ingress);
    let send = |folder: &Home, variable: &str, more: &[&str]| {
        let mut send = command();
        send.current_dir(folder.path()).env("CLERK_WEBHOOK_SIGNING_SECRET", variable);
        let output = send.args(["send", "user.created", "--to", &to]).args(more).output().unwrap();
        (output.status.code().unwrap(), text(&output))
    };
    for (folder, variable, more, code) in [
        (&elsewhere, SECRET, &[][..], 0),
        (&elsewhere, OTHER_SECRET, &[], 1),
        (&home, OTHER_SECRET, &[], 0),
        (&home, OTHER_SECRET, &["--source", "clerk"], 0),
        (&home, SECRET, &["--secret", OTHER_SECRET], 1),
        (&elsewhere, OTHER_SECRET, &["--secret", SECRET], 0),
        (&elsewhere, "", &[], 64),
    ] {
        let (found, shown) = send(folder, variable, more);
        assert_eq!(found, code, "{more:?} with {variable:?}: {shown}");
    }
    let (code, shown) = send(&elsewhere, "", &["--secret", &format!(" '{SECRET}' ")]);
    assert!(code == 0 && shown.contains("warning: --secret: blanks or quotes"), "{shown}");

    config["listen"] = json!(relay.ingress.strip_prefix("http://"));
    home.write(&config);
    let output = command().args(["send", "user.created"]).current_dir(home.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "without --to: {}", text(&output));
}

#[test]
fn mistakes_on_the_command_line_exit_64_and_name_the_argument() {
    let home = Home::new();
    home.write(&config("http://127.0.0.1:9/"));
    for (args, told) in [
        (&["send", "user.creatd"][..], "did you mean `user.created`"),
        (&["send", "user.created", "--source", "nobody"], "no source `nobody`"),
        (&["send", "user.created", "--secret", "whsec_???"], "--secret"),
        (&["dev", "--once", "--listen", ANY, "--secret", "whsec_???"], "--secret"),
        (&["dev", "--once", "--listen", ANY, "--store", "redis://ann:hunter2"], "--store"),
        (&["dev", "--once", "--listen", ANY, "--store", "sqlite:folder/"], "--store"),
        (&["dev", "--once", "--listen", ANY, "--forward", "ftp://localhost/"], "--forward"),
        (&["send", "user.created", "--to", "http://localhost:9/", "--config", "absent.yaml"], "absent.yaml"),
    ] {
        let output = command().args(args).current_dir(home.path()).output().unwrap();
        let shown = text(&output);
        assert_eq!(output.status.code(), Some(64), "{args:?}: {shown}");
        assert!(shown.contains(told) && !shown.contains("signing_secrets"), "{args:?}: {shown}");
        assert!(!shown.contains("hunter2"), "a password is repeated: {shown}");
    }
}

#[test]
fn dev_keeps_its_events_in_the_store_that_it_is_given() {
    let home = Home::new();
    let args = ["dev", "--once", "--listen", ANY, "--store", "sqlite:of ${nobody}.db"];
    let output = command().args(args).current_dir(home.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(home.file("of ${nobody}.db").exists());
}

#[test]
fn check_online_writes_and_reads_and_leaves_nothing_behind() {
    let home = Home::new();
    let mut config = config("http://127.0.0.1:9/");
    config["targets"] = json!({});
    let path = home.write(&config);
    let check = || {
        let output = command().args(["check", "--online", "--config"]).arg(&path).output().unwrap();
        (output.status.code().unwrap(), text(&output))
    };
    let (code, shown) = check();
    assert!(code == 0 && shown.contains("none yet; a sample beside it was written and read"), "{shown}");
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1, "only relay.yaml is there");
    let relay = home.start(&config);
    let (code, shown) = check();
    assert!(code == 0 && shown.contains("in use by a relay"), "{shown}");
    relay.stop();
    let (code, shown) = check();
    assert!(code == 0 && shown.contains("0 events"), "{shown}");
    std::fs::write(home.file("relay.db"), vec![7; 100_000]).unwrap();
    let (code, shown) = check();
    assert!(code == 1 && shown.contains("failed  store"), "{shown}");
}

#[tokio::test]
async fn health_finds_the_relay_by_its_variable_or_its_configuration() {
    let home = Home::new();
    let mut config = config("http://127.0.0.1:9/");
    let relay = home.start(&config);
    config["listen"] = json!(relay.ingress.strip_prefix("http://"));
    home.write(&config);
    let ask = |variable: &str| {
        let mut health = command();
        health.arg("health").current_dir(home.path()).env("CLERK_RELAY_URL", variable);
        health.output().unwrap().status.code().unwrap()
    };
    assert_eq!(ask(""), 0, "an empty variable is none");
    assert_eq!(ask(&relay.admin), 0, "the admin listener answers too");
    assert_eq!(ask("nowhere"), 64);
    relay.stop();
    assert_eq!(ask(""), 1);
}

#[tokio::test]
async fn it_serves_again_after_it_ran_out_of_file_descriptors() {
    let home = Home::new();
    let relay = home.start(&config("http://127.0.0.1:9/"));
    let pid = Pid::from_raw(relay.pid().try_into().unwrap());
    let limits = getrlimit(Resource::Nofile); // the relay has inherited them
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(48), ..limits }).unwrap();
    let address = relay.ingress["http://".len()..].to_owned();
    let mut connections = Vec::new();
    for _ in 0..64 {
        connections.push(tokio::net::TcpStream::connect(&address).await.unwrap());
    }
    eventually("no descriptor is left", async || relay.log().contains("http.accept_failed").then_some(()))
        .await;
    drop(connections);
    Clerk::new(&relay).send("user.created").await;
    let complaints = relay.log().matches("http.accept_failed").count();
    assert!(complaints < 50, "a hot loop: {complaints} complaints");
}

#[tokio::test]
async fn health_tells_by_its_exit_code() {
    let home = Home::new();
    let relay = home.start(&config("http://127.0.0.1:9/"));
    let ask = |url: &str| command().args(["health", "--url", url]).output().unwrap().status.code();
    assert_eq!(ask(&relay.ingress), Some(0));
    let address = relay.ingress.clone();
    relay.stop();
    assert_eq!(ask(&address), Some(1));
}

#[test]
fn a_port_in_use_is_one_clear_message() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let home = Home::new();
    let mut config = config("http://127.0.0.1:9/");
    config["listen"] = json!(taken.local_addr().unwrap().to_string());
    let (code, shown) = run_that_fails(&home, &config);
    assert_eq!(code, 1);
    assert!(shown.contains("cannot listen on 127.0.0.1") && shown.contains("in use"), "{shown}");
}

#[test]
fn a_store_that_cannot_be_used_is_one_clear_message() {
    let corrupt = Home::new();
    std::fs::write(corrupt.file("relay.db"), vec![7; 100_000]).unwrap();
    let missing = Home::new();
    let mut elsewhere = config("http://127.0.0.1:9/");
    elsewhere["store"] =
        json!({ "url": format!("sqlite:{}", missing.file("no/such/folder/relay.db").display()) });
    for (home, config) in [(&corrupt, config("http://127.0.0.1:9/")), (&missing, elsewhere)] {
        let (code, shown) = run_that_fails(home, &config);
        assert_eq!(code, 1, "{shown}");
        let told = shown.lines().filter(|line| line.starts_with("error")).count();
        assert!(shown.contains("cannot open the store") && told == 1, "{shown}");
    }
}

#[tokio::test]
async fn a_second_relay_on_the_same_store_is_refused() {
    let home = Home::new();
    let _first = home.start(&config("http://127.0.0.1:9/"));
    let (code, shown) = run_that_fails(&home, &config("http://127.0.0.1:9/"));
    assert_eq!(code, 1);
    assert!(shown.contains("another relay"), "{shown}");
}

#[test]
fn mistakes_in_configuration_and_arguments_exit_64_and_never_show_a_secret() {
    let home = Home::new();
    let mut wrong = config("http:///no-host");
    wrong["sources"]["clerk"]["signing_secrets"] = json!(["whsec_c2VjcmV0c2VjcmV0-secret_c2VjcmV0"]);
    wrong["colour"] = json!("red");
    let (code, shown) = run_that_fails(&home, &wrong);
    assert_eq!(code, 64, "{shown}");
    for mistake in ["colour", "url-safe", "host"] {
        assert!(shown.contains(mistake), "{mistake} is not told:\n{shown}");
    }
    assert!(!shown.contains("c2VjcmV0"), "{shown}");
    assert_eq!(command().arg("no-such-command").output().unwrap().status.code(), Some(64));
    assert_eq!(command().arg("--help").output().unwrap().status.code(), Some(0));
}

#[tokio::test]
async fn no_body_secret_or_signature_reaches_the_log() {
    let receiver = Receiver::start(|_, before| Reply::status(if before == 0 { 500 } else { 200 })).await;
    let home = Home::new();
    let mut config = config(&receiver.url);
    config["targets"]["app"]["retry"] = json!({ "initial": "20ms" });
    config["log"] = json!({ "level": "trace" });
    let relay = home.start(&config);
    let clerk = Clerk::new(&relay);
    let id = clerk
        .send_body(br#"{"type":"user.created","data":{"id":"user_1","note":"s3cr3t-note"}}"#.to_vec())
        .await;
    eventually("it is delivered", async || (receiver.counts().get(&id) == Some(&2)).then_some(())).await;
    let (_, log) = relay.stop();
    assert!(log.contains("event.received") && log.contains("delivery.attempted"), "{log}");
    let signature = receiver.requests()[0].header("svix-signature")[3..].to_owned();
    for secret in ["s3cr3t-note", &SECRET["whsec_".len()..], &signature] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}

#[test]
fn a_fresh_relay_yaml_passes_the_check() {
    let home = Home::new();
    let run = |command: &mut Command| {
        let output =
            command.current_dir(home.path()).env("CLERK_WEBHOOK_SIGNING_SECRET", SECRET).output().unwrap();
        (output.status.code(), text(&output))
    };
    assert_eq!(run(command().arg("init")).0, Some(0));
    assert_ne!(run(command().arg("init")).0, Some(0), "init overwrites");
    let (code, shown) = run(command().arg("check"));
    assert_eq!(code, Some(0), "{shown}");
}
