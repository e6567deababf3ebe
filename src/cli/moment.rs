//! Times as people write them: `2h` ago, `yesterday 22:00`, RFC 3339. Without an offset they are local; what goes to the
//! relay is always UTC.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{ToSpan as _, Zoned};

use crate::clock::{Clock, Timestamp};
use crate::config::values;

/// Text that is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a time is a duration back from now (2h, 90m, 3d), a local time (22:00, `yesterday 22:00`, `2026-11-24 03:00`) or RFC 3339 (2026-11-24T03:00:00Z)"
)]
pub struct BadMoment;

/// The time that `text` means now, for clap.
///
/// # Errors
/// [`BadMoment`].
pub fn parse(text: &str) -> Result<Timestamp, BadMoment> {
    let now = local(Clock::system().now());
    read(text, &now).ok_or(BadMoment)
}

fn read(text: &str, now: &Zoned) -> Option<Timestamp> {
    let text = text.trim();
    let stamp = |time: jiff::Timestamp| Timestamp::from_ms(time.as_millisecond());
    if let Ok(back) = values::duration(text.strip_suffix(" ago").unwrap_or(text)) {
        return Some(stamp(now.timestamp()).minus(back));
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Some(stamp(time));
    }
    let zoned = |date: Date, time: Time| date.to_datetime(time).to_zoned(now.time_zone().clone()).ok();
    let (day, time) = text.split_once([' ', 'T']).unwrap_or((text, ""));
    let date = match day {
        "now" if time.is_empty() => return Some(stamp(now.timestamp())),
        "today" => Some(now.date()),
        "yesterday" => now.date().checked_sub(1.day()).ok(),
        day => day.parse::<Date>().ok(),
    };
    let Some(date) = date else {
        // A time of day alone is the last one that was.
        let today = zoned(now.date(), clock_time(text)?)?;
        let last = if today > *now { today.checked_sub(1.day()).ok()? } else { today };
        return Some(stamp(last.timestamp()));
    };
    let time = if time.is_empty() { Time::midnight() } else { clock_time(time.trim())? };
    Some(stamp(zoned(date, time)?.timestamp()))
}

/// `22:00` or `22:00:30`.
fn clock_time(text: &str) -> Option<Time> {
    text.contains(':').then(|| text.parse().ok()).flatten()
}

/// The instant with the date and time of this machine's place.
fn local(at: Timestamp) -> Zoned {
    let instant = jiff::Timestamp::from_millisecond(at.as_ms()).unwrap_or_default(); // only years nobody has
    instant.to_zoned(TimeZone::system())
}

/// The time that the API gave.
pub fn of_api(text: &str) -> Option<Timestamp> {
    let time: jiff::Timestamp = text.parse().ok()?;
    Some(Timestamp::from_ms(time.as_millisecond()))
}

/// Local date and time with its offset.
pub fn full(at: Timestamp) -> String {
    local(at).strftime("%Y-%m-%d %H:%M:%S %:z").to_string()
}

/// Local time of day.
pub fn of_day(at: Timestamp) -> String {
    local(at).strftime("%H:%M:%S").to_string()
}

/// How long ago, or in how long, in a few characters; an empty text for no time.
pub fn relative(at: Option<Timestamp>, now: Timestamp) -> String {
    match at {
        None => String::new(),
        Some(at) if at > now => format!("in {}", short(at.since(now))),
        Some(at) => format!("{} ago", short(now.since(at))),
    }
}

/// A duration in its largest whole unit, and in two below 10 hours.
pub fn short(length: Duration) -> String {
    let secs = length.as_secs();
    let mut text = String::new();
    let _ = match secs {
        0..60 => write!(text, "{secs}s"),
        60..3600 => write!(text, "{}m", secs / 60),
        3600..36_000 if secs % 3600 >= 60 => write!(text, "{}h{}m", secs / 3600, secs % 3600 / 60),
        3600..172_800 => write!(text, "{}h", secs / 3600),
        _ => write!(text, "{}d", secs / 86_400),
    }; // writing into a String cannot fail
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_mean_them() {
        let now: Zoned = "2026-11-24T03:00:00+01:00[+01:00]".parse().unwrap();
        for (text, meant) in [
            ("2h", "2026-11-24T00:00:00Z"),
            ("90m ago", "2026-11-24T00:30:00Z"),
            ("3d", "2026-11-21T02:00:00Z"),
            ("now", "2026-11-24T02:00:00Z"),
            ("2026-11-24T03:00Z", "2026-11-24T03:00:00Z"),
            ("2026-11-24T03:00:00.5+02:00", "2026-11-24T01:00:00.5Z"),
            ("2026-11-23 22:00", "2026-11-23T21:00:00Z"),
            ("2026-11-23T22:00", "2026-11-23T21:00:00Z"),
            ("2026-11-23", "2026-11-22T23:00:00Z"),
            ("yesterday 22:00", "2026-11-23T21:00:00Z"),
            ("yesterday", "2026-11-22T23:00:00Z"),
            ("today 01:30:15", "2026-11-24T00:30:15Z"),
            ("22:00", "2026-11-23T21:00:00Z"),
            ("02:00", "2026-11-24T01:00:00Z"),
        ] {
            assert_eq!(read(text, &now), of_api(meant), "{text}");
        }
        for text in ["", "soon", "12", "-2h", "2026-13-01", "25:00", "tomorrow", "yesterday 9"] {
            assert_eq!(read(text, &now), None, "{text}");
        }
    }

    #[test]
    fn a_length_is_a_few_characters() {
        for (secs, shown) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3_599, "59m"),
            (3_600, "1h"),
            (9_000, "2h30m"),
            (40_000, "11h"),
            (172_800, "2d"),
        ] {
            assert_eq!(short(Duration::from_secs(secs)), shown);
        }
        let now = Timestamp::from_secs(1_000);
        assert_eq!(relative(Some(Timestamp::from_secs(1_090)), now), "in 1m");
        assert_eq!(relative(Some(Timestamp::from_secs(940)), now), "1m ago");
        assert_eq!(relative(None, now), "");
    }
}
