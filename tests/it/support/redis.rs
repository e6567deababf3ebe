//! Private Redis servers: real ones on ports and in folders of their own, killed with the test that started them.

#![allow(dead_code)] // a fixture offers more than the tests of one day use

pub mod cluster;
pub mod sentinel;
pub mod tls;

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use clerk_relay::config::RedisUrl;
use clerk_relay::config::redis_url::{Topology, Transport};
use redis::{RedisResult, Value};
use rustix::process::{Pid, Signal, kill_process};

use super::relay::PATIENCE;

/// Ports are taken from below those that the system gives to outgoing connections: a killed server's port stays free
/// for its restart.
const PORTS: std::ops::Range<u16> = 10_000..32_000;
/// A port that was free a moment ago may be gone; so many others are tried.
const PORT_ATTEMPTS: usize = 20;
/// Log lines kept for a failing test's report.
const LOG_LINES_KEPT: usize = 100;
/// What tells in the log that connections are accepted, of a server and of a Sentinel.
const READY: [&str; 2] = ["Ready to accept connections", "+monitor master"];
/// The settings under which Redis loses nothing that it answered.
pub const DURABLE: [&str; 10] = [
    "--save",
    "",
    "--appendonly",
    "yes",
    "--appendfsync",
    "always",
    "--no-appendfsync-on-rewrite",
    "no",
    "--maxmemory-policy",
    "noeviction",
];

/// A Redis server that dies when it is dropped. Its files stay with it over kills and restarts.
pub struct RedisServer {
    child: Option<Child>,
    folder: tempfile::TempDir,
    socket_folder: tempfile::TempDir,
    port: u16,
    args: Vec<String>,
    log: Log,
}

type Log = Arc<Mutex<VecDeque<String>>>;

impl RedisServer {
    /// A server that loses nothing that it answered.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same with more arguments, such as `["--maxmemory", "10mb"]`.
    pub async fn start_with(args: &[&str]) -> Self {
        let args = DURABLE.iter().chain(args).map(|arg| (*arg).to_owned()).collect();
        Self::start_bare(args).await
    }

    /// A server with these arguments alone, besides port, folder and Unix socket.
    pub async fn start_bare(args: Vec<String>) -> Self {
        let mut server = Self::prepare(args);
        for _ in 0..PORT_ATTEMPTS {
            match server.launch().await {
                Ok(()) => return server,
                Err(log) if log.contains("in use") => server.port = free_port(),
                Err(log) => panic!("redis-server does not start:\n{log}"),
            }
        }
        panic!("no free port for redis-server after {PORT_ATTEMPTS} attempts");
    }

    fn prepare(args: Vec<String>) -> Self {
        // On disk, as servers that matter are; the socket elsewhere, because its path must be short.
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        Self {
            child: None,
            folder: tempfile::Builder::new().prefix("redis-").tempdir_in(target).unwrap(),
            socket_folder: tempfile::Builder::new().prefix("redis-").tempdir().unwrap(),
            port: free_port(),
            args,
            log: Log::default(),
        }
    }

    /// Starts it again on its port and files, after `kill` or instead of what runs.
    pub async fn restart(&mut self) {
        self.kill();
        if let Err(log) = self.launch().await {
            panic!("redis-server does not start again:\n{log}");
        }
    }

    /// The same with these arguments from now on. Later ones win over earlier ones.
    pub async fn restart_with(&mut self, args: &[&str]) {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self.restart().await;
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Stops it in its tracks, connections open.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after `pause`.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The same address as the relay holds it.
    pub fn redis_url(&self) -> RedisUrl {
        tcp_url(&[self.port], Topology::Standalone)
    }

    /// Its Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.socket_folder.path().join("redis.sock")
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The answer to one command, by a connection of its own.
    pub async fn command(&self, words: &[&str]) -> Value {
        self.try_command(words).await.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// The same where it may be refused.
    pub async fn try_command(&self, words: &[&str]) -> RedisResult<Value> {
        let client = redis::Client::open(self.url())?;
        let config = redis::AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await
    }

    pub async fn config_set(&self, name: &str, value: &str) {
        self.command(&["CONFIG", "SET", name, value]).await;
    }

    /// One field of `INFO`, where there is such a field.
    pub async fn info(&self, field: &str) -> Option<String> {
        let text: String = redis::from_redis_value(self.command(&["INFO", "everything"]).await).unwrap();
        text.lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':').map(|value| value.trim().to_owned()))
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("the server runs");
        kill_process(Pid::from_child(child), signal).unwrap();
    }

    /// Starts the program and waits until it says that it is ready; its last words where it ends before.
    async fn launch(&mut self) -> Result<(), String> {
        self.log.lock().unwrap().clear();
        let (port, folder) = (self.port.to_string(), self.folder.path().display().to_string());
        let socket = self.socket().display().to_string();
        let mut command = Command::new(binary());
        command
            .args(["--bind", "127.0.0.1", "--port", &port, "--dir", &folder, "--unixsocket", &socket])
            .args(["--unixsocketperm", "700", "--daemonize", "no", "--logfile", ""])
            .args(&self.args);
        self.child = Some(spawn(&mut command));
        self.ready().await
    }

    async fn ready(&mut self) -> Result<(), String> {
        let output = self.child.as_mut().and_then(|child| child.stdout.take()).expect("piped");
        let ready = follow(output, self.log.clone());
        match tokio::time::timeout(PATIENCE, ready).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_ended)) => {
                self.kill();
                Err(self.log())
            }
            Err(_) => panic!("redis-server is not ready after {PATIENCE:?}:\n{}", self.log()),
        }
    }

    /// The last lines that it logged.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().iter().map(|line| format!("{line}\n")).collect()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The address of servers on these local ports.
pub fn tcp_url(ports: &[u16], topology: Topology) -> RedisUrl {
    RedisUrl {
        topology,
        transport: Transport::Tcp(ports.iter().map(|port| ("127.0.0.1".to_owned(), *port)).collect()),
        username: None,
        password: None,
        database: 0,
    }
}

/// A port that nobody uses at the moment.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let width = PORTS.end - PORTS.start;
    // Test processes that run beside this one begin elsewhere.
    let own_start = std::process::id().wrapping_mul(997) % u32::from(width);
    for _ in 0..width {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % width;
        let port = PORTS.start + ((own_start + u32::from(step)) % u32::from(width)) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port of {PORTS:?} is free");
}

fn binary() -> String {
    std::env::var("CLERK_RELAY_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned())
}

fn spawn(command: &mut Command) -> Child {
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    spawned.unwrap_or_else(|error| {
        panic!(
            "`{}` cannot be started ({error}), and these tests need a real Redis: \
             `apt-get install redis-server` on Debian and Ubuntu, `brew install redis` on macOS, \
             or name another (a Valkey, say) in CLERK_RELAY_REDIS_SERVER",
            binary()
        )
    })
}

/// Keeps the log from filling its pipe; the receiver hears when the server is ready, or an error when it ends.
fn follow(output: impl Read + Send + 'static, log: Log) -> tokio::sync::oneshot::Receiver<()> {
    let (tell, ready) = tokio::sync::oneshot::channel();
    let mut tell = Some(tell);
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            let is_ready = READY.iter().any(|word| line.contains(word));
            let mut log = log.lock().unwrap();
            log.push_back(line);
            if log.len() > LOG_LINES_KEPT {
                log.pop_front();
            }
            drop(log);
            if let Some(tell) = tell.take_if(|_| is_ready) {
                let _ = tell.send(());
            }
        }
    });
    ready
}
