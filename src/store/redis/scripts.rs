//! The scripts: every change of more than one key is one of these, atomic and safe to repeat. Their text stands in the
//! folder beside this file, each with a header that names its KEYS, ARGV, effect and results.

use super::link::Script;

/// All scripts of a store.
#[derive(Debug)]
pub struct Scripts {
    /// Keeps a batch of events.
    pub ingest: Script,
    /// Leases deliveries.
    pub claim: Script,
    /// Applies decided transitions.
    pub settle: Script,
    /// Renews a lease.
    pub beat: Script,
    /// Forgets a dead relay.
    pub bury: Script,
    /// Declares targets.
    pub declare: Script,
    /// Pauses, resumes, turns a breaker.
    pub control: Script,
    /// Ends an orphan.
    pub forget: Script,
    /// Retries, replays, cancels.
    pub redrive: Script,
    /// Makes lanes anew.
    pub adopt: Script,
    /// Removes what is old.
    pub sweep: Script,
    /// Counts what every target has.
    pub overview: Script,
    /// Appends to a capped list.
    pub append: Script,
    /// Makes and replaces jobs.
    pub jobs: Script,
    /// Goes down lists of events.
    pub listed: Script,
}

/// What a script may do when the server is at its memory limit.
#[derive(Clone, Copy)]
enum WhenFull {
    /// Nothing: it is refused whole.
    Refused,
    /// Go on: it finishes work or frees memory.
    Allowed,
}

macro_rules! script {
    ($name:literal, $when_full:expr) => {
        compose(include_str!(concat!("scripts/", $name, ".lua")), $when_full)
    };
}

impl Scripts {
    /// The scripts of this release.
    pub fn new() -> Self {
        use WhenFull::{Allowed, Refused};
        Self {
            ingest: script!("ingest", Refused),
            claim: script!("claim", Allowed),
            settle: script!("settle", Allowed),
            beat: script!("beat", Allowed),
            bury: script!("bury", Allowed),
            declare: script!("declare", Allowed),
            control: script!("control", Allowed),
            forget: script!("forget", Allowed),
            redrive: script!("redrive", Allowed),
            adopt: script!("adopt", Allowed),
            sweep: script!("sweep", Allowed),
            overview: script!("overview", Allowed),
            append: script!("append", Allowed),
            jobs: script!("jobs", Allowed),
            listed: script!("listed", Allowed),
        }
    }
}

/// The shebang makes the server hold the script to its flags and to its one hash slot.
fn compose(body: &str, when_full: WhenFull) -> Script {
    let shebang = match when_full {
        WhenFull::Refused => "#!lua",
        WhenFull::Allowed => "#!lua flags=allow-oom",
    };
    Script::new(format!("{shebang}\n{}{body}", include_str!("scripts/common.lua")))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_script_names_its_keys_arguments_and_results() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/redis/scripts");
        let mut checked = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            assert!(text.lines().count() <= 300, "{name} does not fit in the head");
            if name != "common" {
                assert!(text.starts_with(&format!("-- {name}: ")), "{name} does not say what it does");
                for word in ["-- KEYS  ", "-- ARGV  ", "-- Returns "] {
                    assert!(text.contains(&format!("\n{word}")), "{name} lacks {word}");
                }
            }
            checked += 1;
        }
        assert_eq!(checked, 16);
    }
}
