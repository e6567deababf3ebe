//! Looking into a payload: finding an event by what it says, for somebody who has an e-mail address and no id. Reads any
//! JSON, relies on no shape, changes nothing, finds nothing that may not be seen.

use std::str::FromStr;

use serde_json::Value;

use super::redaction::redact_json;

/// The longest condition, in characters.
const CONDITION_CHARS_MAX: usize = 500;

/// A condition on a payload: `VALUE` (some text, number or truth value in it equals this) or `/POINTER=VALUE` (the one at
/// this JSON Pointer does, RFC 6901; a `*` stands for each element of an array). Letters' case does not matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadMatch {
    /// The parts of the pointer, unescaped; `None`: anywhere.
    path: Option<Vec<String>>,
    /// In lower case.
    value: String,
}

/// Text that is no condition on a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a condition is VALUE or /POINTER=VALUE (at most {CONDITION_CHARS_MAX} characters), such as \
     /data/email_addresses/*/email_address=jane@example.com"
)]
pub struct BadMatch;

impl FromStr for PayloadMatch {
    type Err = BadMatch;

    fn from_str(text: &str) -> Result<Self, BadMatch> {
        if text.is_empty() || text.chars().count() > CONDITION_CHARS_MAX {
            return Err(BadMatch);
        }
        let Some(pointer) = text.strip_prefix('/') else {
            return Ok(Self { path: None, value: text.to_lowercase() });
        };
        let (pointer, value) = pointer.split_once('=').ok_or(BadMatch)?;
        let path = pointer.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect();
        Ok(Self { path: Some(path), value: value.to_lowercase() })
    }
}

impl PayloadMatch {
    /// Whether `body` is JSON that fulfils the condition with what of it may be seen: else whoever may look, but not see
    /// a one-time code, could find it out by asking for one after the other.
    pub fn matches(&self, body: &[u8]) -> bool {
        if !self.may_match(body) {
            return false;
        }
        let Ok(payload) = serde_json::from_slice::<Value>(body) else { return false };
        let event_type = payload["type"].as_str().unwrap_or_default().to_owned();
        let payload = redact_json(&event_type, payload);
        match &self.path {
            Some(path) => self.at(&payload, path),
            None => self.anywhere(&payload),
        }
    }

    /// Whether the value's letters stand in the body: most bodies need not be parsed. Only where they must stand there as
    /// they are: a number may be written in another way, and so may text with escapes or beyond ASCII.
    fn may_match(&self, body: &[u8]) -> bool {
        let is_number = self.value.bytes().all(|byte| byte.is_ascii_digit() || b"+-.e".contains(&byte));
        let Ok(body) = str::from_utf8(body) else { return true };
        if is_number || !self.value.is_ascii() || !body.is_ascii() || body.contains('\\') {
            return true;
        }
        body.to_ascii_lowercase().contains(&self.value)
    }

    fn at(&self, value: &Value, path: &[String]) -> bool {
        let Some((part, rest)) = path.split_first() else { return self.equals(value) };
        match value {
            Value::Object(fields) => fields.get(part).is_some_and(|field| self.at(field, rest)),
            Value::Array(elements) if part == "*" => elements.iter().any(|element| self.at(element, rest)),
            Value::Array(elements) => part
                .parse::<usize>()
                .ok()
                .and_then(|index| elements.get(index))
                .is_some_and(|element| self.at(element, rest)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        }
    }

    fn anywhere(&self, value: &Value) -> bool {
        match value {
            Value::Object(fields) => fields.values().any(|field| self.anywhere(field)),
            Value::Array(elements) => elements.iter().any(|element| self.anywhere(element)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => self.equals(value),
        }
    }

    fn equals(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => text.to_lowercase() == self.value,
            Value::Null => self.value == "null",
            Value::Bool(truth) => self.value == if *truth { "true" } else { "false" },
            Value::Number(number) => number.to_string() == self.value,
            Value::Array(_) | Value::Object(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"data":{"id":"user_1","email_addresses":[{"email_address":"Jane@Example.com"}],
        "banned":false,"a/b":7},"type":"user.created"}"#;

    fn holds(condition: &str) -> bool {
        condition.parse::<PayloadMatch>().unwrap().matches(BODY)
    }

    #[test]
    fn a_value_is_found_anywhere_or_where_the_pointer_says() {
        for condition in [
            "jane@example.com",
            "/data/email_addresses/*/email_address=jane@EXAMPLE.com",
            "/data/email_addresses/0/email_address=jane@example.com",
            "/data/banned=false",
            "/data/a~1b=7",
            "user_1",
        ] {
            assert!(holds(condition), "{condition}");
        }
        for condition in
            ["jane", "/data/email_addresses/1/email_address=jane@example.com", "/data/id=user_2", "/data=x"]
        {
            assert!(!holds(condition), "{condition}");
        }
    }

    #[test]
    fn a_value_is_found_however_it_is_written() {
        for (body, condition) in [
            (r#"{"a":"jane\u0040example.com"}"#, "jane@example.com"),
            (r#"{"a":1e2}"#, "100.0"),
            ("{\"a\":\"\u{212a}ane\"}", "kane"), // the Kelvin sign, whose small letter is a k
            (r#"{"a":"","b":null}"#, "/a="),
            (r#"{"a":[{"b":"x"},{"b":"Y"}]}"#, "/a/*/b=y"),
        ] {
            // Of a type that is known, so that nothing of it is taken out.
            let body = body.replacen('{', r#"{"type":"user.created","#, 1);
            let wanted: PayloadMatch = condition.parse().unwrap();
            assert!(wanted.matches(body.as_bytes()), "{body} {condition}");
        }
        for body in ["no JSON, jane@example.com", r#"["jane@example.com.au"]"#, ""] {
            assert!(!"jane@example.com".parse::<PayloadMatch>().unwrap().matches(body.as_bytes()), "{body}");
        }
    }

    #[test]
    fn what_may_not_be_seen_is_not_found() {
        let body = br#"{"type":"sms.created","data":{"user_id":"user_1","to_phone_number":"+15550100",
            "message":"218804 is your code","data":{"otp_code":"218804"}}}"#;
        let finds = |condition: &str| condition.parse::<PayloadMatch>().unwrap().matches(body);
        assert!(finds("user_1") && finds("/data/to_phone_number=+15550100"));
        for condition in ["218804", "/data/data/otp_code=218804", "218804 is your code"] {
            assert!(!finds(condition), "{condition}");
        }
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        for text in ["", "/data/id", &"x".repeat(501)] {
            assert_eq!(text.parse::<PayloadMatch>(), Err(BadMatch));
        }
    }
}
