//! Reads a request's body whole, with a cap and a deadline that hold *while* reading. A body that declares itself too
//! large is refused before its first byte, so that a client that asked `Expect: 100-continue` never sends it.

use std::error::Error;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body;
use tokio::time::{Instant, timeout_at};

/// Why a body could not be had. The rest of it is unread: answer, then close the connection.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// It is longer than the cap.
    #[error("the body is larger than {bytes_max} bytes")]
    TooLarge {
        /// What it declares to have, or what came before it was refused.
        bytes: u64,
        /// The cap.
        bytes_max: usize,
    },
    /// The deadline passed before its end.
    #[error("the body did not come in time")]
    TooSlow {
        /// What had come.
        bytes: u64,
    },
    /// It broke off or was malformed.
    #[error("the body broke off")]
    Broken {
        /// What had come.
        bytes: u64,
        /// Why.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

/// All of `body`, at most `bytes_max` bytes, by `deadline`.
///
/// # Errors
/// [`BodyError`]; dropping the body then tells the server not to reuse the connection.
pub async fn read<B>(mut body: B, bytes_max: usize, deadline: Instant) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let declared = body.size_hint().lower();
    if declared > bytes_max as u64 {
        return Err(BodyError::TooLarge { bytes: declared, bytes_max });
    }
    let mut whole = Whole::default();
    match timeout_at(deadline, whole.fill(&mut body, bytes_max)).await {
        Ok(filled) => filled.map(|()| whole.into_bytes()),
        Err(_elapsed) => Err(BodyError::TooSlow { bytes: whole.bytes() }),
    }
}

/// What has come so far. The usual body comes in one piece, which is kept without copying.
#[derive(Default)]
struct Whole {
    first: Bytes,
    joined: BytesMut,
}

impl Whole {
    async fn fill<B>(&mut self, body: &mut B, bytes_max: usize) -> Result<(), BodyError>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|source| BodyError::Broken { bytes: self.bytes(), source: source.into() })?;
            let Ok(data) = frame.into_data() else { continue }; // trailers say nothing to us
            let bytes = self.bytes() + data.len() as u64;
            if bytes > bytes_max as u64 {
                return Err(BodyError::TooLarge { bytes, bytes_max });
            }
            self.push(data, body.size_hint().lower());
        }
        Ok(())
    }

    /// `to_come` is at most the cap, which bounds what is reserved.
    fn push(&mut self, data: Bytes, to_come: u64) {
        if self.first.is_empty() && self.joined.is_empty() {
            self.first = data;
            return;
        }
        if self.joined.is_empty() {
            self.joined.reserve(self.first.len() + data.len() + usize::try_from(to_come).unwrap_or(0));
            self.joined.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.joined.extend_from_slice(&data);
    }

    fn bytes(&self) -> u64 {
        (self.first.len() + self.joined.len()) as u64
    }

    fn into_bytes(self) -> Bytes {
        if self.joined.is_empty() { self.first } else { self.joined.freeze() }
    }
}
