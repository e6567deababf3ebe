//! What is wrong, each with its exit code and what to do next.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_thing_that_is_wrong_says_what_to_do_next() {
    let scene = Scene::start(|_| Reply::status(200)).await;
    let id = scene.event("user.created", "delivered").await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let closed = format!("http://{closed}");
    let tls = scene.relay.admin.replace("http:", "https:");
    let ingress = scene.relay.ingress.clone();
    let cases: &[(&str, &[&str])] = &[
        ("an unknown token", &["events", "list", "--token", "an-unknown-token-012"]),
        ("no token", &["events", "list", "--url", &scene.relay.admin, "--token", ""]),
        ("a token that may only look", &["targets", "pause", "app", "--token", READER]),
        ("no relay", &["events", "list", "--url", &closed]),
        ("the listener of webhooks", &["events", "list", "--url", &ingress]),
        ("tls where there is none", &["events", "list", "--url", &tls]),
        ("an unknown event", &["events", "show", "evt_00000000000000000000"]),
        ("an unknown target", &["targets", "show", "nobody"]),
        ("a cursor that is none", &["events", "list", "--source", "Not A Name"]),
        ("a time that is none", &["events", "list", "--since", "soon"]),
        ("nothing selected", &["deliveries", "retry"]),
        ("one and many", &["deliveries", "retry", &id, "--state", "dead"]),
    ];
    let mut told = String::new();
    for (what, args) in cases {
        told += &format!("## {what}\n{}\n\n", scene.run(args).told());
    }
    insta::assert_snapshot!("what_is_wrong", told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn address_and_token_come_from_the_configuration_but_its_token_goes_nowhere_else() {
    let scene = Scene::start(|_| Reply::status(200)).await;
    let mut there = config(&scene.receiver.url);
    there["admin"]["listen"] = json!(scene.relay.admin.strip_prefix("http://"));
    scene.home.write(&there);
    let bare = |args: &[&str]| {
        let mut command = command();
        Ran::of(command.args(args).current_dir(scene.home.path()).output().unwrap())
    };
    bare(&["targets", "list"]).good();
    bare(&["targets", "pause", "app"]).good(); // of the two tokens, the one that may
    let elsewhere = bare(&["targets", "list", "--url", &scene.relay.admin]);
    assert_eq!(elsewhere.code, 77);
    assert!(elsewhere.err.contains("the configuration's token is not sent"), "{}", elsewhere.err);
    let file = scene.home.file("token");
    std::fs::write(&file, format!("{READER}\n")).unwrap();
    bare(&["targets", "list", "--url", &scene.relay.admin, "--token-file", file.to_str().unwrap()]).good();
    assert_eq!(bare(&["targets", "list", "--token-file", "absent"]).code, 64);

    there["sources"]["clerk"]["signing_secrets"] = json!(["${A_VARIABLE_THAT_IS_NOT_SET_HERE}"]);
    scene.home.write(&there);
    let unreadable = bare(&["targets", "list"]);
    assert!([69, 77].contains(&unreadable.code), "the default address: {}", unreadable.err);
    assert_eq!(
        bare(&["targets", "list", "--config", "relay.yaml"]).code,
        64,
        "one that was named must be good"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_never_repeated() {
    let scene = Scene::start(|_| Reply::status(200)).await;
    for args in [
        &["events", "list", "--token", "s3cret but no token"][..],
        &["events", "list", "--token", "s3cret-0123456789ab"],
        &["tail", "--token", "s3cret-0123456789ab"],
    ] {
        let ran = scene.run(args);
        assert!([64, 77].contains(&ran.code), "{args:?}: {}", ran.err);
        assert!(!ran.err.contains("s3cret") && !ran.out.contains("s3cret"), "{}", ran.err);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_without_an_end_is_not_read_to_it() {
    let scene = Scene::start(|_| Reply::status(200)).await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let endless = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = listener.accept().unwrap();
        let _head = stream.read(&mut [0; 4_096]).unwrap();
        let mut sent = stream.write(b"HTTP/1.1 404 Not Found\r\n\r\n").unwrap();
        while let Ok(more) = stream.write(&[b'x'; 64 * 1024]) {
            sent += more;
        }
        sent
    });
    let ran = scene.run(&["targets", "list", "--url", &url]);
    assert_eq!(ran.code, 69, "{}", ran.err);
    assert!(ran.err.contains("is not the admin API of a relay"), "{}", ran.err);
    assert!(endless.join().unwrap() < 32 * 1024 * 1024, "it hangs up");
}
