//! The text of one scalar → a value, or why it is none. Pure; knows no keys and no places.
//!
//! No error repeats the text: it may have come out of a variable.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytesize::ByteSize;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use ipnet::IpNet;
use jiff::SpanRelativeTo;
use url::Url;

use super::keys::{show, show_size};
use super::redis_url::BadRedisUrl;
use super::{Patterns, StoreUrl, TypeFilter};
use crate::event::TargetName;

/// The longest event type pattern, in characters; Clerk's longest type has 31.
const PATTERN_CHARS_MAX: usize = 128;

/// Why a text is not the value that it should be. Reads on after the key's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadValue {
    /// Empty text.
    #[error("has no value")]
    Empty,
    /// No duration at all.
    #[error("is not a duration such as `5m` or `1m 30s`")]
    NotADuration,
    /// A bare number.
    #[error("has no unit: a duration is written with one, such as `30s` or `5m`")]
    NoUnit,
    /// Months or years.
    #[error("is in months or years, whose length varies: write it in days or hours")]
    Calendar,
    /// Below zero.
    #[error("is negative")]
    Negative,
    /// Below the least that is allowed.
    #[error("is too small: the least is {0}")]
    TooSmall(String),
    /// Above the most that is allowed.
    #[error("is too large: the most is {0}")]
    TooLarge(String),
    /// No size at all.
    #[error("is not a size such as `1 MiB`")]
    NotASize,
    /// No whole number.
    #[error("is not a whole number")]
    NotWhole,
    /// No number.
    #[error("is not a number")]
    NotANumber,
    /// Not `IP:PORT`.
    #[error("is not an address with a port")]
    NotAnAddress,
    /// Not parsed as a URL.
    #[error("is not a URL: {0}")]
    NotAUrl(url::ParseError),
    /// Another scheme.
    #[error("is not an http or https URL")]
    NotHttp,
    /// No host.
    #[error("has no host")]
    NoHost,
    /// A port that nothing can listen on.
    #[error("has port 0, on which nothing listens")]
    PortZero,
    /// Neither an address nor a range.
    #[error("is neither an IP address nor a range such as 10.0.0.0/8")]
    NotANetwork,
    /// Not `/…`.
    #[error("does not begin with `/`")]
    NotAbsolute,
    /// Characters that a path does not have.
    #[error("has characters that the path of a URL cannot have")]
    NotAPath,
    /// `/health…`.
    #[error("is reserved: the relay answers `/health` itself")]
    ReservedPath,
    /// No pattern on event types.
    #[error("is not a pattern: types are letters, digits, `_`, `-` and dots; `*` stands for a part of one")]
    NotAPattern,
    /// `**`.
    #[error("has `**`: `*` alone matches every type, `user.*` every type of users")]
    DoubleStar,
    /// Not one of the words.
    #[error("is not one of the accepted words")]
    NotAChoice,
    /// Not 64 hex digits.
    #[error("is not a SHA-256 in hex")]
    NotASha256,
    /// Below [`TOKEN_CHARS_MIN`].
    #[error("is too short: a token has at least {TOKEN_CHARS_MIN} characters")]
    ShortToken,
    /// Characters that an `Authorization` header cannot carry.
    #[error("has characters that a bearer token cannot have: use letters, digits and `-._~+/=`")]
    NotAToken,
    /// A header value cannot hold it.
    #[error("has characters that a header cannot have")]
    NotAHeaderValue,
    /// Not `[a-z0-9_-]{1,40}`.
    #[error("is not a name")]
    NotAName,
    /// No address of a Redis store, although it begins like one.
    #[error(transparent)]
    Redis(#[from] BadRedisUrl),
    /// No store at all.
    #[error("does not name a store")]
    NotAStore,
    /// `sqlite://…`.
    #[error("is written with slashes that are not part of the path: it is `sqlite:PATH`")]
    StoreSlashes,
    /// `sqlite:…/`.
    #[error(
        "names a folder, by the `/` at its end; the relay keeps events in a file, such as `sqlite:/data/relay.db`"
    )]
    Folder,
    /// `:memory:` and the like.
    #[error("names a database in memory or with parameters; the relay keeps events in a plain file")]
    NotAFile,
}

/// The shortest admin token, in characters: one that can be guessed is worse than none.
pub const TOKEN_CHARS_MIN: usize = 16;

/// A duration such as `5m`, `1m 30s`, `500ms` or `7d` (a day has 24 hours); `0` needs no unit.
pub fn duration(text: &str) -> Result<Duration, BadValue> {
    let text = text.trim();
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if let Ok(number) = text.parse::<f64>() {
        return Err(if number < 0.0 { BadValue::Negative } else { BadValue::NoUnit });
    }
    let span: jiff::Span = text.parse().map_err(|_| BadValue::NotADuration)?;
    if span.is_negative() {
        return Err(BadValue::Negative);
    }
    let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| BadValue::Calendar)?;
    Duration::try_from(signed).map_err(|_| BadValue::NotADuration)
}

/// A duration from `min` to `max`.
pub fn duration_within(text: &str, min: Duration, max: Duration) -> Result<Duration, BadValue> {
    within(duration(text)?, min, max, |bound| show(*bound))
}

/// A size in bytes, such as `1 MiB` (2^20) or `1 MB` (10^6), from `min` to `max`.
pub fn size_within(text: &str, min: u64, max: u64) -> Result<u64, BadValue> {
    let text = text.trim();
    if text.starts_with('-') {
        return Err(BadValue::Negative);
    }
    let size: ByteSize = text.parse().map_err(|_| BadValue::NotASize)?;
    within(size.as_u64(), min, max, |&bound| show_size(bound))
}

/// A whole number from `min` to `max`.
pub fn count_within(text: &str, min: u64, max: u64) -> Result<u64, BadValue> {
    let number: i128 = text.trim().parse().map_err(|_| BadValue::NotWhole)?;
    let number = u64::try_from(number)
        .map_err(|_| if number < 0 { BadValue::Negative } else { BadValue::TooLarge(max.to_string()) })?;
    within(number, min, max, ToString::to_string)
}

/// A finite number from `min` to `max`.
pub fn number_within(text: &str, min: f64, max: f64) -> Result<f64, BadValue> {
    let number: f64 = text.trim().parse().map_err(|_| BadValue::NotANumber)?;
    if !number.is_finite() {
        return Err(BadValue::NotANumber);
    }
    within(number, min, max, ToString::to_string)
}

fn within<T: PartialOrd>(value: T, min: T, max: T, shown: impl Fn(&T) -> String) -> Result<T, BadValue> {
    if value < min {
        return Err(BadValue::TooSmall(shown(&min)));
    }
    if value > max {
        return Err(BadValue::TooLarge(shown(&max)));
    }
    Ok(value)
}

/// `IP:PORT`, or `localhost:PORT`. Port 0 lets the system choose.
pub fn address(text: &str) -> Result<SocketAddr, BadValue> {
    let text = text.trim();
    if let Some(port) = text.strip_prefix("localhost:") {
        let port = port.parse().map_err(|_| BadValue::NotAnAddress)?;
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    text.parse().map_err(|_| BadValue::NotAnAddress)
}

/// An http or https URL with a host.
pub fn url(text: &str) -> Result<Url, BadValue> {
    let text = text.trim();
    // `localhost:3000` parses, as a URL of the scheme `localhost`.
    let Some((scheme, rest)) = text.split_once("://") else { return Err(BadValue::NotHttp) };
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return Err(BadValue::NotHttp);
    }
    // The URL standard skips further slashes and would take the first part of the path for the host.
    if rest.is_empty() || rest.starts_with(['/', '?', '#']) {
        return Err(BadValue::NoHost);
    }
    let url = Url::parse(text).map_err(BadValue::NotAUrl)?;
    match (url.host_str(), url.port()) {
        (None | Some(""), _) => Err(BadValue::NoHost),
        (Some(_), Some(0)) => Err(BadValue::PortZero),
        (Some(_), _) => Ok(url),
    }
}

/// The URL of a store.
pub fn store_url(text: &str) -> Result<StoreUrl, BadValue> {
    let text = text.trim();
    if text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("redis")) {
        return Ok(StoreUrl::Redis(text.parse()?));
    }
    match text.strip_prefix("sqlite:") {
        None | Some("") => Err(BadValue::NotAStore),
        Some(path) if path.starts_with("//") => Err(BadValue::StoreSlashes),
        Some(path) if path.starts_with(":memory:") || path.contains('?') => Err(BadValue::NotAFile),
        Some(path) if path.ends_with('/') => Err(BadValue::Folder),
        Some(path) => Ok(StoreUrl::Sqlite(path.into())),
    }
}

/// A name by the rule of sources and targets.
pub fn name(text: &str) -> Result<String, BadValue> {
    text.parse::<TargetName>().map(|_| text.to_owned()).map_err(|_| BadValue::NotAName)
}

/// An address range, or a single address.
pub fn network(text: &str) -> Result<IpNet, BadValue> {
    let text = text.trim();
    match text.parse::<IpAddr>() {
        Ok(ip) => Ok(IpNet::from(ip)),
        Err(_) => text.parse().map_err(|_| BadValue::NotANetwork),
    }
}

/// The path of a source.
pub fn path(text: &str) -> Result<String, BadValue> {
    let is_path_byte = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&b);
    if !text.starts_with('/') {
        return Err(BadValue::NotAbsolute);
    }
    let has_odd_part = text.contains("//") || text.split('/').any(|part| part == "." || part == "..");
    if !text.bytes().all(is_path_byte) || has_odd_part {
        return Err(BadValue::NotAPath);
    }
    if text == "/health" || text.starts_with("/health/") {
        return Err(BadValue::ReservedPath);
    }
    Ok(text.to_owned())
}

/// A pattern on event types, as it stands in the file.
pub fn pattern(text: &str) -> Result<String, BadValue> {
    let is_pattern_byte = |b: u8| b.is_ascii_alphanumeric() || b"_-.*".contains(&b);
    if text.contains("**") {
        return Err(BadValue::DoubleStar);
    }
    let is_pattern = (1..=PATTERN_CHARS_MAX).contains(&text.len())
        && text.bytes().all(is_pattern_byte)
        && text.split('.').all(|part| !part.is_empty());
    if is_pattern { Ok(text.to_owned()) } else { Err(BadValue::NotAPattern) }
}

/// The filter of several patterns, each checked by [`pattern`]; a `*` alone matches every type.
pub fn filter(patterns: &[String]) -> TypeFilter {
    if patterns.iter().any(|pattern| pattern == "*") {
        return TypeFilter::All;
    }
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        // Types are matched with `/` for `.`, because only a path separator stops a `*`.
        let glob = GlobBuilder::new(&pattern.replace('.', "/")).literal_separator(true).build();
        set.add(glob.expect("letters, digits, `_`, `-`, `/` and single `*` are a valid glob"));
    }
    let set: GlobSet = set.build().expect("valid globs of bounded length make a set");
    TypeFilter::Some(Patterns { texts: patterns.to_vec(), set })
}

/// Text that is not blank.
pub fn text(text: &str) -> Result<String, BadValue> {
    if text.trim().is_empty() { Err(BadValue::Empty) } else { Ok(text.trim().to_owned()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, secs) in
            [("5m", 300.0), ("1m 30s", 90.0), ("500ms", 0.5), ("7d", 604_800.0), ("0", 0.0), ("1.5h", 5400.0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs_f64(secs)), "{text}");
        }
        for (text, bad) in [
            ("30", BadValue::NoUnit),
            ("-5s", BadValue::Negative),
            ("5m ago", BadValue::Negative),
            ("-1", BadValue::Negative),
            ("1mo", BadValue::Calendar),
            ("5x", BadValue::NotADuration),
            ("", BadValue::NotADuration),
        ] {
            assert_eq!(duration(text), Err(bad), "{text}");
        }
    }

    #[test]
    fn sizes_and_numbers_have_bounds() {
        assert_eq!(size_within("1 MiB", 0, u64::MAX), Ok(1 << 20));
        assert_eq!(size_within("1MB", 0, u64::MAX), Ok(1_000_000));
        assert_eq!(size_within("1 GiB", 0, 1 << 20), Err(BadValue::TooLarge("1 MiB".into())));
        assert_eq!(count_within("0", 1, 9), Err(BadValue::TooSmall("1".into())));
        assert_eq!(count_within("99999999999999999999", 1, 9), Err(BadValue::TooLarge("9".into())));
        assert_eq!(count_within("1.5", 1, 9), Err(BadValue::NotWhole));
        assert_eq!(number_within("nan", 0.0, 1.0), Err(BadValue::NotANumber));
    }

    #[test]
    fn a_store_is_a_plain_file_or_a_redis() {
        assert_eq!(store_url("sqlite:a/relay.db"), Ok(StoreUrl::Sqlite("a/relay.db".into())));
        assert_eq!(store_url("sqlite:/data/"), Err(BadValue::Folder));
        assert_eq!(store_url("sqlite::memory:"), Err(BadValue::NotAFile));
        assert_eq!(store_url("sqlite:a.db?mode=ro"), Err(BadValue::NotAFile));
        assert!(matches!(store_url(" redis://localhost/1 "), Ok(StoreUrl::Redis(url)) if url.database == 1));
        assert_eq!(store_url("redis://"), Err(BadValue::Redis(BadRedisUrl::NoHost)));
        assert_eq!(store_url("valkey://localhost"), Err(BadValue::NotAStore));
        assert_eq!(store_url("sqlite:"), Err(BadValue::NotAStore));
    }

    #[test]
    fn a_url_has_a_scheme_and_a_host() {
        assert!(url("http://localhost:3000/api").is_ok());
        assert!(url("https://[::1]:3000").is_ok());
        assert_eq!(url("localhost:3000"), Err(BadValue::NotHttp));
        assert_eq!(url("ftp://x/"), Err(BadValue::NotHttp));
        assert_eq!(url("http:///api"), Err(BadValue::NoHost));
        assert_eq!(url("http://"), Err(BadValue::NoHost));
        assert_eq!(url("http://x:0/"), Err(BadValue::PortZero));
        assert!(matches!(url("http://x:99999"), Err(BadValue::NotAUrl(_))));
    }

    #[test]
    fn a_star_does_not_cross_a_dot() {
        let users = filter(&["user.*".into(), "*.pastDue".into()]);
        for wanted in ["user.created", "user.", "subscription.pastDue"] {
            assert!(users.matches(wanted), "{wanted}");
        }
        for other in ["user", "users.created", "user.a.b", "a.b.pastDue", "userx"] {
            assert!(!users.matches(other), "{other}");
        }
        assert!(filter(&["*".into()]).matches("a.b.c"));
        assert!(!filter(&[]).matches("user.created"));
    }

    #[test]
    fn a_path_is_absolute_and_not_the_relays_own() {
        assert!(path("/webhooks/clerk").is_ok() && path("/").is_ok() && path("/healthy").is_ok());
        assert_eq!(path("webhooks"), Err(BadValue::NotAbsolute));
        assert_eq!(path("/a?b"), Err(BadValue::NotAPath));
        assert_eq!(path("/a/../b"), Err(BadValue::NotAPath));
        assert_eq!(path("/health/live"), Err(BadValue::ReservedPath));
    }

    proptest! {
        #[test]
        fn every_accepted_pattern_makes_a_filter(text in "[a-z*._-]{1,20}") {
            if let Ok(pattern) = pattern(&text) {
                let literal = pattern.replace('*', "x");
                prop_assert!(filter(&[pattern]).matches(&literal));
            }
        }

        #[test]
        fn a_shown_duration_reads_back(ms in 0u64..100_000_000_000) {
            let value = Duration::from_millis(ms);
            prop_assert_eq!(duration(&show(value)), Ok(value));
        }
    }
}
