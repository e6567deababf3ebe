//! Redaction: of every sample payload nothing secret is left and everything else is; of other bodies nothing that could
//! be secret; and whatever comes in, what goes out is bounded.

use clerk_relay::event::catalog::KNOWN_TYPES;
use clerk_relay::event::redaction::{REDACTED, Redacted, RedactedReply, redact, redact_reply};
use proptest::prelude::*;
use serde_json::{Value, json};

/// The sample payload of this type.
fn sample(event_type: &str) -> Value {
    let path = format!("{}/src/cli/samples/{event_type}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn shown(event_type: &str, payload: &Value) -> Value {
    match redact(event_type, payload.to_string().as_bytes()) {
        Redacted::Json(value) => value,
        Redacted::NotJson => panic!("{event_type} is JSON"),
    }
}

fn is_message(event_type: &str) -> bool {
    event_type.starts_with("email.") || event_type.starts_with("sms.")
}

/// Every text and number of a payload with the keys that lead to it.
fn leaves(value: &Value, path: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, field)| leaves(field, &format!("{path}/{key}"), found));
        }
        Value::Array(elements) => {
            let element = |(index, element)| leaves(element, &format!("{path}/{index}"), found);
            elements.iter().enumerate().for_each(element);
        }
        Value::String(text) if !text.is_empty() => found.push((path.to_owned(), text.clone())),
        Value::Number(number) => found.push((path.to_owned(), number.to_string())),
        Value::String(_) | Value::Bool(_) | Value::Null => {}
    }
}

/// Whether what stands there is secret, by what Clerk's documentation says of the type.
fn is_secret(event_type: &str, path: &str) -> bool {
    let of_message =
        ["/data/body", "/data/body_plain", "/data/subject", "/data/message", "/data/data/otp_code"];
    path.contains("/private_metadata/")
        || path.contains("/unsafe_metadata/")
        || (is_message(event_type) && of_message.contains(&path))
        || (event_type.to_lowercase().contains("invitation.") && path == "/data/url")
}

#[test]
fn of_every_sample_the_secrets_go_and_of_known_types_the_rest_stays() {
    let mut secrets = 0;
    for event_type in KNOWN_TYPES {
        let payload = sample(event_type);
        let redacted = shown(event_type, &payload);
        let text = redacted.to_string();
        let mut found = Vec::new();
        leaves(&payload, "", &mut found);
        for (path, value) in found {
            let at = redacted.pointer(&path);
            if is_secret(event_type, &path) {
                secrets += 1;
                assert!(!text.contains(&value), "{event_type} {path}: {text}");
            } else if !is_message(event_type) && !value.contains('?') {
                assert_eq!(at, payload.pointer(&path), "{event_type} {path}");
            }
        }
        for code in ["604118", "218804", "tkt_"] {
            assert!(!text.contains(code), "{event_type}: {text}");
        }
    }
    assert!(secrets > 20, "only {secrets} secrets were looked for");
}

#[test]
fn of_messages_it_is_seen_whom_they_went_to() {
    for (event_type, stays) in [
        ("email.created", ["/data/to_email_address", "/data/email_address_id", "/data/slug", "/data/id"]),
        ("sms.created", ["/data/to_phone_number", "/data/user_id", "/data/status", "/instance_id"]),
    ] {
        let payload = sample(event_type);
        let redacted = shown(event_type, &payload);
        for path in stays {
            assert_eq!(redacted.pointer(path), payload.pointer(path), "{event_type} {path}");
        }
    }
}

#[test]
fn of_a_type_that_nobody_knows_only_what_is_harmless_stays() {
    let payload = json!({ "type": "magicLink.created", "data": {
        "id": "ml_1", "created_at": 1_784_106_240_055_u64, "sent": true, "email_address": "jane@example.com",
        "link": "https://app.example/enter/8x7c", "digits": 604_118, "parts": ["a", "b"], "more": { "text": "x" },
    } });
    insta::assert_snapshot!(shown("magicLink.created", &payload).to_string(), @r#"{"data":{"created_at":1784106240055,"digits":"[redacted]","email_address":"jane@example.com","id":"ml_1","link":"[redacted]","more":{"text":"[redacted]"},"parts":["[redacted]","[redacted]"],"sent":true},"type":"magicLink.created"}"#);
    assert_eq!(shown("unknown", &json!("604118")), json!(REDACTED));
}

#[test]
fn what_looks_secret_goes_wherever_it_stands() {
    let payload = json!({ "type": "user.updated", "data": {
        "public_metadata": {
            "apiKey": "k", "refresh_token": "t", "resetCode": "123456", "totp_secret": ["a"], "pin": 1234,
            "site": "https://joe:pw@shop.example/path?ticket=abc#x",
            "bearer": "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "note": "key sk_live_abcdef, kept",
            "country_code": "NO", "plan": "team",
        },
        "password_enabled": true, "password_last_updated_at": 1_784_106_240_055_u64, "backup_codes": null,
        "verification": { "error": { "code": "expired", "long_message": "too late" } },
        "wallet": { "nonce": "n", "message": "sign n" },
    } });
    let redacted = shown("user.updated", &payload);
    insta::assert_snapshot!(serde_json::to_string_pretty(&redacted["data"]).unwrap(), @r#"
{
  "backup_codes": null,
  "password_enabled": true,
  "password_last_updated_at": 1784106240055,
  "public_metadata": {
    "apiKey": "[redacted]",
    "bearer": "Bearer [redacted]",
    "country_code": "NO",
    "note": "key [redacted] kept",
    "pin": "[redacted]",
    "plan": "team",
    "refresh_token": "[redacted]",
    "resetCode": "[redacted]",
    "site": "https://[redacted]@shop.example/path?[redacted]",
    "totp_secret": "[redacted]"
  },
  "verification": {
    "error": {
      "code": "expired",
      "long_message": "too late"
    }
  },
  "wallet": {
    "message": "[redacted]",
    "nonce": "[redacted]"
  }
}
"#);
}

#[test]
fn what_is_no_json_is_not_shown() {
    for body in [&b""[..], b"604118 is your code", b"\xff\xfe{}", b"{\"a\":1", b"{} {}"] {
        assert_eq!(redact("user.created", body), Redacted::NotJson);
    }
}

#[test]
fn a_reply_shows_nothing_of_what_it_repeats() {
    let body = sample("user.updated").to_string();
    let reply = |reply: &str| redact_reply("user.updated", Some(body.as_bytes()), reply.as_bytes());
    let text = |reply_text: &str| match reply(reply_text) {
        RedactedReply::Shown(text) => text,
        RedactedReply::Withheld => panic!("{reply_text} is withheld"),
    };
    assert_eq!(text("Internal Server Error"), "Internal Server Error");
    let plain = r#"{"error": {"code": "P2002",  "message": "Unique constraint"}}"#;
    assert_eq!(text(plain), plain, "as the app wrote it");
    for (echo, cut_at) in [(&body, body.len()), (&body, body.find("c_48213").unwrap() + 5)] {
        let shown = text(&echo[..cut_at]);
        assert!(!shown.contains("c_48") && shown.contains("maren.solberg@example.com"), "{shown}");
    }
    assert_eq!(text("no contact c_48213 here"), format!("no contact {REDACTED} here"));
    assert_eq!(text("it ends in c_482"), format!("it ends in {REDACTED}"));

    for event_type in ["email.created", "sms.created", "magicLink.created", "unknown"] {
        let withheld = redact_reply(event_type, Some(body.as_bytes()), b"got 604118");
        assert_eq!(withheld, RedactedReply::Withheld, "{event_type}");
        assert_eq!(redact_reply(event_type, None, b""), RedactedReply::Shown(String::new()));
    }
    assert_eq!(redact_reply("user.updated", None, b"x"), RedactedReply::Withheld, "the payload is erased");
    assert_eq!(redact_reply("user.updated", Some(b"no json"), b"x"), RedactedReply::Withheld);
}

#[test]
fn a_huge_payload_is_shown_in_part() {
    let long = "ä".repeat(5_000);
    let mut deep = json!("bottom");
    for _ in 0..100 {
        deep = json!({ "in": deep });
    }
    let many: Vec<u32> = (0..50_000).collect();
    for (payload, bytes_max) in [
        (json!({ "data": { "first_name": long } }), 2_200),
        (json!({ "data": deep }), 400),
        (json!({ "data": { "many": many } }), 40_000),
    ] {
        let text = shown("user.created", &payload).to_string();
        assert!(text.len() < bytes_max, "{} bytes", text.len());
    }
}

/// Any JSON that is not too deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        let key =
            prop_oneof!["[a-z_]{1,12}", Just("private_metadata".to_owned()), Just("otp_code".to_owned())];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_under_a_secret_key_is_seen_wherever_it_stands(
        around in any_json(), key in prop_oneof![Just("private_metadata"), Just("otp_code"), Just("api-token")],
        known in any::<bool>(),
    ) {
        let event_type = if known { "user.created" } else { "email.created" };
        let payload = json!({ "data": { "id": "user_1", "deep": [{ key: { "is": "SECRETSECRET" } }, around] } });
        let text = shown(event_type, &payload).to_string();
        prop_assert!(!text.contains("SECRETSECRET"), "{}", text);
        prop_assert!(text.contains("user_1"), "{}", text);
    }

    #[test]
    fn any_bytes_are_redacted_or_not_shown(body in prop::collection::vec(any::<u8>(), 0..200), reply in "\\PC{0,200}") {
        redact("user.created", &body);
        redact_reply("user.created", Some(&body), reply.as_bytes());
        redact_reply("user.created", Some(br#"{"private_metadata":{"a":"ab\"cdef","b":12345}}"#), reply.as_bytes());
    }
}
