//! Replies of Redis taken apart. A reply of another shape than expected means that something else has these keys, or
//! another release wrote them: an error, never a guess.

use bytes::Bytes;
use redis::Value;

use crate::store::StoreError;

/// A reply that is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("Redis answered something unexpected where {0} was due")]
pub struct Odd(pub &'static str);

impl From<Odd> for StoreError {
    fn from(odd: Odd) -> Self {
        Self::Corrupt(Some(Box::new(odd)))
    }
}

/// The elements of an array; none for nil.
pub fn array(value: Value, what: &'static str) -> Result<Vec<Value>, Odd> {
    if let Value::Array(values) = value {
        return Ok(values);
    }
    if value == Value::Nil { Ok(Vec::new()) } else { Err(Odd(what)) }
}

/// Text or bytes.
pub fn bytes(value: Value, what: &'static str) -> Result<Bytes, Odd> {
    if let Value::BulkString(bytes) = value {
        return Ok(Bytes::from(bytes));
    }
    if let Value::SimpleString(text) = value {
        return Ok(Bytes::from(text));
    }
    if let Value::Int(number) = value { Ok(Bytes::from(number.to_string())) } else { Err(Odd(what)) }
}

/// Bytes, or nothing for nil.
pub fn some_bytes(value: Value, what: &'static str) -> Result<Option<Bytes>, Odd> {
    if value == Value::Nil { Ok(None) } else { bytes(value, what).map(Some) }
}

/// Text.
pub fn text(value: Value, what: &'static str) -> Result<String, Odd> {
    String::from_utf8(bytes(value, what)?.into()).map_err(|_| Odd(what))
}

/// A number.
pub fn number<N: std::str::FromStr>(value: Value, what: &'static str) -> Result<N, Odd> {
    text(value, what)?.parse().map_err(|_| Odd(what))
}

/// Names and values, as a flat array gives them.
pub fn pairs(value: Value, what: &'static str) -> Result<Vec<(Bytes, Value)>, Odd> {
    let mut values = array(value, what)?.into_iter();
    let mut found = Vec::new();
    while let Some(name) = values.next() {
        found.push((bytes(name, what)?, values.next().ok_or(Odd(what))?));
    }
    Ok(found)
}

/// An entry of the log: its id and the three fields that ingest wrote.
#[derive(Debug)]
pub struct Entry {
    /// The event's id.
    pub id: crate::event::EventId,
    /// The event's type.
    pub kind: Bytes,
    /// Its subject as lane text.
    pub subject: Bytes,
    /// Its stored form.
    pub frame: Bytes,
}

/// The entries of a range of the log.
pub fn entries(value: Value) -> Result<Vec<Entry>, Odd> {
    const WHAT: &str = "an entry of the log";
    let mut found = Vec::new();
    for entry in array(value, WHAT)? {
        let Ok([id, fields]) = <[Value; 2]>::try_from(array(entry, WHAT)?) else { return Err(Odd(WHAT)) };
        let id = super::codes::from_stream(&bytes(id, WHAT)?).ok_or(Odd(WHAT))?;
        let Ok([_, kind, _, subject, _, frame]) = <[Value; 6]>::try_from(array(fields, WHAT)?) else {
            return Err(Odd(WHAT));
        };
        found.push(Entry {
            id,
            kind: bytes(kind, WHAT)?,
            subject: bytes(subject, WHAT)?,
            frame: bytes(frame, WHAT)?,
        });
    }
    Ok(found)
}
