//! `breaker` of a target: `off`, or when it opens and how often it is probed.

use super::section;
use crate::config::keys::Section;
use crate::config::mistakes::Findings;
use crate::config::raw::Value;
use crate::config::read::{self, Fields};
use crate::lifecycle::breaker::BreakerPolicy;

/// The word that switches it off.
const OFF: &str = "off";

/// The policy of the target with these keys; `None` where it is switched off.
pub(super) fn read(target: &Fields<'_>, findings: &mut Findings) -> Option<BreakerPolicy> {
    if let Some(entry) = target.entry("breaker")
        && let Value::Scalar(text) | Value::Filled(text) = &entry.node.value
    {
        if text.trim() == OFF {
            return None;
        }
        let help = read::accepted(&target.key("breaker").kind);
        findings.mistake(entry.blame(), "`breaker` is neither `off` nor a mapping of keys", help);
        return Some(BreakerPolicy::default());
    }
    let breaker = section(target, "breaker", Section::Breaker, findings);
    let count = |name: &str, findings: &mut Findings| {
        breaker.count(name, findings).and_then(|count| u32::try_from(count).ok()).unwrap_or(1)
    };
    Some(BreakerPolicy {
        failures: count("failures", findings),
        window: count("window", findings) as usize,
        ratio: breaker.number("ratio", findings),
        probe_every: breaker.duration("probe_every", findings),
    })
}
