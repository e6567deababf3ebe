//! Refused requests: the newest thousand, as JSON in a list.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::store::StoreError;
use crate::store::ledger::Refusal;
use crate::store::query::{Cursor, Page, Paged};

use super::core::Core;
use super::link::Lane;
use super::reply::{self, Odd};

/// Refusals kept, the newest.
const KEPT: usize = 1_000;
/// Characters kept of each text: it comes from whoever can reach us.
const TEXT_MAX: usize = 500;

/// A refusal as it is kept. Readers ignore what they do not know.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    number: u64,
    at: i64,
    source: Option<String>,
    status: u16,
    code: String,
    cause: String,
    remote: Option<String>,
    svix_id: Option<String>,
    user_agent: Option<String>,
    body_bytes: u64,
}

impl Kept {
    fn of(number: u64, refusal: &Refusal) -> Self {
        let cut = |text: &str| text.chars().take(TEXT_MAX).collect::<String>();
        Self {
            number,
            at: refusal.at.as_ms(),
            source: refusal.source.as_ref().map(|source| source.as_str().to_owned()),
            status: refusal.status,
            code: cut(&refusal.code),
            cause: cut(&refusal.cause),
            remote: refusal.remote.as_deref().map(cut),
            svix_id: refusal.svix_id.as_deref().map(cut),
            user_agent: refusal.user_agent.as_deref().map(cut),
            body_bytes: refusal.body_bytes,
        }
    }

    fn refusal(self) -> Refusal {
        Refusal {
            at: Timestamp::from_ms(self.at),
            source: self.source.and_then(|name| name.parse().ok()),
            status: self.status,
            code: self.code,
            cause: self.cause,
            remote: self.remote,
            svix_id: self.svix_id,
            user_agent: self.user_agent,
            body_bytes: self.body_bytes,
        }
    }
}

/// Appends refusals, oldest first, and drops the oldest ones beyond the cap.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn append(core: &Core, refusals: &[Refusal]) -> Result<(), StoreError> {
    let refusals = &refusals[refusals.len().saturating_sub(KEPT)..]; // the others would be dropped at once
    if refusals.is_empty() {
        return Ok(());
    }
    let mut command = redis::cmd("HINCRBY");
    command.arg(core.keys.meta()).arg("refusals").arg(refusals.len());
    let last: u64 = reply::number(core.link.command(Lane::Admin, &command).await?, "a number")?;
    let mut push = redis::cmd("LPUSH");
    push.arg(core.keys.refusals());
    for (back, refusal) in refusals.iter().enumerate() {
        let number = last - (refusals.len() - 1 - back) as u64;
        let text = serde_json::to_vec(&Kept::of(number, refusal)).map_err(|_| Odd("a refusal"))?;
        push.arg(text);
    }
    let mut pipeline = redis::pipe();
    pipeline.add_command(push);
    pipeline.cmd("LTRIM").arg(core.keys.refusals()).arg(0).arg(KEPT - 1);
    core.link.pipeline(Lane::Admin, &pipeline).await?;
    Ok(())
}

/// Drops what was kept under these `svix-id`s.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn forget(core: &Core, svix_ids: &[String]) -> Result<(), StoreError> {
    let svix_ids: HashSet<String> =
        svix_ids.iter().map(|svix_id| svix_id.chars().take(TEXT_MAX).collect()).collect();
    let mut command = redis::cmd("LRANGE");
    command.arg(core.keys.refusals()).arg(0).arg(KEPT - 1);
    let mut pipeline = redis::pipe();
    for text in reply::array(core.link.command(Lane::Admin, &command).await?, "refusals")? {
        let text = reply::bytes(text, "a refusal")?;
        let kept = serde_json::from_slice::<Kept>(&text);
        if kept.is_ok_and(|kept| kept.svix_id.is_some_and(|svix_id| svix_ids.contains(&svix_id))) {
            pipeline.cmd("LREM").arg(core.keys.refusals()).arg(0).arg(&text[..]);
        }
    }
    if !pipeline.is_empty() {
        core.link.pipeline(Lane::Admin, &pipeline).await?;
    }
    Ok(())
}

/// Refusals, newest first.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn list(core: &Core, page: &Page) -> Result<Paged<Refusal>, StoreError> {
    let below = match page.cursor() {
        None => u64::MAX,
        Some(Cursor::Number(number)) => *number,
        Some(Cursor::Event(_) | Cursor::Delivery(..)) => 0, // a cursor of another list
    };
    let mut command = redis::cmd("LRANGE");
    command.arg(core.keys.refusals()).arg(0).arg(KEPT - 1);
    let mut kept = Vec::new();
    for text in reply::array(core.link.command(Lane::Admin, &command).await?, "refusals")? {
        kept.extend(serde_json::from_slice::<Kept>(&reply::bytes(text, "a refusal")?));
    }
    // Relays that append at the same moment may mix their numbers.
    kept.sort_unstable_by_key(|one| std::cmp::Reverse(one.number));
    kept.retain(|one| one.number < below);
    let is_cut = kept.len() > page.rows_max() as usize;
    kept.truncate(page.rows_max() as usize);
    let next = kept.last().filter(|_| is_cut).map(|one| Cursor::Number(one.number));
    Ok(Paged { rows: kept.into_iter().map(Kept::refusal).collect(), next })
}
