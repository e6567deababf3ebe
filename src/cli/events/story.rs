//! One event as a story for somebody who is on call: when it came, how late, what each target did with it, why, and
//! what happens next.

use std::fmt::Write as _;
use std::time::Duration;

use crate::cli::facts::{Attempt, Delivery, Event};
use crate::cli::moment;
use crate::cli::output::{BAD, FAINT, GOOD, SLOW, STRONG, clean, cut, size, style_of};
use crate::clock::Timestamp;

/// Shown of a reply; `--output json` has the rest.
const REPLY_CHARS: usize = 160;
/// An event that came later than this is remarked upon.
const LATE: Duration = Duration::from_secs(60);

// Writing into a String cannot fail, so what `write!` returns is dropped throughout.

/// The whole story.
pub fn of_event(event: &Event, now: Timestamp) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{STRONG}{}  {}{STRONG:#}", clean(&event.event_type), event.id);
    fact(&mut text, "about", &clean(event.subject.as_deref().unwrap_or("nobody known")));
    fact(&mut text, "svix-id", &clean(&event.svix_id));
    fact(&mut text, "accepted", &accepted(event, now));
    let secret = event.secret.as_ref().map(|id| format!(", signed with secret {id}")).unwrap_or_default();
    fact(&mut text, "source", &clean(&format!("{}{secret}", event.source)));
    if let Some(remote) = &event.remote {
        let agent = event.user_agent.as_ref().map(|agent| format!(", {agent}")).unwrap_or_default();
        fact(&mut text, "sender", &clean(&format!("{remote}{agent}")));
    }
    fact(&mut text, "body", &size(event.body_bytes));
    for delivery in &event.deliveries {
        text.push('\n');
        text.push_str(&of_delivery(delivery, &event.id, now));
    }
    if event.deliveries.is_empty() {
        let _ = writeln!(text, "\nno target: it is kept, and delivered nowhere");
    }
    payload(&mut text, event);
    text
}

fn fact(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "  {FAINT}{name:<9}{FAINT:#} {value}");
}

fn accepted(event: &Event, now: Timestamp) -> String {
    let Some(at) = moment::of_api(&event.accepted_at) else { return clean(&event.accepted_at) };
    let late = match event.late_ms.map(Duration::from_millis) {
        None => String::new(),
        Some(late) if late > LATE => {
            format!(", {SLOW}{} after Clerk made it{SLOW:#}", moment::short(late))
        }
        Some(late) => format!(", {} ms after Clerk made it", late.as_millis()),
    };
    format!("{} ({}){late}", moment::full(at), moment::relative(Some(at), now))
}

/// One target's part of it.
pub fn of_delivery(delivery: &Delivery, event_id: &str, now: Timestamp) -> String {
    let mut text = String::new();
    let style = style_of(&delivery.state);
    let reason = delivery.reason.as_ref().map(|reason| format!(": {}", clean(reason))).unwrap_or_default();
    let _ = writeln!(
        text,
        "{STRONG}→ {}{STRONG:#}  {style}{}{reason}{style:#}",
        clean(&delivery.target),
        delivery.state.replace('_', " ")
    );
    let left_out = delivery.attempts.saturating_sub(delivery.attempts_kept.len() as u32);
    if left_out > 0 {
        let _ = writeln!(text, "  {FAINT}{left_out} earlier attempts are not kept{FAINT:#}");
    }
    for attempt in &delivery.attempts_kept {
        of_attempt(&mut text, attempt);
    }
    if delivery.attempts_kept.is_empty() && delivery.attempts == 0 {
        let _ = writeln!(text, "  {FAINT}no attempt yet{FAINT:#}");
    }
    match (delivery.state.as_str(), delivery.due()) {
        ("waiting", Some(due)) => {
            let when = if due <= now { "now".to_owned() } else { moment::relative(Some(due), now) };
            let _ = writeln!(text, "  next attempt {when} ({})", moment::full(due));
        }
        ("dead", _) => {
            let target = &delivery.target;
            let _ = writeln!(text, "  retry it: clerk-relay deliveries retry {event_id} {target}");
        }
        _ => {}
    }
    text
}

fn of_attempt(text: &mut String, attempt: &Attempt) {
    let at = moment::of_api(&attempt.at).map_or_else(|| attempt.at.clone(), moment::full);
    let (style, what) = match (&attempt.error, attempt.status) {
        (None, Some(status)) => (GOOD, status.to_string()),
        (None, None) => (GOOD, "done".to_owned()),
        (Some(error), Some(status)) if error == "status" => (BAD, status.to_string()),
        (Some(error), Some(status)) => (BAD, format!("{status} {}", clean(error))),
        (Some(error), None) => (BAD, clean(error)),
    };
    let _ = writeln!(text, "  #{:<3} {at}  {style}{what}{style:#} in {} ms", attempt.number, attempt.took_ms);
    if let Some(hint) = &attempt.hint {
        let _ = writeln!(text, "       {SLOW}likely: {}{SLOW:#}", clean(hint.text()));
    }
    let reply = attempt.reply.as_deref().unwrap_or_default().trim();
    if !reply.is_empty() && attempt.error.is_some() {
        let _ = writeln!(text, "       {FAINT}it said: {}{FAINT:#}", cut(&clean(reply), REPLY_CHARS));
    }
}

fn payload(text: &mut String, event: &Event) {
    let note = match event.payload_state.as_deref() {
        None => return,
        Some("redacted") => "payload, what is secret in it left out (--reveal shows it)",
        Some("revealed") => "payload",
        Some("erased") => "the payload was erased",
        Some("unreadable") => "the payload cannot be read",
        Some("not_json") => "the payload is not JSON, and is only shown by --reveal",
        Some(other) => other,
    };
    let _ = writeln!(text, "\n{STRONG}{}{STRONG:#}", clean(note));
    if let Some(payload) = event.payload.as_ref().filter(|payload| !payload.is_null()) {
        let shown = serde_json::to_string_pretty(payload).unwrap_or_default(); // a Value always serializes
        for line in shown.lines() {
            let _ = writeln!(text, "{}", clean(line));
        }
    }
}
