//! How a refused request is kept: as JSON in a list of the newest ones.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::store::ledger::{REFUSALS_KEPT, Refusal, cut};

use super::capped::Capped;
use super::keys::Keys;

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
