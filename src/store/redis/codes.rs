//! How our words are written in Redis: ids, states, tokens. Knows no key.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::event::{EventId, Subject};
use crate::lifecycle::State;

/// An event id as the scripts know it: 20 hex digits that sort as events do.
pub fn hex(id: EventId) -> String {
    id.sequence()
}

/// The event id of these 20 hex digits.
pub fn from_hex(text: &[u8]) -> Option<EventId> {
    let text = std::str::from_utf8(text).ok()?;
    format!("evt_{text}").parse().ok()
}

/// The stream's id of an event.
pub fn stream_id(id: EventId) -> String {
    format!("{}-{}", id.ms, id.seq)
}

/// The event id of a stream's id.
pub fn from_stream(text: &[u8]) -> Option<EventId> {
    let (ms, seq) = std::str::from_utf8(text).ok()?.split_once('-')?;
    Some(EventId { ms: ms.parse().ok()?, seq: seq.parse().ok()? })
}

/// When the event was accepted.
pub fn accepted_at(id: EventId) -> Timestamp {
    Timestamp::from_ms(i64::try_from(id.ms).unwrap_or(i64::MAX))
}

/// The letter of `state`. They are in the records: never change one.
pub const fn letter(state: State) -> char {
    match state {
        State::Queued => 'q',
        State::InFlight => 'f',
        State::Waiting => 'w',
        State::Parked => 'p',
        State::Dead => 'x',
        State::Delivered => 'd',
        State::Skipped => 's',
        State::Cancelled => 'c',
    }
}

/// The state with this letter.
pub fn state(text: &str) -> Option<State> {
    State::ALL.into_iter().find(|state| text.chars().eq([letter(*state)]))
}

/// A lease's token: whose it is, and by which of its claims; claim 0 is what is pending in the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// The relay's lease.
    pub lease: u32,
    /// The number of the claim.
    pub claim: u32,
}

impl Token {
    /// As the port carries it.
    pub fn pack(self) -> u64 {
        u64::from(self.lease) << 32 | u64::from(self.claim)
    }

    /// From what the port carries.
    pub fn unpack(token: u64) -> Self {
        Self { lease: (token >> 32) as u32, claim: token as u32 } // each half fits by the shift
    }

    /// From `lease:claim`, as `act` holds it.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (lease, claim) = std::str::from_utf8(text).ok()?.split_once(':')?;
        Some(Self { lease: lease.parse().ok()?, claim: claim.parse().ok()? })
    }
}

/// The subject as text that can stand in a lane's key: control characters would break its ranges, so such a subject,
/// which no id of Clerk's is, is digested.
pub fn lane_text(subject: Option<&Subject>) -> String {
    let Some(subject) = subject.map(Subject::as_str) else { return String::new() };
    if !subject.contains(|c: char| c.is_control()) {
        return subject.to_owned();
    }
    let digest = <sha2::Sha256 as sha2::Digest>::digest(subject.as_bytes());
    digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// A duration in whole milliseconds.
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// An argument of a script.
pub fn arg(value: impl ToString) -> Vec<u8> {
    value.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_both_of_its_forms() {
        for id in [EventId { ms: 0, seq: 0 }, EventId { ms: 1_784_000_000_000, seq: u32::MAX }] {
            assert_eq!(from_hex(hex(id).as_bytes()), Some(id));
            assert_eq!(from_stream(stream_id(id).as_bytes()), Some(id));
        }
        assert_eq!(from_hex(b"12"), None);
        assert_eq!(from_stream(b"5"), None);
    }

    #[test]
    fn every_state_has_a_letter_of_its_own() {
        for one in State::ALL {
            assert_eq!(state(&letter(one).to_string()), Some(one));
        }
        assert_eq!(state(""), None);
        assert_eq!(state("qq"), None);
    }

    #[test]
    fn a_token_survives_the_port() {
        for token in [Token { lease: 1, claim: 0 }, Token { lease: u32::MAX, claim: u32::MAX }] {
            assert_eq!(Token::unpack(token.pack()), token);
        }
        assert_eq!(Token::parse(b"7:12"), Some(Token { lease: 7, claim: 12 }));
        assert_eq!(Token::parse(b"7"), None);
    }

    #[test]
    fn a_subject_with_control_characters_is_digested() {
        let plain = Subject::of("user_1").unwrap();
        assert_eq!(lane_text(Some(&plain)), "user_1");
        assert_eq!(lane_text(Subject::of("a\0b").as_ref()).len(), 32);
        assert_eq!(lane_text(None), "");
    }
}
