//! What is written down of one attempt: enough to answer "why did it fail" without the target's logs. Never request
//! headers or bodies; of the reply only its start.

use std::time::Duration;

use bytes::Bytes;

use super::hint::Hint;
use crate::clock::Timestamp;

/// Reply bytes kept of the last attempt.
pub const REPLY_BYTES_MAX: usize = 4 * 1024;
/// Reply bytes kept of earlier attempts.
pub const EARLIER_REPLY_BYTES_MAX: usize = 256;
/// Attempts kept for each delivery, the newest.
pub const ATTEMPTS_KEPT: usize = 20;

/// What kept an attempt from success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// The target's name does not resolve.
    Dns,
    /// No connection could be made.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// No complete answer within the target's `timeout`.
    Timeout,
    /// The connection broke before the answer was whole.
    Reset,
    /// A whole answer that is not 2xx.
    Status,
    /// The answer's headers are larger than the client reads.
    TooLarge,
    /// The relay's own fault: the attempt panicked.
    Internal,
}

impl ErrorClass {
    /// Every class.
    pub const ALL: [Self; 8] = [
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::Timeout,
        Self::Reset,
        Self::Status,
        Self::TooLarge,
        Self::Internal,
    ];

    /// The word for it in JSON, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Status => "status",
            Self::TooLarge => "too_large",
            Self::Internal => "internal",
        }
    }
}

/// Whether the whole reply was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplyRead {
    /// To its end.
    #[default]
    Whole,
    /// It was longer than the cap, dripped past the deadline, or broke off (`reply_truncated`).
    Truncated,
}

/// One attempt as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// 1 for the delivery's first attempt ever; retries go on counting.
    pub number: u32,
    /// When it began.
    pub at: Timestamp,
    /// From its beginning to the end of what was read of the reply.
    pub took: Duration,
    /// The reply's status, where one came.
    pub status: Option<u16>,
    /// What kept it from success, where something did.
    pub error: Option<ErrorClass>,
    /// What that looks like, where it is known.
    pub hint: Option<Hint>,
    /// The start of the reply's body.
    pub reply: Bytes,
    /// Whether the reply was read to its end.
    pub reply_read: ReplyRead,
}
