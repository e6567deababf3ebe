//! Lists of which only the newest entries are kept: refusals and the audit. Each entry is a JSON object that begins with
//! its number; a script gives the numbers, so that they stand in the list in their order, whoever appends.

use redis::Value;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::store::StoreError;
use crate::store::query::{Cursor, Page, Paged};

use super::codes::arg;
use super::core::Core;
use super::keys::Keys;
use super::link::Lane;
use super::reply::{self, Odd};

/// Entries read at once, some 0.3 MB.
const CHUNK: usize = 1_000;

/// What such a list keeps.
pub trait Capped: Sized {
    /// What is kept of an entry. Readers ignore what they do not know.
    type Kept: Serialize + DeserializeOwned + Send;
    /// The list's counter in the store's own hash.
    const COUNTER: &'static str;
    /// How many entries are kept.
    const KEPT: usize;

    /// The list's key.
    fn key(keys: &Keys) -> Vec<u8>;

    /// What is kept of this one.
    fn keep(&self) -> Self::Kept;

    /// The one that was kept so.
    fn read(kept: Self::Kept) -> Self;
}

#[derive(Deserialize)]
struct Numbered<K> {
    number: u64,
    #[serde(flatten)]
    kept: K,
}

/// Appends entries, oldest first, and drops the oldest ones beyond the cap.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn append<C: Capped + Sync>(core: &Core, entries: &[C]) -> Result<(), StoreError> {
    let entries = &entries[entries.len().saturating_sub(C::KEPT)..]; // the others would be dropped at once
    let keys = [core.keys.meta(), C::key(&core.keys)];
    for chunk in entries.chunks(CHUNK) {
        let mut args = vec![arg(C::COUNTER), arg(C::KEPT)];
        for entry in chunk {
            args.push(serde_json::to_vec(&entry.keep()).map_err(|_| Odd("an entry"))?);
        }
        core.link.call(Lane::Admin, &core.scripts.append, &keys, &args).await?;
    }
    Ok(())
}

/// Entries, newest first.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn list<C: Capped>(core: &Core, page: &Page) -> Result<Paged<C>, StoreError> {
    let below = match page.cursor() {
        None => u64::MAX,
        Some(Cursor::Number(number)) => *number,
        Some(Cursor::Event(_) | Cursor::Delivery(..)) => 0, // a cursor of another list
    };
    let rows_max = page.rows_max() as usize;
    let mut found: Vec<Numbered<C::Kept>> = Vec::new();
    for from in (0..C::KEPT).step_by(CHUNK) {
        let mut command = redis::cmd("LRANGE");
        command.arg(C::key(&core.keys)).arg(from).arg(from + CHUNK - 1);
        let chunk = reply::array(core.link.command(Lane::Admin, &command).await?, "entries")?;
        let is_last = chunk.len() < CHUNK;
        found.extend(read(chunk)?.into_iter().filter(|entry: &Numbered<C::Kept>| entry.number < below));
        // What is appended meanwhile pushes entries into the next chunk: they come twice, and none is missed.
        found.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.number));
        found.dedup_by_key(|entry| entry.number);
        if is_last || found.len() > rows_max {
            break;
        }
    }
    let is_cut = found.len() > rows_max;
    found.truncate(rows_max);
    let next = found.last().filter(|_| is_cut).map(|entry| Cursor::Number(entry.number));
    Ok(Paged { rows: found.into_iter().map(|entry| C::read(entry.kept)).collect(), next })
}

/// The entries of a chunk; one that this release cannot read is passed over.
fn read<K: DeserializeOwned>(chunk: Vec<Value>) -> Result<Vec<Numbered<K>>, Odd> {
    let mut found = Vec::with_capacity(chunk.len());
    for text in chunk {
        found.extend(serde_json::from_slice(&reply::bytes(text, "an entry")?));
    }
    Ok(found)
}
