//! The part of `check` that leaves the process: the store and the targets. A target gets one HEAD request, which no
//! app takes for an event; any answer to it shows that name, network and certificate are right.

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use reqwest::header::{DATE, HeaderMap, HeaderValue, USER_AGENT};

use crate::app::{self, Options};
use crate::cli::sample;
use crate::clock::{Clock, Timestamp};
use crate::config::{Config, RedisUrl, StoreUrl, Target};
use crate::delivery::send::Sender;
use crate::secret::SigningSecret;
use crate::signature::{Received, Verified, sign, verify};
use crate::store::ledger::{Ledger as _, RefusalQuery};
use crate::store::query::{Durability, EventLookup, EventRef};
use crate::store::redis;
use crate::store::sqlite::{self, OpenError, SqliteStore};
use crate::store::{Ingested, Store, StoreError};
use crate::telemetry::feed::Feed;

/// What is written to a store and read back.
const SAMPLE: &[u8] = br#"{"type":"user.created","data":{"id":"user_check"}}"#;
/// Verifying apps refuse what is more than 5 minutes off; from here on it is worth telling.
const CLOCK_OFFSET_MAX: Duration = Duration::from_secs(30);

/// What the tries came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The store and every target.
    Reached,
    /// At least one was not.
    NotReached,
}

/// Tries the store and each target in turn and prints what it finds.
pub async fn check(config: &Config) -> Verdict {
    let mut verdict = Verdict::Reached;
    let mut tell = |what: &str, result: anyhow::Result<String>| match result {
        Ok(facts) => anstream::println!("  ok      {what}: {facts}"),
        Err(error) => {
            verdict = Verdict::NotReached;
            anstream::println!("  failed  {what}: {error:#}");
        }
    };
    tell("store", store_round_trip(config).await);
    for target in &config.targets {
        tell(&format!("target {}", target.name), reach(target).await);
    }
    verdict
}

async fn store_round_trip(config: &Config) -> anyhow::Result<String> {
    match &config.store.url {
        StoreUrl::Sqlite(path) => sqlite_round_trip(config, path).await,
        StoreUrl::Redis(url) => redis_round_trip(config, url).await,
    }
}

/// Asks Redis for its settings and for the state of the store, without joining the relays that use it. Then one sample is
/// written beside the store, read back and removed again.
async fn redis_round_trip(config: &Config, url: &RedisUrl) -> anyhow::Result<String> {
    let options = app::redis_options(config, url.clone(), &Options::default(), &Feed::default());
    let overview = redis::look(&options).await?;
    let sample = verified_sample()?;
    let name = format!("check-{:08x}", rand::random::<u32>());
    let (store, closed) = redis::open_aside(options, &name).await?;
    let kept = write_and_read(&store, sample.clone()).await;
    let removed = store.remove(sample.event()).await;
    drop(store);
    closed.wait().await;
    let durability = kept?;
    removed.context("the sample could not be removed")?;
    Ok(format!(
        "{} events, {} of {} bytes; a sample beside them was written and read back, {}",
        overview.events,
        overview.size_bytes,
        overview.size_max_bytes,
        durability.as_str()
    ))
}

/// Opens the store as `run` would, goes once through the thread that writes, asks it for its state, and closes it. That
/// changes nothing in it, so one sample is written to a store of its own beside it, read back and removed again: a check
/// leaves nothing behind, least of all a file of the wrong user.
async fn sqlite_round_trip(config: &Config, path: &Path) -> anyhow::Result<String> {
    let there = if path.exists() {
        match sqlite::open(app::store_options(config, path.to_owned(), &Options::default())) {
            Err(OpenError::Locked(_)) => return Ok("in use by a relay that runs".to_owned()),
            Err(error) => return Err(error.into()),
            Ok((store, closed)) => {
                let facts = look(&store).await;
                drop(store);
                closed.wait().await;
                facts?
            }
        }
    } else {
        "none yet".to_owned()
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let scratch = tempfile::Builder::new().prefix(".clerk-relay-check-").tempdir_in(folder);
    let scratch =
        scratch.with_context(|| format!("nothing can be made in the folder {}", folder.display()))?;
    let options = app::store_options(config, scratch.path().join("relay.db"), &Options::default());
    let (store, closed) = sqlite::open(options)?;
    let kept = write_and_read(&store, verified_sample()?).await;
    drop(store);
    closed.wait().await;
    let durability = kept?;
    Ok(format!("{there}; a sample beside it was written and read back, {}", durability.as_str()))
}

async fn look(store: &SqliteStore) -> Result<String, StoreError> {
    store.refusals(RefusalQuery::Append(Vec::new())).await?; // an empty transaction
    let overview = store.overview().await?;
    Ok(format!("{} events, {} bytes", overview.events, overview.size_bytes))
}

async fn write_and_read(store: &dyn Store, sample: Verified) -> anyhow::Result<Durability> {
    let Ingested::New(id) = store.ingest(sample).await? else {
        bail!("an empty store knows the sample already");
    };
    let EventLookup::One(found) = store.event(EventRef::Id(id)).await? else {
        bail!("the sample was written but cannot be found");
    };
    ensure!(
        found.event.is_some_and(|event| *event.body == *SAMPLE),
        "the sample was not read back as written"
    );
    Ok(store.overview().await?.durability)
}

/// Only a signature makes an event that a store takes.
fn verified_sample() -> anyhow::Result<Verified> {
    let secrets = [SigningSecret::from_key(&rand::random::<[u8; 24]>())];
    let at = Clock::system().now();
    let id = sample::new_id(at);
    let mut headers = HeaderMap::new();
    headers.insert("svix-id", HeaderValue::from_str(&id)?);
    headers.insert("svix-timestamp", HeaderValue::from(at.as_secs()));
    headers.insert("svix-signature", HeaderValue::from_str(&sign(&secrets, &id, at, SAMPLE))?);
    let source = "check".parse()?;
    let body = Bytes::from_static(SAMPLE);
    let received = Received { source: &source, headers: &headers, body, remote: None, at };
    Ok(verify(received, &secrets, CLOCK_OFFSET_MAX)?)
}

async fn reach(target: &Target) -> anyhow::Result<String> {
    let sender = Sender::new(target)?; // the way of the deliveries, and no redirect followed
    let addresses = match (&target.proxy, target.url.host_str(), target.url.port_or_known_default()) {
        // A host in brackets is an address, and behind a proxy the name is the proxy's to resolve.
        (None, Some(host), Some(port)) if !host.starts_with('[') => {
            let found = tokio::time::timeout(target.timeout, tokio::net::lookup_host((host, port))).await;
            let found =
                found.context("DNS does not answer")?.with_context(|| format!("DNS does not know {host}"))?;
            match found.count() {
                1 => "1 address, ".into(),
                count => format!("{count} addresses, "),
            }
        }
        (Some(_), _, _) | (None, _, _) => String::new(),
    };
    let request = sender.client().head(target.url.clone()).timeout(target.timeout);
    let request = request.header(USER_AGENT, target.user_agent.clone());
    let response = request.send().await.map_err(without_url)?;
    let tls = if target.url.scheme() == "https" { "TLS ok, " } else { "" };
    let clock = clock_offset(response.headers(), Clock::system().now());
    Ok(format!("{addresses}{tls}HEAD answers {}{clock}", response.status()))
}

/// URLs may carry secrets; which target it was stands before the error already.
fn without_url(error: reqwest::Error) -> anyhow::Error {
    anyhow::Error::new(error.without_url())
}

/// How far the target's clock is from ours, where it tells and it matters. The header has whole seconds only.
fn clock_offset(headers: &HeaderMap, now: Timestamp) -> String {
    let told = headers
        .get(DATE)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| httpdate::parse_http_date(text).ok())
        .and_then(|date| date.duration_since(UNIX_EPOCH).ok());
    let Some(theirs) = told else { return String::new() };
    let theirs = Timestamp::from_ms(0).plus(theirs);
    let (offset, direction) =
        if now > theirs { (now.since(theirs), "behind ours") } else { (theirs.since(now), "ahead of ours") };
    if offset <= CLOCK_OFFSET_MAX {
        return ", clocks agree".into();
    }
    format!(", its clock is {} s {direction}: signatures may be refused as stale", offset.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_told_with_its_direction() {
        let mut headers = HeaderMap::new();
        let now = Timestamp::from_secs(784_111_777);
        assert_eq!(clock_offset(&headers, now), "");
        headers.insert(DATE, "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap());
        assert_eq!(clock_offset(&headers, now), ", clocks agree");
        let late = clock_offset(&headers, now.plus(Duration::from_secs(90)));
        assert!(late.contains("90 s behind ours"), "{late}");
        let early = clock_offset(&headers, now.minus(Duration::from_secs(90)));
        assert!(early.contains("90 s ahead of ours"), "{early}");
    }
}
