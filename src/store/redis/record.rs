//! A delivery's record as text, and its attempts as bytes: written whole by the relay that holds the lease, moved by the
//! scripts. See `scripts/common.lua` for the fields.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::{Buf as _, Bytes};

use crate::clock::Timestamp;
use crate::lifecycle::attempt::{
    ATTEMPTS_KEPT, Attempt, EARLIER_REPLY_BYTES_MAX, ErrorClass, REPLY_BYTES_MAX, ReplyRead,
};
use crate::lifecycle::hint::Hint;
use crate::lifecycle::{Progress, State, TakenOver, Transition};

use super::codes;

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where the delivery is.
    pub state: State,
    /// When it may be claimed, in ms since 1970.
    pub due: i64,
    /// When its state last changed.
    pub updated: Timestamp,
    /// What was attempted.
    pub progress: Progress,
    /// The last reply's status.
    pub status: Option<u16>,
    /// What kept the last attempt from success.
    pub error: Option<ErrorClass>,
    /// What that looks like.
    pub hint: Option<Hint>,
    /// Why it is dead or skipped.
    pub reason: Option<String>,
    /// Its one attempt, where that succeeded at once.
    pub only: Option<Only>,
}

/// The one attempt of a delivery that succeeded at once; its status is the record's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Only {
    at: Timestamp,
    took: Duration,
    reply_read: ReplyRead,
}

impl Record {
    /// A delivery that is in flight and has no record.
    pub fn in_flight(updated: Timestamp) -> Self {
        Self {
            state: State::InFlight,
            due: 0,
            updated,
            progress: Progress::default(),
            status: None,
            error: None,
            hint: None,
            reason: None,
            only: None,
        }
    }

    /// From its text; `None` where it is no record of this release.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.splitn(14, ';');
        let mut next = || fields.next();
        let mut record = Self {
            state: codes::state(next()?)?,
            due: next()?.parse().ok()?,
            updated: Timestamp::from_ms(next()?.parse().ok()?),
            progress: Progress {
                attempts: next()?.parse().ok()?,
                attempts_total: next()?.parse().ok()?,
                first_attempt_at: moment(next()?)?,
                retried_at: moment(next()?)?,
                takeovers: next()?.parse().ok()?,
                taken_over: if next()? == "1" { TakenOver::Yes } else { TakenOver::No },
            },
            status: optional(next()?, |text| text.parse().ok())?,
            error: None,
            hint: None,
            reason: None,
            only: None,
        };
        (record.error, record.hint) = failure(next()?)?;
        record.reason = Some(next()?.to_owned()).filter(|reason| !reason.is_empty());
        record.only = optional(next()?, Only::parse)?;
        next()?; // the lane is the scripts'
        Some(record)
    }

    /// The fields from `attempts` to `only`, as the scripts take them.
    pub fn fields(&self) -> String {
        let Progress { attempts, attempts_total, first_attempt_at, retried_at, takeovers, taken_over } =
            self.progress;
        let ms = |at: Option<Timestamp>| at.map_or(String::new(), |at| at.as_ms().to_string());
        format!(
            "{attempts};{attempts_total};{};{};{takeovers};{};{};{};{};{}",
            ms(first_attempt_at),
            ms(retried_at),
            u8::from(taken_over == TakenOver::Yes),
            self.status.map_or(String::new(), |status| status.to_string()),
            failure_text(self.error, self.hint),
            self.reason.as_deref().unwrap_or_default(),
            self.only.map_or(String::new(), Only::text),
        )
    }

    /// Notes what `transition` and its attempt change, and returns the attempts to keep, where they change.
    pub fn settle(
        &mut self, kept: &Bytes, transition: Transition, attempt: Option<&Attempt>, now: Timestamp,
    ) -> Option<Vec<u8>> {
        self.progress.taken_over = TakenOver::No;
        self.reason = match transition {
            Transition::Die(reason) => Some(reason.as_str().to_owned()),
            Transition::Skip(reason) => Some(reason.as_str().to_owned()),
            Transition::Deliver
            | Transition::Wait { .. }
            | Transition::Return
            | Transition::Postpone { .. } => None,
        };
        if !transition.counts() {
            return None;
        }
        let progress = &mut self.progress;
        progress.attempts = progress.attempts.saturating_add(1);
        progress.attempts_total = progress.attempts_total.saturating_add(1);
        progress.first_attempt_at.get_or_insert(attempt.map_or(now, |attempt| attempt.at));
        let attempt = attempt?;
        let mut attempts = self.attempts(kept);
        self.status = attempt.status;
        self.error = attempt.error;
        self.hint = attempt.hint;
        if transition == Transition::Deliver && self.progress.attempts_total == 1 {
            self.only = Some(Only { at: attempt.at, took: attempt.took, reply_read: attempt.reply_read });
            return None;
        }
        self.only = None;
        for earlier in &mut attempts {
            earlier.reply.truncate(EARLIER_REPLY_BYTES_MAX);
        }
        let mut newest = attempt.clone();
        newest.number = self.progress.attempts_total;
        newest.reply.truncate(REPLY_BYTES_MAX);
        attempts.push(newest);
        let dropped = attempts.len().saturating_sub(ATTEMPTS_KEPT);
        Some(encode_attempts(&attempts[dropped..]))
    }

    /// The attempts that are kept, oldest first; `kept` is what stands beside the record.
    pub fn attempts(&self, kept: &Bytes) -> Vec<Attempt> {
        if let Some(only) = self.only {
            return vec![Attempt {
                number: 1,
                at: only.at,
                took: only.took,
                status: self.status,
                error: None,
                hint: None,
                reply: Bytes::new(),
                reply_read: only.reply_read,
            }];
        }
        decode_attempts(kept.clone())
    }
}

impl Only {
    fn text(self) -> String {
        let read = u8::from(self.reply_read == ReplyRead::Truncated);
        format!("{},{},{read}", self.at.as_ms(), self.took.as_millis())
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ',');
        Some(Self {
            at: Timestamp::from_ms(parts.next()?.parse().ok()?),
            took: Duration::from_millis(parts.next()?.parse().ok()?),
            reply_read: reply_read(parts.next()?),
        })
    }
}

/// The class and, where one is known, the hint behind a comma.
fn failure_text(error: Option<ErrorClass>, hint: Option<Hint>) -> String {
    let (class, hint) = (error.map_or("", ErrorClass::as_str), hint.map_or("", Hint::as_str));
    if hint.is_empty() { class.to_owned() } else { format!("{class},{hint}") }
}

fn failure(text: &str) -> Option<(Option<ErrorClass>, Option<Hint>)> {
    let (class, hint) = text.split_once(',').unwrap_or((text, ""));
    let class = optional(class, |text| ErrorClass::ALL.into_iter().find(|class| class.as_str() == text))?;
    Some((class, Hint::of_code(hint))) // of a later release: no hint here
}

fn reply_read(text: &str) -> ReplyRead {
    if text == "1" { ReplyRead::Truncated } else { ReplyRead::Whole }
}

fn moment(text: &str) -> Option<Option<Timestamp>> {
    optional(text, |text| text.parse().ok().map(Timestamp::from_ms))
}

/// Nothing for empty text; else what `read` makes of it, or `None` where that is nothing.
fn optional<T>(text: &str, read: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    if text.is_empty() { Some(None) } else { read(text).map(Some) }
}

/// Each attempt is a line of `number;at;took;status;error;truncated;reply length`, where `error` is a class and perhaps a
/// hint, then the reply's bytes.
fn encode_attempts(attempts: &[Attempt]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for one in attempts {
        let mut head = String::new();
        // Writing into a String cannot fail.
        let _ = writeln!(
            head,
            "{};{};{};{};{};{};{}",
            one.number,
            one.at.as_ms(),
            one.took.as_millis(),
            one.status.map_or(String::new(), |status| status.to_string()),
            failure_text(one.error, one.hint),
            u8::from(one.reply_read == ReplyRead::Truncated),
            one.reply.len(),
        );
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(&one.reply);
    }
    bytes
}

/// The attempts in `bytes`, up to the first that cannot be read.
fn decode_attempts(mut bytes: Bytes) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        let head = bytes.split_to(end);
        bytes.advance(1);
        let Some((mut attempt, length)) = std::str::from_utf8(&head).ok().and_then(decode_head) else {
            break;
        };
        if length > bytes.len() {
            break;
        }
        attempt.reply = bytes.split_to(length);
        attempts.push(attempt);
    }
    attempts
}

fn decode_head(text: &str) -> Option<(Attempt, usize)> {
    let mut fields = text.splitn(7, ';');
    let mut next = || fields.next();
    let (number, at, took, status) = (next()?, next()?, next()?, next()?);
    let (error, hint) = failure(next()?)?;
    let attempt = Attempt {
        number: number.parse().ok()?,
        at: Timestamp::from_ms(at.parse().ok()?),
        took: Duration::from_millis(took.parse().ok()?),
        status: optional(status, |text| text.parse().ok())?,
        error,
        hint,
        reply_read: reply_read(next()?),
        reply: Bytes::new(),
    };
    Some((attempt, next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::DeadReason;

    fn attempt(reply: &'static [u8]) -> Attempt {
        Attempt {
            number: 1,
            at: Timestamp::from_ms(1_784_000_000_123),
            took: Duration::from_millis(12),
            status: Some(503),
            error: Some(ErrorClass::Status),
            hint: Some(Hint::AppDown),
            reply: Bytes::from_static(reply),
            reply_read: ReplyRead::Truncated,
        }
    }

    #[test]
    fn a_record_survives_its_text() {
        let now = Timestamp::from_ms(1_784_000_000_000);
        let mut record = Record::in_flight(now);
        let kept =
            record.settle(&Bytes::new(), Transition::Die(DeadReason::Gone), Some(&attempt(b"no")), now);
        assert!(kept.is_some());
        record.progress.takeovers = 3;
        let text = format!("f;0;1784000000000;{};user;with;semicolons", record.fields());
        assert_eq!(Record::parse(&text), Some(record));
        assert_eq!(Record::parse("f;0;1784000000000;0;0"), None);
        assert_eq!(Record::parse("?;0;0;0;0;;;0;0;;;;;"), None);
    }

    #[test]
    fn texts_without_a_hint_and_of_a_later_release_are_read() {
        let text = |error| format!("f;0;1;1;1;1;;0;0;503;{error};;;user");
        let read = |error| Record::parse(&text(error)).map(|record| (record.error, record.hint));
        assert_eq!(read("status"), Some((Some(ErrorClass::Status), None)));
        assert_eq!(read("status,path"), Some((Some(ErrorClass::Status), Some(Hint::Path))));
        assert_eq!(read("status,of_later"), Some((Some(ErrorClass::Status), None)));
        assert_eq!(read(""), Some((None, None)));
        assert_eq!(read("of_later"), None);
        let old = Bytes::from_static(b"1;2;3;503;status;0;2\nno2;5;3;;dns,dns;0;0\n");
        let hints: Vec<_> = decode_attempts(old).iter().map(|attempt| attempt.hint).collect();
        assert_eq!(hints, [None, Some(Hint::Dns)]);
    }

    #[test]
    fn attempts_survive_whatever_the_reply_holds() {
        let attempts = [attempt(b"1;2;3\n\n"), attempt(b""), attempt(b"\xff\x00;\n")];
        let bytes = Bytes::from(encode_attempts(&attempts));
        assert_eq!(decode_attempts(bytes.clone()), attempts);
        assert_eq!(decode_attempts(bytes.slice(..bytes.len() - 1)).len(), 2, "the one cut short is left out");
    }
}
