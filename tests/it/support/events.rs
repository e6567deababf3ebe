//! Events as a test needs them: really signed and really verified, because nothing else makes a `Verified`.

use std::time::Duration;

use bytes::Bytes;
use clerk_relay::clock::Timestamp;
use clerk_relay::event::SourceName;
use clerk_relay::secret::SigningSecret;
use clerk_relay::signature::{Received, Verified, sign, verify};
use hyper::HeaderMap;

/// The secret that tests sign with unless they say otherwise.
pub fn secret() -> SigningSecret {
    SigningSecret::from_key(b"a key for tests, 24 byte")
}

/// A body of this type about this user.
pub fn body(event_type: &str, subject: &str) -> String {
    format!(r#"{{"type":"{event_type}","data":{{"id":"{subject}","user_id":"{subject}"}}}}"#)
}

/// A verified event that came through `source` at `at`.
pub fn verified(source: &str, svix_id: &str, body: &str, at: Timestamp) -> Verified {
    verified_by(&secret(), source, svix_id, body, at)
}

/// The same, signed with `secret`.
pub fn verified_by(
    secret: &SigningSecret, source: &str, svix_id: &str, body: &str, at: Timestamp,
) -> Verified {
    let secrets = std::slice::from_ref(secret);
    let mut headers = HeaderMap::new();
    let signature = sign(secrets, svix_id, at, body.as_bytes());
    headers.insert("svix-id", svix_id.parse().unwrap());
    headers.insert("svix-timestamp", at.as_secs().to_string().parse().unwrap());
    headers.insert("svix-signature", signature.parse().unwrap());
    let source: SourceName = source.parse().unwrap();
    let body = Bytes::copy_from_slice(body.as_bytes());
    let received = Received { source: &source, headers: &headers, body, remote: None, at };
    verify(received, secrets, Duration::from_secs(300)).unwrap()
}
