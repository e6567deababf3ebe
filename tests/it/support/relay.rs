//! The real binary as a child process: started with a configuration, asked over its admin API, stopped or killed.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What no wait in a test exceeds; far above what is ever needed, so that it only ends what hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Log lines kept for a failing test's report.
const LOG_LINES_KEPT: usize = 2_000;

/// A folder with a configuration and a store, in which one relay at a time runs.
pub struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    /// A new empty folder, on disk: stores refuse memory file systems.
    pub fn new() -> Self {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        Self { folder: tempfile::Builder::new().prefix("home-").tempdir_in(target).unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Starts the relay with `config` as its relay.yaml. `listen`, `admin` and `store` are filled in where absent.
    pub fn start(&self, config: &Value) -> Relay {
        Relay::start(self, &self.write(config))
    }

    /// Writes `config`, completed with free ports and a store in this folder, and returns its path.
    pub fn write(&self, config: &Value) -> PathBuf {
        let mut config = config.clone();
        let map = config.as_object_mut().unwrap();
        map.entry("listen").or_insert_with(|| "127.0.0.1:0".into());
        map.entry("admin").or_insert_with(|| serde_json::json!({ "listen": "127.0.0.1:0" }));
        let store = format!("sqlite:{}", self.file("relay.db").display());
        map.entry("store")
            .or_insert_with(|| serde_json::json!({}))
            .as_object_mut()
            .unwrap()
            .entry("url")
            .or_insert_with(|| store.into());
        let path = self.file("relay.yaml");
        std::fs::write(&path, config.to_string()).unwrap();
        path
    }
}

/// The binary under test, with a clean environment.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_clerk-relay"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// A running relay.
pub struct Relay {
    child: Child,
    /// Its log; written by a thread that ends with the child's standard error.
    log: Arc<Mutex<VecDeque<String>>>,
    /// `http://127.0.0.1:port` of ingress.
    pub ingress: String,
    /// `http://127.0.0.1:port` of the admin API.
    pub admin: String,
}

impl Relay {
    fn start(home: &Home, config: &Path) -> Self {
        let mut child = command()
            .args(["run", "--config"])
            .arg(config)
            .current_dir(home.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let (lines, stderr) = (log.clone(), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut lines = lines.lock().unwrap();
                if lines.len() == LOG_LINES_KEPT {
                    lines.pop_front();
                }
                lines.push_back(line);
            }
        });
        let mut relay = Self { child, log, ingress: String::new(), admin: String::new() };
        relay.ingress = relay.announced("listening on http://");
        relay.admin = relay.announced("admin API on http://");
        relay.announced("\"ready\"");
        relay
    }

    /// `http://…` up to the path, from the log line that holds `mark`.
    fn announced(&mut self, mark: &str) -> String {
        let since = Instant::now();
        loop {
            if let Some(line) = self.log.lock().unwrap().iter().find(|line| line.contains(mark)) {
                let address = line.split("http://").nth(1).unwrap_or_default();
                let address: String = address.chars().take_while(|c| !"/\" ".contains(*c)).collect();
                return format!("http://{address}");
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the relay ended with {status} before {mark:?}:\n{}", self.log());
            }
            assert!(since.elapsed() < PATIENCE, "the relay did not say {mark:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its log so far, one line each.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().iter().cloned().collect::<Vec<_>>().join("\n")
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends SIGTERM and waits for the end.
    pub fn stop(mut self) -> (ExitStatus, String) {
        self.signal("TERM");
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, self.log());
            }
            assert!(since.elapsed() < PATIENCE, "the relay does not end:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }

    /// `GET` of the admin API as JSON.
    pub async fn get(&self, path: &str) -> Value {
        let url = format!("{}/api/v1/{path}", self.admin);
        let reply = client().get(&url).send().await.unwrap();
        assert!(reply.status().is_success(), "{url}: {}", reply.status());
        serde_json::from_slice(&reply.bytes().await.unwrap()).unwrap()
    }

    /// Every row of a list of the admin API.
    pub async fn list(&self, path: &str) -> Vec<Value> {
        let mut rows = Vec::new();
        let mut cursor = String::new();
        loop {
            let separator = if path.contains('?') { '&' } else { '?' };
            let mut page = self.get(&format!("{path}{separator}limit=500{cursor}")).await;
            rows.append(page["rows"].as_array_mut().unwrap());
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return rows,
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended long ago
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the relay ---\n{}", self.log());
        }
    }
}

/// A client for talking to the relay; nothing from the environment.
pub fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap()
}

/// Waits until `condition` gives something, looking every few milliseconds.
pub async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(since.elapsed() < PATIENCE, "it never came to this: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
