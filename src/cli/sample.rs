//! Signed samples of every Clerk event type, for `send` and `dev`. Signed by the svix crate, not by our own signer, so
//! that what the relay accepts here is what Svix' own library makes.

use anyhow::Context as _;
use include_dir::{Dir, include_dir};
use reqwest::{Client, RequestBuilder};
use svix::webhooks::Webhook;
use url::Url;

use crate::clock::Timestamp;
use crate::event::ksuid;
use crate::secret::SigningSecret;

/// One file per type, each in the form in which Clerk sends it.
static SAMPLES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/src/cli/samples");

/// Every type that there is a sample of, sorted.
pub fn types() -> Vec<&'static str> {
    let mut types: Vec<_> = SAMPLES.files().filter_map(|file| file.path().file_stem()?.to_str()).collect();
    types.sort_unstable();
    types
}

/// The body of the sample of `event_type`.
pub fn body(event_type: &str) -> Option<&'static str> {
    SAMPLES.get_file(format!("{event_type}.json"))?.contents_utf8()
}

/// A new `svix-id`, as Svix makes them.
pub fn new_id(now: Timestamp) -> String {
    ksuid::make(now, rand::random())
}

/// The request by which Clerk would deliver `body` to `url` now.
///
/// # Errors
/// Where the svix crate does not take the secret.
pub fn request(
    client: &Client, url: &Url, secret: &SigningSecret, id: &str, now: Timestamp, body: &str,
) -> anyhow::Result<RequestBuilder> {
    let signer = Webhook::new(secret.expose()).context("the svix crate does not take this secret")?;
    let signature =
        signer.sign(id, now.as_secs(), body.as_bytes()).context("the svix crate cannot sign this")?;
    Ok(client
        .post(url.clone())
        .header("content-type", "application/json")
        .header("user-agent", concat!("clerk-relay/", env!("CARGO_PKG_VERSION"), " (sample)"))
        .header("svix-id", id)
        .header("svix-timestamp", now.as_secs())
        .header("svix-signature", signature)
        .body(body.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::catalog::KNOWN_TYPES;
    use crate::event::scan::scan;

    #[test]
    fn every_known_type_has_a_sample_of_itself() {
        assert_eq!(types(), KNOWN_TYPES);
        for event_type in types() {
            let facts = scan(body(event_type).unwrap().as_bytes());
            assert_eq!(facts.event_type.as_deref(), Some(event_type));
            assert!(facts.subject.is_some(), "{event_type} is about nobody");
        }
    }
}
