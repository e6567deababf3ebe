//! The sender's side, byte by byte: what a test wants on the wire is what goes there.

use std::net::SocketAddr;
use std::time::Duration;

use clerk_relay::clock::Timestamp;
use clerk_relay::secret::SigningSecret;
use clerk_relay::signature::sign;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Nothing in these tests takes this long unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A secret like Clerk's.
pub fn secret(seed: u8) -> SigningSecret {
    SigningSecret::from_key(&[seed; 24])
}

/// A request, with the parts that tests change.
#[derive(Clone)]
pub struct Post {
    pub path: &'static str,
    pub id: String,
    pub at: Timestamp,
    pub body: Vec<u8>,
    pub secret: SigningSecret,
    /// Further lines of the head, each as it goes out.
    pub lines: Vec<String>,
    /// Head lines that are left out.
    pub without: Vec<&'static str>,
}

impl Post {
    /// A right request for the source `clerk`.
    pub fn new(id: impl Into<String>, at: Timestamp, body: impl Into<Vec<u8>>) -> Self {
        Self {
            path: "/webhooks/clerk",
            id: id.into(),
            at,
            body: body.into(),
            secret: secret(1),
            lines: Vec::new(),
            without: Vec::new(),
        }
    }

    pub fn signed_with(mut self, secret: SigningSecret) -> Self {
        self.secret = secret;
        self
    }

    pub fn to(mut self, path: &'static str) -> Self {
        self.path = path;
        self
    }

    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    pub fn without(mut self, name: &'static str) -> Self {
        self.without.push(name);
        self
    }

    /// Everything up to and with the empty line.
    pub fn head(&self) -> Vec<u8> {
        let signature = sign(std::slice::from_ref(&self.secret), &self.id, self.at, &self.body);
        let mut lines = vec![
            ("Host", "relay.test".to_owned()),
            ("Content-Type", "application/json".to_owned()),
            ("User-Agent", "Svix-Webhooks/1.84.0 (sender-test)".to_owned()),
            ("Content-Length", self.body.len().to_string()),
            ("Svix-Id", self.id.clone()),
            ("Svix-Timestamp", self.at.as_secs().to_string()),
            ("Svix-Signature", signature),
        ];
        lines.retain(|(name, _)| !self.without.contains(name));
        let mut head = format!("POST {} HTTP/1.1\r\n", self.path);
        for (name, value) in lines {
            head += &format!("{name}: {value}\r\n");
        }
        for line in &self.lines {
            head += &format!("{line}\r\n");
        }
        (head + "\r\n").into_bytes()
    }

    /// The whole request.
    pub fn bytes(&self) -> Vec<u8> {
        [self.head(), self.body.clone()].concat()
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The `code` of an error.
    pub fn code(&self) -> String {
        let json: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        json["error"]["code"].as_str().unwrap().to_owned()
    }
}

/// One connection.
pub struct Client {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = timeout(PATIENCE, TcpStream::connect(address)).await.unwrap().unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        timeout(PATIENCE, self.stream.write_all(bytes)).await.unwrap().unwrap();
    }

    /// Sends where the other end may already be closed.
    pub async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        timeout(PATIENCE, self.stream.write_all(bytes)).await.unwrap()
    }

    /// Says that nothing more will be sent.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// The next answer, interim ones included; `None` where the connection ends instead.
    pub async fn try_answer(&mut self) -> Option<Answer> {
        let head_bytes = loop {
            if let Some(at) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if self.more().await == 0 {
                assert!(self.read.is_empty(), "cut short: {:?}", String::from_utf8_lossy(&self.read));
                return None;
            }
        };
        let head = String::from_utf8(self.read.drain(..head_bytes).collect()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: String::new() };
        let body_bytes = answer.header("content-length").map_or(0, |text| text.parse().unwrap());
        while self.read.len() < body_bytes {
            assert_ne!(self.more().await, 0, "the answer's body is cut short");
        }
        answer.body = String::from_utf8(self.read.drain(..body_bytes).collect()).unwrap();
        Some(answer)
    }

    pub async fn answer(&mut self) -> Answer {
        self.try_answer().await.expect("an answer, not the end of the connection")
    }

    pub async fn ask(&mut self, post: &Post) -> Answer {
        self.send(&post.bytes()).await;
        self.answer().await
    }

    /// Waits until the other end closes, whatever it still sends.
    pub async fn wait_for_end(&mut self) {
        while self.more().await > 0 {}
    }

    /// Whether something can be read right now (an answer, or the end).
    pub fn has_input(&self) -> bool {
        let mut byte = [0];
        self.stream.try_read(&mut byte).is_ok()
    }

    async fn more(&mut self) -> usize {
        let mut chunk = [0; 4096];
        // A reset is an end too: tests that care whether an answer came before it look at what was read.
        let read =
            timeout(PATIENCE, self.stream.read(&mut chunk)).await.expect("the relay hangs").unwrap_or(0);
        self.read.extend_from_slice(&chunk[..read]);
        read
    }
}
