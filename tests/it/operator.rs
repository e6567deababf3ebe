//! The commands for operators as processes, against a real relay: what they print, what they end with, and what they say
//! where the relay, the token or the event is not there.

mod live;
mod looks;
mod many;
mod wrong;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;

use serde_json::{Value, json};

use crate::support::clerk::{Clerk, SECRET};
use crate::support::receiver::{Receiver, Reply};
use crate::support::relay::{Home, PATIENCE, Relay, command, eventually};

/// A token of the tests' relays that may write, and one that may not.
const WRITER: &str = "writer-token-0123456789";
const READER: &str = "reader-token-0123456789";
/// The user whom the events of these tests are about.
const SUBJECT: &str = "user_29w83sxmDNGwOuEthce5gg56FcC";

/// A relay with tokens, one target and what it needs to stay.
struct Scene {
    home: Home,
    relay: Relay,
    receiver: Receiver,
}

impl Scene {
    /// A relay whose app answers by `script`, with its `relay.yaml` in its folder.
    async fn start(script: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Self {
        let receiver = Receiver::start(move |_, before| script(before)).await;
        let home = Home::new();
        let relay = home.start(&config(&receiver.url));
        Self { home, relay, receiver }
    }

    fn clerk(&self) -> Clerk {
        Clerk::new(&self.relay)
    }

    /// Sends an event about [`SUBJECT`] and returns its id in the store, once its delivery is in `state`.
    async fn event(&self, event_type: &str, state: &str) -> String {
        let body = json!({ "type": event_type, "object": "event", "data": { "id": SUBJECT } });
        let svix_id = self.clerk().send_body(body.to_string().into_bytes()).await;
        eventually(state, async || {
            let event = self.get(&format!("events/{svix_id}")).await;
            let is_there = event["deliveries"][0]["state"] == state;
            is_there.then(|| event["id"].as_str().unwrap().to_owned())
        })
        .await
    }

    /// Stops the relay, and starts one with `config` on the same store.
    fn restart(&mut self, config: &Value) {
        tokio::task::block_in_place(|| {
            self.relay.signal("TERM");
            // Its process stays, ended, until the new one takes its place here.
            let program = format!("/proc/{}/exe", self.relay.pid());
            while std::path::Path::new(&program).exists() {
                std::thread::yield_now();
            }
            self.relay = self.home.start(config);
        });
    }

    async fn get(&self, path: &str) -> Value {
        let url = format!("{}/api/v1/{path}", self.relay.admin);
        let request = crate::support::relay::client().get(url).bearer_auth(WRITER);
        serde_json::from_slice(&request.send().await.unwrap().bytes().await.unwrap()).unwrap()
    }

    /// A command that talks to this relay as the writer, its tables 100 columns wide.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = command();
        command.args(args).current_dir(self.home.path());
        command.env("CLERK_RELAY_URL", &self.relay.admin).env("CLERK_RELAY_TOKEN", WRITER);
        command.env("COLUMNS", "100").env("TZ", "UTC");
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }
}

fn config(url: &str) -> Value {
    json!({
        "sources": { "clerk": { "signing_secrets": [SECRET] } },
        "targets": { "app": {
            "url": url,
            "retry": { "initial": "1h", "jitter": 0, "attempts": 2 },
            "breaker": "off",
        } },
        "admin": {
            "listen": "127.0.0.1:0",
            "tokens": [
                { "name": "ops", "token": WRITER, "can": "write" },
                { "name": "looks", "token": READER, "can": "read" },
            ],
        },
    })
}

/// What a command printed, and its exit code.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Standard output, of a command that must have succeeded.
    fn good(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out
    }

    /// Standard output as JSON.
    fn json(self) -> Value {
        serde_json::from_str(&self.good()).unwrap()
    }

    /// Everything, for a snapshot.
    fn told(&self) -> String {
        format!("{}{}[exit {}]", steady(&self.out), steady(&self.err), self.code)
    }
}

/// The text without what differs from run to run: ids, times, durations, ports; columns closed up.
fn steady(text: &str) -> String {
    let mut steady = String::new();
    for line in text.lines() {
        let words: Vec<String> = line.split(' ').map(steady_word).collect();
        let mut line = words.join(" ");
        line = without_number(&line, " ", " ms");
        while line.contains("   ") {
            line = line.replace("   ", "  ");
        }
        steady.push_str(line.trim_end());
        steady.push('\n');
    }
    steady
}

/// The line with `N` for the number between `before` and `after`: one of three digits looks like a status.
fn without_number(line: &str, before: &str, after: &str) -> String {
    let Some((head, tail)) = line.split_once(after) else { return line.to_owned() };
    let kept = head.trim_end_matches(|c: char| c.is_ascii_digit());
    if kept.len() == head.len() || !kept.ends_with(before) {
        return line.to_owned();
    }
    format!("{kept}N{after}{tail}")
}

fn steady_word(word: &str) -> String {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    for (prefix, length, shown) in [("evt_", 24, "evt_…"), ("msg_", 31, "msg_…")] {
        if let Some(at) = word.find(prefix).filter(|at| word.len() >= at + length) {
            return format!("{}{shown}{}", &word[..at], steady_word(&word[at + length..]));
        }
    }
    if let Some(at) = word.find("127.0.0.1:") {
        let after = word[at + 10..].trim_start_matches(|c: char| c.is_ascii_digit());
        return format!("{}127.0.0.1:PORT{after}", &word[..at]);
    }
    let bare = word.trim_matches(['(', ')', ',']);
    let is_span = bare.strip_suffix(['s', 'm', 'h', 'd']).is_some_and(is_number);
    let is_date = bare.len() == 10 && bare.matches('-').count() == 2 && bare.starts_with('2');
    let is_time = bare.len() == 8 && bare.matches(':').count() == 2;
    match () {
        () if bare.is_empty() => word.to_owned(),
        () if is_span => word.replace(bare, "SPAN"),
        () if is_date => word.replace(bare, "DATE"),
        () if is_time => word.replace(bare, "TIME"),
        () if is_number(bare) && bare.len() != 3 => word.replace(bare, "N"),
        () => word.to_owned(),
    }
}

/// A command that runs until it is told to end; what it prints comes line by line.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let readers: [Box<dyn std::io::Read + Send>; 2] = [Box::new(out), Box::new(err)];
        for reader in readers {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(reader).lines().map_while(Result::ok) {
                    let _ = sender.send(line); // the test may have seen enough
                }
            });
        }
        Self { child, lines }
    }

    /// The first line from here on that holds `mark`.
    fn line(&self, mark: &str) -> String {
        let mut seen = String::new();
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else { panic!("no {mark:?} in:\n{seen}") };
            if line.contains(mark) {
                return line;
            }
            seen += &format!("{line}\n");
        }
    }

    /// Ctrl-C.
    fn signal_interrupt(&self) {
        Command::new("kill").args(["-s", "INT", &self.child.id().to_string()]).status().unwrap();
    }

    /// The exit code, after Ctrl-C.
    fn interrupt(mut self) -> Option<i32> {
        self.signal_interrupt();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended
        let _ = self.child.wait();
    }
}
