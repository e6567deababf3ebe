//! Ingress: a webhook comes in, is checked, kept, and only then answered 2xx.
//!
//! The order of the checks is the order of their cost: path, method, sender's address, room, size while reading,
//! headers and signature, instance, drop filter, store. Every decision on a source's path is one log line; every one
//! that is not 2xx is also kept as a refusal with its likely cause.
//!
//! Knows the store port and nothing of how or when events are delivered. Bodies, secrets and signatures never reach a
//! log, a refusal or an answer.

mod answer;
mod cause;
mod gate;
mod health;
mod keep;
mod refusals;
mod report;
mod sender;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::config::{Limits, Source, Target};
use crate::http::{self, Arrival, Drained, body};
use crate::shutdown::Shutdown;
use crate::signature::{self, Received, Verified};
use crate::store::Store;
use crate::store::readiness::{Readiness, Ready};
use crate::telemetry::Telemetry;
use crate::telemetry::meters::SourceMeters;

pub use answer::NO_SUCH_PATH;

use answer::{Accepted, Refused};
use gate::Gate;
use report::Report;

/// The deadlines of ingress. Svix waits 15 s for an answer; each of these leaves room for it.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// A connection that is silent between two requests ends after this.
    pub idle: Duration,
    /// From a request's first byte to the last byte of its body.
    pub request: Duration,
    /// How long the store may take.
    pub store: Duration,
    /// From a request's first byte to its answer.
    pub answer: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(75), // longer than the 60 s after which usual proxies let go first
            request: Duration::from_secs(10), // a sender that needs longer for 1 MiB will not be served by waiting
            store: Duration::from_secs(8),    // a group commit takes milliseconds: by then something is wrong
            answer: Duration::from_secs(14),  // a second less than the sender waits
        }
    }
}

/// What ingress works with.
pub struct Deps {
    /// Each on a path of its own.
    pub sources: Vec<Arc<Source>>,
    /// Only to tell which events nobody wants.
    pub targets: Vec<Arc<Target>>,
    /// The bounds on what is under way.
    pub limits: Limits,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The deadlines.
    pub timing: Timing,
    /// Where events and refusals are kept.
    pub store: Arc<dyn Store>,
    /// Stamps events and judges timestamps.
    pub clock: Clock,
    /// Answers `/health/ready`, and is told of events that could not be stored.
    pub readiness: Arc<Readiness>,
    /// Where it tells what happens.
    pub telemetry: Telemetry,
}

/// Serves the sources and the health paths on `listener` until `shutdown.stop`, then answers what is under way.
pub async fn run(listener: TcpListener, deps: Deps, shutdown: Shutdown) -> Drained {
    let settings = http::Settings {
        connections: deps.limits.connections,
        idle_timeout: deps.timing.idle,
        request_deadline: deps.timing.request,
    };
    // Requests hold the near end, the keeper the far one: it ends by itself once the last request has ended. A task of
    // its own, so that whatever befalls it cannot end ingress.
    let (refusals, inbox) = refusals::channel();
    let keeper = tokio::spawn(refusals::run(
        inbox,
        Arc::clone(&deps.store),
        Arc::clone(&deps.telemetry.meters),
        shutdown.clone(),
    ));
    let ingress = Arc::new(Ingress::new(deps, refusals));
    let service = service_fn(move |request| {
        let ingress = Arc::clone(&ingress);
        async move { Ok::<_, Infallible>(ingress.answer(request).await) }
    });
    let drained = http::serve(listener, settings, shutdown, service).await;
    if let Err(error) = keeper.await {
        tracing::error!(error = %error, "refusals.keeper_failed");
    }
    drained
}

/// One request on a source's path, as far as it was read.
struct Call<'a> {
    source: &'a Source,
    meters: &'a SourceMeters,
    head: &'a Parts,
    sender: IpAddr,
    arrival: Arrival,
    /// How much of its body came.
    body_bytes: u64,
}

struct Ingress {
    by_path: HashMap<String, (Arc<Source>, Arc<SourceMeters>)>,
    sources: Vec<Arc<Source>>,
    trusted_proxies: Vec<IpNet>,
    timing: Timing,
    store: Arc<dyn Store>,
    clock: Clock,
    gate: Gate,
    readiness: Arc<Readiness>,
    report: Report,
}

impl Ingress {
    fn new(deps: Deps, refusals: refusals::Sender) -> Self {
        let entrance = |source: &Arc<Source>| {
            let meters = deps.telemetry.meters.source(&source.name);
            (source.path.clone(), (Arc::clone(source), meters))
        };
        Self {
            by_path: deps.sources.iter().map(entrance).collect(),
            sources: deps.sources,
            trusted_proxies: deps.trusted_proxies,
            timing: deps.timing,
            gate: Gate::new(deps.limits.in_flight, deps.limits.in_flight_bytes),
            readiness: deps.readiness,
            report: Report::new(deps.targets, deps.telemetry, deps.clock.clone(), refusals),
            store: deps.store,
            clock: deps.clock,
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        match (request.uri().path(), self.by_path.get(request.uri().path())) {
            (_, Some((source, meters))) => self.webhook(source, meters, request).await,
            ("/health/live", None) => health::answer(&request, Ready::Yes),
            ("/health/ready", None) => health::answer(&request, self.readiness.ask().await),
            (path, None) => {
                tracing::debug!(path, "no such path"); // scanners' noise: neither kept nor shown
                answer::not_found(&request)
            }
        }
    }

    async fn webhook(
        &self, source: &Source, meters: &SourceMeters, request: Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let arrival = *head.extensions.get::<Arrival>().expect("the plumbing puts it into every request");
        let sender = sender::of(arrival.peer.ip(), &head.headers, &self.trusted_proxies);
        let mut call = Call { source, meters, head: &head, sender, arrival, body_bytes: 0 };
        let is_bodiless = body.is_end_stream();
        match self.accept(&mut call, body).await {
            Ok(accepted) => {
                self.report.accepted(&call, &accepted);
                answer::accepted(&accepted)
            }
            Err(refused) => {
                self.report.refused(&call, &refused);
                answer::refused(
                    &refused,
                    if is_bodiless { answer::Unread::Nothing } else { refused.unread() },
                )
            }
        }
    }

    async fn accept(&self, call: &mut Call<'_>, body: Incoming) -> Result<Accepted, Refused> {
        must_be_post(call)?;
        must_be_allowed(call)?;
        let mut place = self.gate.enter(bytes_expected(&body, call.source.body_max))?;
        let body = self.read(call, body).await?;
        place.shrink_to(body.len());
        let verified = self.verify(call, &body)?;
        must_be_of_the_instance(call, &verified)?;
        if call.source.drop.matches(&verified.event().event_type) {
            return Ok(Accepted::dropped(verified.event()));
        }
        let deadline = (Instant::now() + self.timing.store).min(call.arrival.started + self.timing.answer);
        let kept = keep::keep(&*self.store, verified, call.source.on_replay, deadline).await;
        match &kept {
            Ok(_) => self.readiness.note_stored(),
            Err(_) => self.readiness.note_not_stored(),
        }
        kept
    }

    async fn read(&self, call: &mut Call<'_>, body: Incoming) -> Result<Bytes, Refused> {
        let read = body::read(body, call.source.body_max, call.arrival.started + self.timing.request).await;
        call.body_bytes = match &read {
            Ok(body) => body.len() as u64,
            Err(
                body::BodyError::TooLarge { bytes, .. }
                | body::BodyError::TooSlow { bytes }
                | body::BodyError::Broken { bytes, .. },
            ) => *bytes,
        };
        Ok(read?)
    }

    fn verify(&self, call: &Call<'_>, body: &Bytes) -> Result<Verified, Refused> {
        let received = Received {
            source: &call.source.name,
            headers: &call.head.headers,
            body: body.clone(),
            remote: Some(call.sender),
            at: self.clock.now(),
        };
        signature::verify(received, &call.source.signing_secrets, call.source.tolerance).map_err(|refused| {
            let meant_for = cause::other_source(call, &refused, body, &self.sources);
            Refused::Signature { refused, meant_for }
        })
    }
}

fn must_be_post(call: &Call<'_>) -> Result<(), Refused> {
    if call.head.method == Method::POST { Ok(()) } else { Err(Refused::Method) }
}

fn must_be_allowed(call: &Call<'_>) -> Result<(), Refused> {
    if call.source.allows(call.sender) { Ok(()) } else { Err(Refused::Sender) }
}

fn must_be_of_the_instance(call: &Call<'_>, verified: &Verified) -> Result<(), Refused> {
    let theirs = verified.event().instance_id.as_deref();
    match &call.source.instance_id {
        Some(ours) if theirs != Some(ours) => Err(Refused::Instance { theirs: theirs.map(str::to_owned) }),
        Some(_) | None => Ok(()),
    }
}

/// What a request may come to hold: the length it declares, or the largest that is taken.
fn bytes_expected(body: &Incoming, body_max: usize) -> usize {
    body.size_hint()
        .exact()
        .and_then(|bytes| usize::try_from(bytes).ok())
        .map_or(body_max, |bytes| bytes.min(body_max))
}
