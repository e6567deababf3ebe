//! What a lease remembers of its claim, so that its settle can write the record whole without reading it again.

use bytes::{BufMut as _, Bytes, BytesMut};

/// The memo of a lease.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memo {
    /// The event's type.
    pub kind: Bytes,
    /// Its subject as lane text.
    pub subject: Bytes,
    /// The record as it was claimed; empty where there was none.
    pub record: Bytes,
    /// The attempts that stood beside it.
    pub attempts: Bytes,
}

impl Memo {
    /// As the lease carries it: each part behind its length.
    pub fn encode(&self) -> Bytes {
        let parts = [&self.kind, &self.subject, &self.record, &self.attempts];
        let mut bytes = BytesMut::with_capacity(parts.iter().map(|part| 4 + part.len()).sum());
        for part in parts {
            bytes.put_u32(part.len() as u32); // a frame's facts and 20 short replies are far below 4 GiB
            bytes.put_slice(part);
        }
        bytes.freeze()
    }

    /// From what a lease carries; an empty memo where it carries none of ours.
    pub fn decode(mut bytes: Bytes) -> Self {
        let mut part = || {
            let length = u32::from_be_bytes(*bytes.first_chunk::<4>()?) as usize;
            let end = length.checked_add(4).filter(|end| *end <= bytes.len())?;
            Some(bytes.split_to(end).split_off(4))
        };
        let (kind, subject, record, attempts) = (part(), part(), part(), part());
        Self {
            kind: kind.unwrap_or_default(),
            subject: subject.unwrap_or_default(),
            record: record.unwrap_or_default(),
            attempts: attempts.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memo_survives_its_lease() {
        let memo = Memo {
            kind: Bytes::from_static(b"user.created"),
            subject: Bytes::new(),
            record: Bytes::from_static(b"w;0"),
            attempts: Bytes::from_static(b"\0\n"),
        };
        assert_eq!(Memo::decode(memo.encode()), memo);
        assert_eq!(Memo::decode(Bytes::new()), Memo::default());
        assert_eq!(Memo::decode(Bytes::from_static(b"\xff\xff\xff\xff")), Memo::default());
    }
}
