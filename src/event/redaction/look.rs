//! What looks secret and what is known to be harmless: by the name of a key, and by the form of a text.

use serde_json::Value;

use super::Keep;

/// Stands in place of a secret.
pub const REDACTED: &str = "[redacted]";
/// How a text ends from which more was taken than a secret in it.
const REST: &str = "[redacted]";
/// The shortest start of a secret that is taken off the end of a reply that was cut there.
const START_CHARS_MIN: usize = 4;

/// Parts of keys whose values are secret, in lower case and without `_` and `-`.
const SECRET_PARTS: [&str; 17] = [
    "token",
    "otp",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "ticket",
    "privatemetadata",
    "unsafemetadata",
    "apikey",
    "privatekey",
    "authorization",
    "credential",
    "cookie",
    "signature",
    "nonce",
    "magiclink",
];
/// Keys that are secret as a whole.
const SECRET_KEYS: [&str; 2] = ["pin", "jwt"];
/// Codes that are no secrets; every other `code` and `…_code` may be a one-time code.
const PLAIN_CODES: [&str; 11] = [
    "country_code",
    "error_code",
    "status_code",
    "postal_code",
    "zip_code",
    "decline_code",
    "language_code",
    "currency_code",
    "reason_code",
    "area_code",
    "exit_code",
];
/// Keys of texts and numbers that are harmless in any event.
const HARMLESS_KEYS: [&str; 20] = [
    "id",
    "object",
    "type",
    "status",
    "slug",
    "name",
    "role",
    "first_name",
    "last_name",
    "username",
    "email",
    "email_address",
    "identifier",
    "phone_number",
    "client_ip",
    "user_agent",
    "provider",
    "strategy",
    "timestamp",
    "from_email_name",
];
/// Ends of such keys.
const HARMLESS_ENDS: [&str; 8] =
    ["_id", "_at", "_at_ms", "_email_address", "_phone_number", "_type", "_status", "_email_name"];
/// Ends of keys whose numbers are times and counts, whatever else the key says (`password_last_updated_at`).
const PLAIN_NUMBERS: [&str; 5] = ["_at", "_at_ms", "_count", "_remaining", "_seconds"];
/// How keys of Clerk and Svix, invitation tickets and common tokens begin.
const SECRET_STARTS: [&str; 7] = ["sk_live_", "sk_test_", "whsec_", "whsk_", "tkt_", "ghp_", "xoxb-"];

/// Whether a value is secret by its key.
pub(super) fn is_secret(keep: Keep, key: &str, value: &Value) -> bool {
    let is_secret_key = |key| is_secret_key(key) || keep != Keep::InReply && is_code(key);
    match value {
        Value::Null | Value::Bool(_) => false,
        Value::Number(_) => !PLAIN_NUMBERS.iter().any(|end| key.ends_with(end)) && is_secret_key(key),
        Value::String(_) | Value::Array(_) | Value::Object(_) => is_secret_key(key),
    }
}

fn is_secret_key(key: &str) -> bool {
    let bare: String = key.to_lowercase().chars().filter(|c| !matches!(c, '_' | '-')).collect();
    SECRET_KEYS.contains(&bare.as_str()) || SECRET_PARTS.iter().any(|part| bare.contains(part))
}

fn is_code(key: &str) -> bool {
    let lower = key.to_lowercase();
    let is_plain = PLAIN_CODES.contains(&lower.as_str());
    !is_plain && (lower.ends_with("code") || lower.ends_with("codes"))
}

/// Whether a text or a number under this key is harmless in an event of any kind.
pub(super) fn is_harmless(key: &str) -> bool {
    HARMLESS_KEYS.contains(&key) || HARMLESS_ENDS.iter().any(|end| key.ends_with(end))
}

/// At most `chars_max` characters of `text`, with a mark where that is not all.
pub(super) fn cut(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}{}", &text[..end], super::CUT),
        None => text.to_owned(),
    }
}

/// `text` without what is secret by its form: the query of an address and the login in it, signed tokens, keys.
pub(super) fn scrubbed(text: &str) -> String {
    let ends_word = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '`' | '(' | ')');
    text.split_inclusive(ends_word)
        .map(|piece| {
            let word = piece.strip_suffix(ends_word).unwrap_or(piece);
            format!("{}{}", scrubbed_word(word), &piece[word.len()..])
        })
        .collect()
}

fn scrubbed_word(word: &str) -> String {
    let ends_part = |c: char| matches!(c, '/' | '=' | '&' | '?' | '#' | ':' | ',' | ';');
    if word.split(ends_part).any(|part| is_signed_token(part) || is_key(part)) {
        return REDACTED.to_owned();
    }
    let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
    let (address, query) = match rest.find(['?', '#']) {
        Some(at) => (&rest[..at], format!("{}{REST}", &rest[at..=at])),
        None => (rest, String::new()),
    };
    let (authority, path) = address.split_at(address.find('/').unwrap_or(address.len()));
    let authority = match authority.rsplit_once('@') {
        Some((_, host)) => format!("{REDACTED}@{host}"),
        None => authority.to_owned(),
    };
    format!("{scheme}://{authority}{path}{query}")
}

/// A JSON Web Token: three parts in base64url, the first of which is an object (RFC 7519).
fn is_signed_token(part: &str) -> bool {
    let is_base64url = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    part.starts_with("eyJ") && part.split('.').count() == 3 && part.split('.').all(is_base64url)
}

fn is_key(part: &str) -> bool {
    SECRET_STARTS.iter().any(|start| part.starts_with(start))
}

/// `text` without `secrets`, as they are or as JSON writes them, without the start of one at its end (a reply is cut
/// somewhere), and without what is secret by its form or follows the name of a secret object.
pub(super) fn without_secrets(text: &str, secrets: &[String]) -> String {
    let mut text = text.to_owned();
    for secret in secrets {
        let quoted = serde_json::to_string(secret).unwrap_or_default();
        for form in [secret.as_str(), quoted.trim_matches('"')] {
            if text.contains(form) {
                text = text.replace(form, REDACTED);
            }
            if let Some(at) = start_at_end(&text, form) {
                text.replace_range(at.., REST);
            }
        }
    }
    // JSON that broke off cannot be read, so nothing tells where such an object ends.
    if serde_json::from_str::<serde::de::IgnoredAny>(&text).is_err() {
        let lower = text.to_ascii_lowercase();
        let names = ["private_metadata", "privatemetadata", "unsafe_metadata", "unsafemetadata"];
        if let Some(at) = names.iter().filter_map(|name| lower.find(name).map(|at| at + name.len())).min() {
            text.truncate(at);
            text.push_str(REST);
        }
    }
    scrubbed(&text)
}

/// Where the longest start of `secret` begins with which `text` ends.
fn start_at_end(text: &str, secret: &str) -> Option<usize> {
    let ends = secret.char_indices().map(|(at, _)| at).skip(START_CHARS_MIN);
    ends.filter(|end| text.ends_with(&secret[..*end])).max().map(|end| text.len() - end)
}
