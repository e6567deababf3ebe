//! How our words are written in columns, in one place: states, ids, instants, error classes, hints. Knows no table.
//!
//! The numbers of the states are ordered on purpose, because the schema's partial indexes are ranges of them (a list
//! would cost a temporary table for each row written): 1 in flight, 2 and 3 claimable when due, 4 parked, 5 dead, above
//! it ended for good. They are on disk: never renumber them.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::event::EventId;
use crate::lifecycle::attempt::{ErrorClass, ReplyRead};
use crate::lifecycle::hint::Hint;
use crate::lifecycle::{Cause, Next, Ordering, State, TakenOver, arrow};
use crate::store::PauseReason;

use super::fault::Fault;

/// Bits of an event id that tell events of one millisecond apart; what overflows simply borrows from the next one.
const SEQ_BITS: u32 = 20;
/// The largest milliseconds that fit above the sequence: the year 2248.
const MS_MAX: i64 = (1 << (62 - SEQ_BITS)) - 1;

/// The number of `state`.
pub const fn state_code(state: State) -> i64 {
    match state {
        State::InFlight => 1,
        State::Queued => 2,
        State::Waiting => 3,
        State::Parked => 4,
        State::Dead => 5,
        State::Delivered => 6,
        State::Skipped => 7,
        State::Cancelled => 8,
    }
}

/// The state with this number.
///
/// # Errors
/// Where no state has it.
pub fn state(code: i64) -> Result<State, Fault> {
    State::ALL.into_iter().find(|state| state_code(*state) == code).ok_or(Fault::Unreadable("state"))
}

/// The state that `cause` leads to.
///
/// # Errors
/// Where a delivery's life has no such arrow.
pub fn next(from: Option<State>, cause: Cause) -> Result<State, Fault> {
    match arrow(from, cause) {
        Some(Next::To(state)) => Ok(state),
        Some(Next::Gone) | None => Err(Fault::NoArrow { from, cause }),
    }
}

/// An event id as a row id, where it is one that this store can have made.
pub fn pack(id: EventId) -> Option<i64> {
    let ms = i64::try_from(id.ms).ok().filter(|ms| *ms <= MS_MAX)?;
    (id.seq < 1 << SEQ_BITS).then_some(ms << SEQ_BITS | i64::from(id.seq))
}

/// The event id of a row id.
pub fn unpack(row_id: i64) -> EventId {
    EventId {
        ms: u64::try_from(row_id >> SEQ_BITS).unwrap_or_default(),
        seq: (row_id & ((1 << SEQ_BITS) - 1)) as u32,
    }
}

/// The least row id of an event accepted at or after `at`.
pub fn first_at(at: Timestamp) -> i64 {
    at.as_ms().clamp(0, MS_MAX) << SEQ_BITS
}

/// When the event with this row id was accepted.
pub fn accepted_at(row_id: i64) -> Timestamp {
    Timestamp::from_ms(row_id >> SEQ_BITS)
}

/// A duration in whole milliseconds.
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Milliseconds as a duration; negative ones are none.
pub fn duration(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or_default())
}

/// The error class with this name.
///
/// # Errors
/// Where there is none.
pub fn error_class(name: Option<String>) -> Result<Option<ErrorClass>, Fault> {
    let Some(name) = name else { return Ok(None) };
    let class = ErrorClass::ALL.into_iter().find(|class| class.as_str() == name);
    class.map(Some).ok_or(Fault::Unreadable("error"))
}

/// The hint with this code. A code of a later release is no hint here: it decides nothing.
pub fn hint(code: Option<String>) -> Option<Hint> {
    Hint::of_code(&code?)
}

/// The pause with this name.
///
/// # Errors
/// Where there is none.
pub fn pause(name: Option<String>) -> Result<Option<PauseReason>, Fault> {
    let Some(name) = name else { return Ok(None) };
    let reason =
        [PauseReason::Operator, PauseReason::Gone].into_iter().find(|reason| reason.as_str() == name);
    reason.map(Some).ok_or(Fault::Unreadable("paused"))
}

/// The number of an ordering.
pub const fn ordering_code(ordering: Ordering) -> i64 {
    match ordering {
        Ordering::None => 0,
        Ordering::Subject => 1,
    }
}

/// The ordering with this number.
pub const fn ordering(code: i64) -> Ordering {
    if code == ordering_code(Ordering::Subject) { Ordering::Subject } else { Ordering::None }
}

/// The number of a take-over mark.
pub const fn taken_over_code(taken_over: TakenOver) -> i64 {
    match taken_over {
        TakenOver::No => 0,
        TakenOver::Yes => 1,
    }
}

/// The take-over mark with this number.
pub const fn taken_over(code: i64) -> TakenOver {
    if code == taken_over_code(TakenOver::Yes) { TakenOver::Yes } else { TakenOver::No }
}

/// The number of how a reply was read.
pub const fn reply_read_code(read: ReplyRead) -> i64 {
    match read {
        ReplyRead::Whole => 0,
        ReplyRead::Truncated => 1,
    }
}

/// How a reply with this number was read.
pub const fn reply_read(code: i64) -> ReplyRead {
    if code == reply_read_code(ReplyRead::Truncated) { ReplyRead::Truncated } else { ReplyRead::Whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_states_keep_the_order_that_the_indexes_rely_on() {
        for one in State::ALL {
            let code = state_code(one);
            assert_eq!(state(code).unwrap(), one);
            assert_eq!(code < 5, !one.is_ended(), "{one:?}");
            assert_eq!(code == 1, one == State::InFlight, "{one:?}");
            assert_eq!(code > 1 && code < 4, matches!(one, State::Queued | State::Waiting), "{one:?}");
            assert_eq!(code == 4, one == State::Parked, "{one:?}");
            assert_eq!(code == 5, one == State::Dead, "{one:?}");
        }
        assert!(state(0).is_err() && state(9).is_err());
    }

    #[test]
    fn an_event_id_survives_its_row_id_and_keeps_its_order() {
        let ids = [(0, 0), (0, 1), (1, 0), (1_784_000_000_000, 7), (MS_MAX as u64, (1 << SEQ_BITS) - 1)];
        let ids = ids.map(|(ms, seq)| EventId { ms, seq });
        assert_eq!(ids.map(|id| unpack(pack(id).unwrap())), ids);
        assert!(ids.map(pack).is_sorted());
    }

    #[test]
    fn an_id_of_another_store_is_no_row_id() {
        for (ms, seq) in [(u64::MAX, 0), (MS_MAX as u64 + 1, 0), (5, 1 << SEQ_BITS)] {
            assert_eq!(pack(EventId { ms, seq }), None);
        }
    }
}
