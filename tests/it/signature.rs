//! Signatures and what is read from a body: known answers from published vectors, laws as properties, and the svix
//! crate as the second opinion.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clerk_relay::clock::Timestamp;
use clerk_relay::event::{Event, SourceName, frame, scan};
use clerk_relay::secret::{BadSecret, OddSecret, SigningSecret};
use clerk_relay::signature::{Received, Refused, Verified, sign, verify};
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use proptest::prelude::*;
use serde::Deserialize;

const TOLERANCE: Duration = Duration::from_secs(300);

#[derive(Deserialize)]
struct Fixtures {
    now: i64,
    public_vectors: Vec<Vector>,
    public_negative_signatures: Vec<Negative>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    secret: String,
    id: String,
    timestamp: String,
    body: Option<String>,
    body_repeat: Option<(String, usize)>,
    signature: String,
}

impl Vector {
    fn body(&self) -> Vec<u8> {
        match (&self.body, &self.body_repeat) {
            (Some(body), _) => body.clone().into_bytes(),
            (None, Some((text, times))) => text.repeat(*times).into_bytes(),
            (None, None) => panic!("{} has no body", self.name),
        }
    }

    fn at(&self) -> Timestamp {
        Timestamp::from_secs(self.timestamp.parse().unwrap())
    }
}

#[derive(Deserialize)]
struct Negative {
    signature: String,
    #[serde(rename = "where")]
    place: String,
}

#[derive(Deserialize)]
struct Case {
    group: String,
    name: String,
    secret: String,
    headers: Vec<(String, String)>,
    body_b64: String,
    relay: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Accept,
    Reject,
    RefuseAtStart,
    Either,
}

fn fixtures() -> Fixtures {
    serde_json::from_str(include_str!("../fixtures/signature-cases.json")).unwrap()
}

fn secret(text: &str) -> SigningSecret {
    SigningSecret::parse(text).unwrap().0
}

fn headers<N: AsRef<str>, V: AsRef<str>>(lines: &[(N, V)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name = HeaderName::from_bytes(name.as_ref().as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_bytes(value.as_ref().as_bytes()).unwrap());
    }
    headers
}

fn svix_headers(id: &str, timestamp: &str, signature: &str) -> HeaderMap {
    headers(&[("svix-id", id), ("svix-timestamp", timestamp), ("svix-signature", signature)])
}

fn check(
    headers: &HeaderMap, body: &[u8], secrets: &[SigningSecret], at: Timestamp,
) -> Result<Verified, Refused> {
    let source: SourceName = "clerk".parse().unwrap();
    let body = Bytes::copy_from_slice(body);
    verify(Received { source: &source, headers, body, remote: None, at }, secrets, TOLERANCE)
}

#[test]
fn the_published_vectors_are_signed_and_verified() {
    for vector in fixtures().public_vectors {
        let (key, body) = (secret(&vector.secret), vector.body());
        assert_eq!(
            sign(std::slice::from_ref(&key), &vector.id, vector.at(), &body),
            vector.signature,
            "{}",
            vector.name
        );
        let headers = svix_headers(&vector.id, &vector.timestamp, &vector.signature);
        let verified = check(&headers, &body, &[key], vector.at()).unwrap();
        assert_eq!(verified.event().body, body, "{}", vector.name);
    }
}

#[test]
fn the_published_wrong_signatures_are_refused() {
    let fixtures = fixtures();
    let vector = &fixtures.public_vectors[0];
    for negative in &fixtures.public_negative_signatures {
        let headers = svix_headers(&vector.id, &vector.timestamp, &negative.signature);
        let answer = check(&headers, &vector.body(), &[secret(&vector.secret)], vector.at());
        assert!(answer.is_err(), "{}: {}", negative.place, negative.signature);
    }
}

#[test]
fn every_edge_case_gets_its_verdict() {
    let fixtures = fixtures();
    let now = Timestamp::from_secs(fixtures.now);
    for case in &fixtures.cases {
        let body = STANDARD.decode(&case.body_b64).unwrap();
        let verdict = match SigningSecret::parse(&case.secret) {
            Err(_) => Verdict::RefuseAtStart,
            Ok((key, _)) => match check(&headers(&case.headers), &body, &[key], now) {
                Ok(_) => Verdict::Accept,
                Err(_) => Verdict::Reject,
            },
        };
        let expected = match (case.relay, case.secret.as_str()) {
            (Verdict::Either, _) => continue,
            (Verdict::Reject, "") => Verdict::RefuseAtStart, // earlier still
            (other, _) => other,
        };
        assert_eq!(verdict, expected, "{} / {}", case.group, case.name);
    }
}

#[test]
fn a_wrong_secret_says_what_is_wrong_and_an_odd_one_is_told() {
    let good = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let refused = |text: &str| SigningSecret::parse(text).unwrap_err();
    assert_eq!(refused(""), BadSecret::Empty);
    assert_eq!(refused("whsec_"), BadSecret::Empty);
    assert_eq!(refused(&format!("v1,whsec_{good}")), BadSecret::Versioned);
    assert_eq!(refused(&format!("whsec_whsec_{good}")), BadSecret::DoublePrefix);
    assert_eq!(refused("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2La-_Sw"), BadSecret::UrlSafe);
    assert_eq!(refused("whsk_AQID"), BadSecret::Asymmetric);
    assert_eq!(refused("whsec_${CLERK_SECRET}"), BadSecret::NotBase64);
    let odd = |text: &str| SigningSecret::parse(text).unwrap().1;
    assert_eq!(odd(&format!("whsec_{good}")), []);
    assert_eq!(odd(&format!("\"whsec_{good}\"\n")), [OddSecret::Trimmed]);
    assert_eq!(odd("whsec_AQ=="), [OddSecret::Size(1)]);
    assert_eq!(odd("whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGR=="), [OddSecret::StrayBits]);
}

#[test]
fn what_is_missing_is_named() {
    let missing = |lines: &[(&str, &str)]| match check(&headers(lines), b"{}", &[], Timestamp::from_ms(0)) {
        Err(Refused::MissingHeaders(names)) => names,
        other => panic!("{other:?}"),
    };
    assert_eq!(missing(&[]), ["svix-id", "svix-timestamp", "svix-signature"]);
    assert_eq!(missing(&[("svix-id", "a"), ("svix-signature", " \t")]), ["svix-timestamp", "svix-signature"]);
    let mixed = [("svix-id", "a"), ("webhook-timestamp", "1"), ("webhook-signature", "v1,")];
    assert_eq!(missing(&mixed), ["webhook-id"]);
}

#[test]
fn a_right_signature_is_told_from_a_wrong_clock() {
    let key = SigningSecret::from_key(b"0123456789abcdef01234567");
    let signed = Timestamp::from_secs(1_784_000_000);
    let headers =
        svix_headers("msg_1", "1784000000", &sign(std::slice::from_ref(&key), "msg_1", signed, b"{}"));
    let at = |seconds: i64| {
        check(&headers, b"{}", std::slice::from_ref(&key), Timestamp::from_secs(1_784_000_000 + seconds))
    };
    for within in [-300, 0, 300] {
        assert!(at(within).is_ok(), "{within} s");
    }
    for beyond in [-86_400, -301, 301, 86_400] {
        assert_eq!(at(beyond).unwrap_err(), Refused::Stale { skew_s: beyond });
    }
}

#[test]
fn any_secret_may_match_and_the_event_tells_which() {
    let keys: Vec<SigningSecret> = (0..3u8).map(|n| SigningSecret::from_key(&[n; 24])).collect();
    let now = Timestamp::from_secs(1_784_000_000);
    for key in &keys {
        let signature = sign(std::slice::from_ref(key), "msg_1", now, b"{}");
        let verified = check(&svix_headers("msg_1", "1784000000", &signature), b"{}", &keys, now).unwrap();
        assert_eq!(verified.event().secret_id, key.id());
    }
    let all = sign(&keys, "msg_1", now, b"{}");
    for key in keys {
        assert!(check(&svix_headers("msg_1", "1784000000", &all), b"{}", &[key], now).is_ok());
    }
}

#[test]
fn a_verified_event_carries_what_came_with_it() {
    let key = SigningSecret::from_key(&[7; 24]);
    let now = Timestamp::from_secs(1_784_000_000);
    let body = include_bytes!("../../src/cli/samples/session.created.json");
    let id = "msg_38bshCgZ8TdzfkM6DMeH2WDUwDH";
    let mut headers = svix_headers(id, "1784000000", &sign(std::slice::from_ref(&key), id, now, body));
    headers.insert("content-type", HeaderValue::from_static("application/json; charset=utf-8"));
    headers.insert("user-agent", HeaderValue::from_str(&"a".repeat(1000)).unwrap());
    let verified = check(&headers, body, &[key], now).unwrap();
    let event = verified.event();
    assert_eq!((&*event.svix_id, &*event.event_type), (id, "session.created"));
    assert!(event.subject.as_ref().is_some_and(|subject| subject.as_str().starts_with("user_")));
    assert!(event.instance_id.as_ref().is_some_and(|id| id.starts_with("ins_")));
    assert_eq!(event.content_type.as_deref(), Some("application/json; charset=utf-8"));
    assert_eq!(event.user_agent.as_ref().map(|text| text.len()), Some(200));
    assert_eq!((event.signed_at, event.received_at), (now, now));
    assert_eq!(event.born_at(), Timestamp::from_secs(1_769_079_721));
}

fn any_key() -> impl Strategy<Value = SigningSecret> {
    prop::collection::vec(any::<u8>(), 1..80).prop_map(|key| SigningSecret::from_key(&key))
}

fn any_id() -> impl Strategy<Value = String> {
    "[A-Za-z0-9_-]{1,128}"
}

fn any_body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..2000),
        any::<String>().prop_map(String::into_bytes),
        Just(include_bytes!("../../src/cli/samples/user.created.json").to_vec()),
    ]
}

/// Seconds since 1970 up to the year 2286, as long as today's.
fn any_second() -> impl Strategy<Value = i64> {
    1_000_000_000i64..9_999_999_999
}

proptest! {
    #[test]
    fn what_is_signed_verifies(key in any_key(), id in any_id(), at in any_second(), body in any_body()) {
        let now = Timestamp::from_secs(at);
        let signature = sign(std::slice::from_ref(&key), &id, now, &body);
        let verified = check(&svix_headers(&id, &at.to_string(), &signature), &body, &[key], now).unwrap();
        prop_assert_eq!(&verified.event().body, &body);
    }

    #[test]
    fn one_changed_bit_is_refused(
        key in any_key(), id in any_id(), at in any_second(), body in any_body(),
        part in 0usize..4, place in any::<prop::sample::Index>(), bit in 0u8..8,
    ) {
        let signature = sign(std::slice::from_ref(&key), &id, Timestamp::from_secs(at), &body);
        let mut parts = [id.into_bytes(), at.to_string().into_bytes(), signature.into_bytes(), body];
        prop_assume!(!parts[part].is_empty());
        let place = place.index(parts[part].len());
        parts[part][place] ^= 1 << bit;
        let mut headers = HeaderMap::new();
        for (name, value) in ["svix-id", "svix-timestamp", "svix-signature"].into_iter().zip(&parts) {
            let Ok(value) = HeaderValue::from_bytes(value) else { return Ok(()) }; // no HTTP server takes it
            headers.insert(name, value);
        }
        // At whatever time it claims, so that only the signature can refuse it.
        let claimed = std::str::from_utf8(&parts[1]).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(at);
        let answer = check(&headers, &parts[3], &[key], Timestamp::from_secs(claimed));
        prop_assert!(answer.is_err(), "part {} accepted with byte {} changed", part, place);
    }

    #[test]
    fn the_svix_crate_agrees(key in any_key(), id in any_id(), at in any_second(), body in any::<String>()) {
        let theirs = svix::webhooks::Webhook::new(key.expose()).unwrap();
        let now = Timestamp::from_secs(at);
        let ours = sign(std::slice::from_ref(&key), &id, now, body.as_bytes());
        prop_assert_eq!(&theirs.sign(&id, at, body.as_bytes()).unwrap(), &ours);
        let headers = svix_headers(&id, &at.to_string(), &ours);
        prop_assert!(theirs.verify_ignoring_timestamp(body.as_bytes(), &headers).is_ok());
        prop_assert!(check(&headers, body.as_bytes(), &[key], now).is_ok());
    }

    #[test]
    fn the_svix_crate_agrees_on_lists_of_tokens(
        key in any_key(), id in any_id(), at in any_second(), body in any::<String>(),
        picks in prop::collection::vec(0usize..9, 1..6), garbage in "[!-~]{0,60}",
    ) {
        let theirs = svix::webhooks::Webhook::new(key.expose()).unwrap();
        let now = Timestamp::from_secs(at);
        let good = sign(std::slice::from_ref(&key), &id, now, body.as_bytes());
        let mac = good.strip_prefix("v1,").unwrap();
        let tokens = [
            good.clone(), format!("v2,{mac}"), format!("v1a,{mac}"), format!("v1={mac}"), "v1,".to_owned(),
            format!("v1,{}", &mac[..8]), format!("V1,{mac}"), sign(&[SigningSecret::from_key(b"another")], &id, now, body.as_bytes()), garbage,
        ];
        let list: Vec<&str> = picks.iter().map(|&pick| tokens[pick].as_str()).collect();
        let Ok(value) = HeaderValue::from_str(&list.join(" ")) else { return Ok(()) };
        let mut headers = svix_headers(&id, &at.to_string(), "");
        headers.insert("svix-signature", value);
        let theirs = theirs.verify_ignoring_timestamp(body.as_bytes(), &headers).is_ok();
        let ours = check(&headers, body.as_bytes(), &[key], now).is_ok();
        prop_assert_eq!(theirs, ours, "{:?}", headers);
    }

    #[test]
    fn a_frame_reads_back(
        key in any_key(), id in any_id(), at in any_second(), body in any_body(),
        content_type in prop::option::of("[ -~]{1,50}"), user_agent in prop::option::of("[ -~]{1,300}"),
    ) {
        let mut headers = svix_headers(&id, &at.to_string(), &sign(std::slice::from_ref(&key), &id, Timestamp::from_secs(at), &body));
        for (name, value) in [("content-type", content_type), ("user-agent", user_agent)] {
            if let Some(value) = value {
                headers.insert(name, HeaderValue::from_str(&value).unwrap());
            }
        }
        let verified = check(&headers, &body, &[key], Timestamp::from_ms(at * 1000 + 123)).unwrap();
        let event: &Event = verified.event();
        let stored = Bytes::from(frame::encode(event));
        prop_assert_eq!(&frame::decode(&stored).unwrap(), event);
        prop_assert_eq!(frame::body(&stored).unwrap(), &event.body[..]);
    }

    #[test]
    fn no_bytes_make_reading_a_frame_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), valid_head in any::<bool>()) {
        let mut bytes = bytes;
        if valid_head && bytes.len() >= 5 {
            bytes[0] = 1;
            bytes[1..4].fill(0);
        }
        let _either = (frame::body(&bytes).is_some(), frame::decode(&Bytes::from(bytes)));
    }

    #[test]
    fn a_frame_cut_anywhere_is_an_error_or_a_shorter_body(place in any::<prop::sample::Index>()) {
        let key = SigningSecret::from_key(&[7; 24]);
        let now = Timestamp::from_secs(1_784_000_000);
        let body = include_bytes!("../../src/cli/samples/user.created.json");
        let signature = sign(std::slice::from_ref(&key), "msg_1", now, body);
        let verified = check(&svix_headers("msg_1", "1784000000", &signature), body, &[key], now).unwrap();
        let stored = Bytes::from(frame::encode(verified.event()));
        let cut = stored.slice(..place.index(stored.len()));
        if let Ok(event) = frame::decode(&cut) {
            prop_assert!(event.body.len() < body.len() && body.starts_with(&event.body));
        }
    }

    #[test]
    fn no_bytes_make_scanning_panic(body in any_body(), cut in any::<prop::sample::Index>(), flip in any::<prop::sample::Index>(), to in any::<u8>()) {
        let _facts = scan::scan(&body);
        let mut broken = body;
        if !broken.is_empty() {
            let at = flip.index(broken.len());
            broken[at] = to;
            let _facts = scan::scan(&broken);
            broken.truncate(cut.index(broken.len()));
            let _facts = scan::scan(&broken);
        }
    }
}
