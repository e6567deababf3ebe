//! Keeping events: one script for a batch, so that many share one fsync. Mark and event are one step.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::Value;

use crate::event::frame;
use crate::secret::SecretId;
use crate::signature::Verified;
use crate::store::{Duplicate, Ingested, Likeness, StoreError};

use super::batch::Bounds;
use super::codes::{self, arg};
use super::core::Core;
use super::link::{Lane, LinkError};
use super::reply::{self, Odd};

/// Two batches on their way: while one is written to disk, the other travels. 256 events share an fsync, and a script of
/// half a MiB holds the server up for about 3 ms.
pub const BOUNDS: Bounds = Bounds { batches_max: 2, members_max: 256, bytes_max: 512 * 1024 };

/// What Redis keeps beside a frame: its entry, its mark and its place in its subject's list, in bytes, roughly.
const OVERHEAD_BYTES: u64 = 500;

/// An event on its way to the log.
#[derive(Debug)]
pub struct Incoming {
    mark: Vec<u8>,
    list: Option<Vec<u8>>,
    of_source: Vec<u8>,
    of_type: Vec<u8>,
    source: String,
    secret: String,
    body_hash: String,
    kind: Arc<str>,
    lane: String,
    frame: Vec<u8>,
}

impl Incoming {
    /// The event in its stored form.
    pub fn new(core: &Core, event: &Verified) -> Self {
        let event = event.event();
        Self {
            mark: core.keys.mark(&event.source, &event.svix_id),
            list: event.subject.as_ref().map(|subject| core.keys.subject(subject.as_str())),
            of_source: core.keys.of_source(&event.source),
            of_type: core.keys.of_type(&event.event_type),
            source: event.source.as_str().to_owned(),
            secret: secret_text(event.secret_id),
            body_hash: format!("{:016x}", u64::from_be_bytes(event.body_hash.0)),
            kind: Arc::clone(&event.event_type),
            lane: codes::lane_text(event.subject.as_ref()),
            frame: frame::encode(event),
        }
    }

    /// Its size on the way.
    pub fn bytes(&self) -> usize {
        self.frame.len()
    }
}

fn secret_text(id: SecretId) -> String {
    format!("{:08x}", u32::from_be_bytes(id.0))
}

/// Keeps a batch; a result for each, in order.
pub async fn keep(core: Arc<Core>, batch: Vec<Incoming>) -> Vec<Result<Ingested, StoreError>> {
    let bytes = batch.iter().map(|one| one.frame.len() as u64 + OVERHEAD_BYTES).sum();
    match append_if_room(&core, &batch, bytes).await {
        Ok(results) => {
            if results.iter().any(|result| matches!(result, Ingested::New(_))) {
                core.ring();
            }
            results.into_iter().map(Ok).collect()
        }
        Err(StoreError::Full) => known_only(&core, &batch).await,
        Err(error) => core.for_each(error, batch.len()),
    }
}

async fn append_if_room(core: &Core, batch: &[Incoming], bytes: u64) -> Result<Vec<Ingested>, StoreError> {
    if !core.fullness.has_room(core, bytes).await {
        return Err(StoreError::Full);
    }
    let results = read(append(core, batch).await?, batch)?;
    core.assurance.vouch(core).await?;
    Ok(results)
}

async fn append(core: &Core, batch: &[Incoming]) -> Result<Value, LinkError> {
    let mut keys = vec![
        core.keys.log(),
        core.keys.meta(),
        core.keys.sources(),
        core.keys.bell(),
        core.keys.kept_frames(),
    ];
    let rules = &core.rules;
    let mut args = vec![
        arg(core.clock.offset_ms()),
        arg(rules.dedupe_ms),
        arg(rules.mark_life_ms),
        arg(rules.list_life_ms),
        arg(core.lease()),
        arg(batch.len()),
    ];
    let mut lists: Vec<&[u8]> = Vec::new(); // few: a batch has few types
    for one in batch {
        keys.extend([one.mark.clone(), one.list.as_ref().unwrap_or(&one.mark).clone()]);
        args.extend([
            arg(&one.source),
            arg(&one.secret),
            arg(&one.body_hash),
            arg(&one.kind),
            arg(&one.lane),
        ]);
        args.push(arg(u8::from(one.list.is_some())));
        args.extend([arg(place_of(&mut lists, &one.of_source)), arg(place_of(&mut lists, &one.of_type))]);
        args.push(one.frame.clone());
    }
    keys.extend(lists.into_iter().map(<[u8]>::to_vec));
    core.link.call_durably(Lane::Ingest, &core.scripts.ingest, &keys, &args).await
}

/// The place of `list` among `lists`, from 1 on, where it is put unless it is there.
fn place_of<'b>(lists: &mut Vec<&'b [u8]>, list: &'b [u8]) -> usize {
    let at = lists.iter().position(|one| *one == list).unwrap_or_else(|| {
        lists.push(list);
        lists.len() - 1
    });
    at + 1
}

fn read(reply: Value, batch: &[Incoming]) -> Result<Vec<Ingested>, Odd> {
    const WHAT: &str = "the result of an ingest";
    let results = reply::array(reply, WHAT)?;
    if results.len() != batch.len() {
        return Err(Odd(WHAT));
    }
    results.into_iter().zip(batch).map(|(result, one)| read_one(reply::array(result, WHAT)?, one)).collect()
}

fn read_one(result: Vec<Value>, one: &Incoming) -> Result<Ingested, Odd> {
    const WHAT: &str = "the result of an event's ingest";
    let mut values = result.into_iter();
    let mut next = || values.next().ok_or(Odd(WHAT)).and_then(|value| reply::bytes(value, WHAT));
    let what = next()?;
    let id = codes::from_hex(&next()?).ok_or(Odd(WHAT))?;
    if &*what == b"new" {
        return Ok(Ingested::New(id));
    }
    let age_ms = std::str::from_utf8(&next()?).ok().and_then(|text| text.parse().ok()).ok_or(Odd(WHAT))?;
    let (secret, body) = (next()?, next()?);
    Ok(Ingested::Duplicate(Duplicate {
        id,
        age: Duration::from_millis(age_ms),
        secret: likeness(&secret, &one.secret),
        body: likeness(&body, &one.body_hash),
    }))
}

fn likeness(kept: &Bytes, came: &str) -> Likeness {
    if **kept == *came.as_bytes() { Likeness::Same } else { Likeness::Different }
}

/// A full store keeps nothing new; but what is kept already costs nothing more, and its sender should stop sending it.
/// Where replicas must agree, that cannot be made sure without a write.
async fn known_only(core: &Core, batch: &[Incoming]) -> Vec<Result<Ingested, StoreError>> {
    let full = || batch.iter().map(|_| Err(StoreError::Full)).collect();
    if core.rules.wait_replicas > 0 {
        return full();
    }
    let mut command = redis::cmd("MGET");
    command.arg(batch.iter().map(|one| one.mark.as_slice()).collect::<Vec<_>>());
    let Ok(reply) = core.link.command(Lane::Ingest, &command).await else { return full() };
    let Ok(marks) = reply::array(reply, "marks") else { return full() };
    if let Err(error) = core.assurance.vouch(core).await {
        return core.for_each(error, batch.len());
    }
    let known = |(mark, one): (Value, &Incoming)| {
        let mark = reply::some_bytes(mark, "a mark").ok().flatten()?;
        read_mark(core, &mark, one)
    };
    marks.into_iter().zip(batch).map(|pair| known(pair).ok_or(StoreError::Full)).collect()
}

fn read_mark(core: &Core, mark: &Bytes, one: &Incoming) -> Option<Ingested> {
    let id = codes::from_hex(mark.get(..20)?)?;
    let now = core.clock.now();
    let age = now.since(codes::accepted_at(id));
    let later = mark.get(45..).and_then(|text| std::str::from_utf8(text).ok()?.parse::<i64>().ok());
    let is_alive = later.map_or(codes::millis(age) < core.rules.dedupe_ms, |until| until > now.as_ms());
    is_alive.then(|| {
        Ingested::Duplicate(Duplicate {
            id,
            age,
            secret: likeness(&mark.slice(20..28), &one.secret),
            body: likeness(&mark.slice(28..44), &one.body_hash),
        })
    })
}
