//! Every key in Redis, made in this one place. All of a store's keys share one hash tag, `{<store.prefix>}`, so that each
//! script is atomic over all that it needs, in a cluster too. Names of people's making stand last in a key, or are
//! checked names that cannot hold a `:`.

use crate::clock::Timestamp;
use crate::event::{SourceName, TargetName};

/// The keys of one store.
#[derive(Debug, Clone)]
pub struct Keys {
    tag: String,
}

/// The parts of a target's keys, in the order in which the scripts expect them (`target_at` in `common.lua`).
const TARGET_PARTS: [&str; 14] = [
    "own", "rec", "att", "act", "due", "died", "queued", "flying", "waiting", "parked", "dead", "lane",
    "lanefly", "lanepark",
];

/// What a key holds of a type at most, in bytes: Clerk's have some 30, but a type is whatever a signed body says.
const TYPE_BYTES_MAX: usize = 200;

impl Keys {
    /// The keys below `prefix`.
    pub fn new(prefix: &str) -> Self {
        Self { tag: format!("{{{prefix}}}") }
    }

    /// Keys of a store beside the one below `prefix`, in the same slot and under the same rights: for a check.
    pub fn aside(prefix: &str, name: &str) -> Self {
        Self { tag: format!("{{{prefix}}}:{name}") }
    }

    fn key(&self, rest: &str) -> Vec<u8> {
        format!("{}:{rest}", self.tag).into_bytes()
    }

    /// STREAM: the log. Fields `t` type, `s` lane text, `f` frame; a consumer group for each target.
    pub fn log(&self) -> Vec<u8> {
        self.key("ev")
    }

    /// HASH: form of the store, counts and revisions.
    pub fn meta(&self) -> Vec<u8> {
        self.key("meta")
    }

    /// HASH: event id → type, lane text and frame of what has left the log but is still needed.
    pub fn kept_frames(&self) -> Vec<u8> {
        self.key("fr")
    }

    /// ZSET: the ids of [`Keys::kept_frames`] by acceptance.
    pub fn kept_ids(&self) -> Vec<u8> {
        self.key("kept")
    }

    /// ZSET: lease → when it ends, by the server's clock.
    pub fn relays(&self) -> Vec<u8> {
        self.key("relays")
    }

    /// HASH: lease → the targets that its relay declares, each with the digest of its URL.
    pub fn declared(&self) -> Vec<u8> {
        self.key("declared")
    }

    /// SET: the names of all targets that ever were.
    pub fn targets(&self) -> Vec<u8> {
        self.key("targets")
    }

    /// SET: the names of all sources that ever were.
    pub fn sources(&self) -> Vec<u8> {
        self.key("sources")
    }

    /// LIST: the newest refusals, newest first.
    pub fn refusals(&self) -> Vec<u8> {
        self.key("refusals")
    }

    /// LIST: the newest audit entries, newest first.
    pub fn audit(&self) -> Vec<u8> {
        self.key("audit")
    }

    /// HASH: a job's number → its revision, when it was changed, its document.
    pub fn jobs(&self) -> Vec<u8> {
        self.key("jobs")
    }

    /// HASH: what was counted in the minute that begins then: whom and what → how many.
    pub fn tally(&self, minute: Timestamp) -> Vec<u8> {
        self.key(&format!("tally:{}", minute.as_ms()))
    }

    /// Channel: rung when there may be work, or a control changed.
    pub fn bell(&self) -> Vec<u8> {
        self.key("bell")
    }

    /// Channel: what relays tell live, in batches, while somebody listens.
    pub fn news(&self) -> Vec<u8> {
        self.key("news")
    }

    /// STRING: the event that a `svix-id` of a source was kept as, its secret and body hash.
    pub fn mark(&self, source: &SourceName, svix_id: &str) -> Vec<u8> {
        self.key(&format!("mark:{source}:{svix_id}"))
    }

    /// LIST: the ids of a subject's events, oldest first.
    pub fn subject(&self, subject: &str) -> Vec<u8> {
        self.key(&format!("sub:{subject}"))
    }

    /// LIST: the ids of the events that came through a source, oldest first.
    pub fn of_source(&self, source: &SourceName) -> Vec<u8> {
        self.key(&format!("src:{source}"))
    }

    /// LIST: the ids of the events of a type, oldest first; types that begin alike for very long share one.
    pub fn of_type(&self, event_type: &str) -> Vec<u8> {
        self.key(&format!("type:{}", &event_type[..event_type.floor_char_boundary(TYPE_BYTES_MAX)]))
    }

    /// One of a target's keys.
    pub fn of_target(&self, target: &TargetName, part: Part) -> Vec<u8> {
        self.key(&format!("t:{target}:{}", part.name()))
    }

    /// All of a target's keys, in the order of `target_at`.
    pub fn target(&self, target: &TargetName) -> impl Iterator<Item = Vec<u8>> {
        TARGET_PARTS.iter().map(move |part| self.key(&format!("t:{target}:{part}")))
    }
}

/// A part of what is kept for a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// HASH: standing, pause, ordering, cursor, breaker.
    Own,
    /// HASH: event id → record.
    Records,
    /// HASH: event id → attempts, where they are more than one success at once.
    Attempts,
    /// HASH: event id → `lease:number` of what is in flight with a record.
    Act,
    /// ZSET: dead ones by death.
    Died,
    /// ZSET by acceptance: records in the state of this name; so are the following.
    Queued,
    /// In flight.
    Flying,
    /// Waiting.
    Waiting,
    /// Parked.
    Parked,
    /// Dead.
    Dead,
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Records => "rec",
            Self::Attempts => "att",
            Self::Act => "act",
            Self::Died => "died",
            Self::Queued => "queued",
            Self::Flying => "flying",
            Self::Waiting => "waiting",
            Self::Parked => "parked",
            Self::Dead => "dead",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_names_its_own_key() {
        let (keys, app) = (Keys::new("relay"), "app".parse().unwrap());
        let all: Vec<Vec<u8>> = keys.target(&app).collect();
        assert_eq!(all.len(), 14);
        for part in [Part::Own, Part::Records, Part::Attempts, Part::Act, Part::Died, Part::Queued] {
            assert!(all.contains(&keys.of_target(&app, part)), "{part:?}");
        }
        assert_eq!(keys.of_target(&app, Part::Own), b"{relay}:t:app:own");
    }

    #[test]
    fn every_key_has_the_one_hash_tag() {
        let keys = Keys::new("tenant-7");
        let source = "clerk".parse().unwrap();
        let all = [keys.log(), keys.meta(), keys.mark(&source, "msg_}{"), keys.subject("user_{x}")];
        for key in all {
            assert!(key.starts_with(b"{tenant-7}:"), "{}", String::from_utf8_lossy(&key));
        }
    }
}
