//! An app for tests on a raw socket: records every request byte for byte and answers as it is told, lies included.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_util::sync::{CancellationToken, DropGuard};

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// Lower-case names; equal names joined by a comma.
    pub headers: HashMap<String, String>,
    pub path: String,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// What to do with a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// An ordinary reply, with extra header lines (each `name: value`).
    Status(u16, Vec<String>),
    /// Answer after this long.
    Slow(Duration, u16),
    /// Read the request and say nothing.
    Hang,
    /// Status 200, then one body byte after the other, for ever.
    Drip,
    /// Half a reply, then close.
    BreakOff,
    /// Close before any reply.
    Close,
    /// Status 200 and this many body bytes.
    Flood(u64),
    /// Header lines without end.
    HeaderFlood,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self::Status(status, Vec::new())
    }
}

/// A connection, with or without TLS.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

type Script = Arc<dyn Fn(&Request, usize) -> Reply + Send + Sync>;

/// A receiver that runs until it is dropped.
pub struct Receiver {
    pub url: String,
    record: Arc<Mutex<Record>>,
    _stop: DropGuard,
}

/// What came so far.
#[derive(Default)]
struct Record {
    requests: Vec<Request>,
    /// Requests by their `svix-id`.
    counts: HashMap<String, usize>,
}

impl Receiver {
    /// Answers by `script`, which gets the request and how many requests with its `svix-id` came before.
    pub async fn start(script: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        Self::serve("http", None, Arc::new(script)).await
    }

    /// The same behind TLS; also returns the certificate to trust, as PEM.
    pub async fn start_tls(
        script: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static,
    ) -> (Self, String) {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let tls = TlsAcceptor::from(Arc::new(config));
        (Self::serve("https", Some(tls), Arc::new(script)).await, made.cert.pem())
    }

    async fn serve(scheme: &str, tls: Option<TlsAcceptor>, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{scheme}://{}/hook", listener.local_addr().unwrap());
        let record = Arc::new(Mutex::new(Record::default()));
        let stop = CancellationToken::new();
        let (recording, stopped) = (record.clone(), stop.clone());
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = stopped.cancelled() => return,
                };
                let Ok((socket, _)) = accepted else { continue };
                let (script, record, stopped) = (script.clone(), recording.clone(), stopped.clone());
                let tls = tls.clone();
                let serving = async move {
                    match tls {
                        None => serve(socket, script, record).await,
                        Some(tls) => serve(tls.accept(socket).await?, script, record).await,
                    }
                };
                tokio::spawn(async move {
                    tokio::select! {
                        _ = serving => {}
                        () = stopped.cancelled() => {}
                    }
                });
            }
        });
        Self { url, record, _stop: stop.drop_guard() }
    }

    /// Every request so far, in the order in which they were complete.
    pub fn requests(&self) -> Vec<Request> {
        self.record.lock().unwrap().requests.clone()
    }

    /// How many requests came for each `svix-id`.
    pub fn counts(&self) -> HashMap<String, usize> {
        self.record.lock().unwrap().counts.clone()
    }
}

/// Serves one connection, request after request.
async fn serve(mut socket: impl Stream, script: Script, record: Arc<Mutex<Record>>) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut socket, &mut buffer).await? {
        let before = {
            let mut record = record.lock().unwrap();
            record.requests.push(request.clone());
            let count = record.counts.entry(request.header("svix-id").to_owned()).or_default();
            *count += 1;
            *count - 1
        };
        if !answer(&mut socket, script(&request, before)).await? {
            return Ok(());
        }
    }
    Ok(())
}

/// Whether the connection goes on.
async fn answer(socket: &mut impl Stream, reply: Reply) -> std::io::Result<bool> {
    match reply {
        Reply::Status(status, headers) => {
            let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
            let head = format!("HTTP/1.1 {status} x\r\n{lines}content-length: 2\r\n\r\nok");
            socket.write_all(head.as_bytes()).await?;
            Ok(true)
        }
        Reply::Slow(delay, status) => {
            tokio::time::sleep(delay).await;
            socket
                .write_all(format!("HTTP/1.1 {status} x\r\ncontent-length: 2\r\n\r\nok").as_bytes())
                .await?;
            Ok(true)
        }
        Reply::Hang => std::future::pending().await,
        Reply::Drip => {
            socket.write_all(b"HTTP/1.1 200 x\r\ntransfer-encoding: chunked\r\n\r\n").await?;
            loop {
                socket.write_all(b"1\r\n.\r\n").await?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Reply::BreakOff => {
            socket.write_all(b"HTTP/1.1 200 x\r\ncontent-le").await?;
            Ok(false)
        }
        Reply::Close => Ok(false),
        Reply::Flood(bytes) => {
            socket.write_all(format!("HTTP/1.1 200 x\r\ncontent-length: {bytes}\r\n\r\n").as_bytes()).await?;
            let chunk = vec![b'x'; 64 * 1024];
            for _ in 0..bytes.div_ceil(chunk.len() as u64) {
                socket.write_all(&chunk).await?;
            }
            Ok(false)
        }
        Reply::HeaderFlood => {
            socket.write_all(b"HTTP/1.1 200 x\r\n").await?;
            loop {
                socket.write_all(format!("x: {}\r\n", "y".repeat(8_000)).as_bytes()).await?;
            }
        }
    }
}

async fn read_request(socket: &mut impl Stream, buffer: &mut Vec<u8>) -> std::io::Result<Option<Request>> {
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if socket.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8(buffer[..head_end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let path = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
    let mut headers: HashMap<String, String> = HashMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap();
        headers
            .entry(name.to_ascii_lowercase())
            .and_modify(|earlier| *earlier = format!("{earlier},{}", value.trim()))
            .or_insert_with(|| value.trim().to_owned());
    }
    let length: usize = headers.get("content-length").map_or(0, |text| text.parse().unwrap());
    let end = head_end + 4 + length;
    while buffer.len() < end {
        if socket.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
    let body = buffer[head_end + 4..end].to_vec();
    buffer.drain(..end);
    Ok(Some(Request { headers, path, body }))
}
