//! Events as they are kept: in the log above its floor, or aside where the log was trimmed past one that is still needed.

use bytes::Bytes;
use redis::Value;

use crate::event::EventId;
use crate::store::StoreError;

use super::codes;
use super::core::Core;
use super::link::Lane;
pub use super::reply::Entry;
use super::reply::{self, Odd};

/// The events with these ids, where they are kept, in their order.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn of(core: &Core, ids: &[EventId]) -> Result<Vec<Option<Entry>>, StoreError> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut pipeline = redis::pipe();
    pipeline.cmd("HGET").arg(core.keys.meta()).arg("floor");
    let mut kept = redis::cmd("HMGET");
    kept.arg(core.keys.kept_frames());
    for id in ids {
        kept.arg(codes::hex(*id));
    }
    pipeline.add_command(kept);
    for id in ids {
        let id = codes::stream_id(*id);
        pipeline.cmd("XRANGE").arg(core.keys.log()).arg(&id).arg(&id);
    }
    let mut replies = core.link.pipeline(Lane::Admin, &pipeline).await?.into_iter();
    let floor = read_floor(replies.next().ok_or(Odd("a floor"))?)?;
    let kept = reply::array(replies.next().ok_or(Odd("kept frames"))?, "kept frames")?;
    let mut found = Vec::with_capacity(ids.len());
    for ((id, kept), logged) in ids.iter().zip(kept).zip(replies) {
        let logged = reply::entries(logged)?.pop().filter(|_| *id > floor);
        let kept = reply::some_bytes(kept, "a kept frame")?;
        found.push(logged.or_else(|| read_kept(*id, &kept?)));
    }
    Ok(found)
}

/// What the log holds up to this id is trimmed, or about to be.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn floor(core: &Core) -> Result<EventId, StoreError> {
    let mut command = redis::cmd("HGET");
    command.arg(core.keys.meta()).arg("floor");
    Ok(read_floor(core.link.command(Lane::Admin, &command).await?)?)
}

fn read_floor(value: Value) -> Result<EventId, Odd> {
    match reply::some_bytes(value, "a floor")? {
        None => Ok(EventId { ms: 0, seq: 0 }),
        Some(text) => codes::from_stream(&text).ok_or(Odd("a floor")),
    }
}

/// An event as the sweep put it aside: `type length, subject length, type, subject, frame`.
fn read_kept(id: EventId, bytes: &Bytes) -> Option<Entry> {
    let mut spaces = bytes.iter().enumerate().filter(|(_, byte)| **byte == b' ').map(|(at, _)| at);
    let (first, second) = (spaces.next()?, spaces.next()?);
    let number = |range: std::ops::Range<usize>| -> Option<usize> {
        std::str::from_utf8(bytes.get(range)?).ok()?.parse().ok()
    };
    let kind_at = second + 1;
    let subject_at = kind_at.checked_add(number(0..first)?)?;
    let frame_at = subject_at.checked_add(number(first + 1..second)?)?;
    if frame_at > bytes.len() {
        return None;
    }
    Some(Entry {
        id,
        kind: bytes.slice(kind_at..subject_at),
        subject: bytes.slice(subject_at..frame_at),
        frame: bytes.slice(frame_at..),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_aside_is_read_back() {
        let id = EventId { ms: 1, seq: 0 };
        let entry = read_kept(id, &Bytes::from_static(b"3 2 a.bu1frame with spaces")).unwrap();
        assert_eq!(
            (&*entry.kind, &*entry.subject, &*entry.frame),
            (&b"a.b"[..], &b"u1"[..], &b"frame with spaces"[..])
        );
        assert!(read_kept(id, &Bytes::from_static(b"30 2 a.b")).is_none());
        assert!(read_kept(id, &Bytes::from_static(b"junk")).is_none());
    }
}
