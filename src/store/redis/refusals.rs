//! How a refused request is kept: as JSON in a list of the newest ones.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::store::StoreError;
use crate::store::ledger::{REFUSALS_KEPT, Refusal, cut};

use super::capped::Capped;
use super::core::Core;
use super::keys::Keys;
use super::link::Lane;
use super::reply;

/// A refusal as it is kept.
#[derive(Debug, Serialize, Deserialize)]
pub struct Kept {
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

impl Capped for Refusal {
    type Kept = Kept;
    const COUNTER: &'static str = "refusals";
    const KEPT: usize = REFUSALS_KEPT;

    fn key(keys: &Keys) -> Vec<u8> {
        keys.refusals()
    }

    fn keep(&self) -> Kept {
        Kept {
            at: self.at.as_ms(),
            source: self.source.as_ref().map(|source| source.as_str().to_owned()),
            status: self.status,
            code: cut(&self.code),
            cause: cut(&self.cause),
            remote: self.remote.as_deref().map(cut),
            svix_id: self.svix_id.as_deref().map(cut),
            user_agent: self.user_agent.as_deref().map(cut),
            body_bytes: self.body_bytes,
        }
    }

    fn read(kept: Kept) -> Self {
        Self {
            at: Timestamp::from_ms(kept.at),
            source: kept.source.and_then(|name| name.parse().ok()),
            status: kept.status,
            code: kept.code,
            cause: kept.cause,
            remote: kept.remote,
            svix_id: kept.svix_id,
            user_agent: kept.user_agent,
            body_bytes: kept.body_bytes,
        }
    }
}

/// Drops what was kept under these `svix-id`s.
///
/// # Errors
/// Where Redis cannot be reached.
pub async fn forget(core: &Core, svix_ids: &[String]) -> Result<(), StoreError> {
    let svix_ids: HashSet<String> = svix_ids.iter().map(|svix_id| cut(svix_id)).collect();
    let mut command = redis::cmd("LRANGE");
    command.arg(core.keys.refusals()).arg(0).arg(REFUSALS_KEPT);
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
