//! `GET stream`: what happens, told live as server-sent events (HTML Living Standard, 9.2). A window on the feed: what a
//! listener is too slow for is lost to it, and it is told how much; what matters is in the store.
//!
//! Bounds: [`LISTENERS_MAX`] at a time; what is held for a slow one is the feed's, shared by all; one that reads nothing
//! at all ends with its connection's `idle_timeout`, and one that is gone is noticed by the second comment that is sent
//! to it. A stop ends every stream at once, so that draining does not wait for them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Shared;
use axum::http::{HeaderName, HeaderValue};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::{Stream, StreamExt as _, stream};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::asked::{self, Params};
use super::problem::{Problem, answers};
use crate::event::{SourceName, Subject, TargetName};
use crate::telemetry::feed::{Feed, Heard, Listener, News};

/// Listeners at a time: many more than people and dashboards, and half of the listener's connections.
pub const LISTENERS_MAX: usize = 64;

/// What every stream is made of.
#[derive(Clone)]
struct Streaming {
    feed: Feed,
    comment_every: Duration,
    /// A permit is held by each stream until its end.
    places: Arc<Semaphore>,
    /// Cancelled by `app`; ends every stream.
    stop: CancellationToken,
}

/// Nobody more can listen.
const FULL: Problem =
    Problem::Busy("too_many_listeners", "as many listen as can: end another stream, or try again later");

/// The route, for a router of any state; `stop` ends every stream.
pub fn routes<S>(feed: Feed, comment_every: Duration, stop: CancellationToken) -> OpenApiRouter<S>
where
    S: Clone + Send + Sync + 'static,
{
    let places = Arc::new(Semaphore::new(LISTENERS_MAX));
    OpenApiRouter::new().routes(routes!(listen)).with_state(Streaming { feed, comment_every, places, stop })
}

/// Parameters of `GET stream`: what all of it must have.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StreamParams {
    /// Through this source.
    #[param(pattern = "^[a-z0-9_-]{1,40}$")]
    source: Option<String>,
    /// To this target.
    #[param(pattern = "^[a-z0-9_-]{1,40}$")]
    target: Option<String>,
    /// Of this type.
    #[serde(rename = "type")]
    #[param(min_length = 1)]
    event_type: Option<String>,
    /// About this user or organization: its id, or an e-mail address.
    #[param(min_length = 1)]
    subject: Option<String>,
    /// Of this name, such as `event.received`.
    #[param(min_length = 1)]
    name: Option<String>,
}

/// Which news are told.
struct Wanted {
    source: Option<SourceName>,
    target: Option<TargetName>,
    event_type: Option<String>,
    subject: Option<Subject>,
    name: Option<String>,
}

impl StreamParams {
    fn read(self) -> Result<Wanted, Problem> {
        Ok(Wanted {
            source: asked::optional("source", self.source)?,
            target: asked::optional("target", self.target)?,
            event_type: asked::not_empty("type", self.event_type)?,
            subject: asked::subject(self.subject)?,
            name: asked::not_empty("name", self.name)?,
        })
    }
}

impl Wanted {
    fn covers(&self, news: &News) -> bool {
        let fits = |wanted: Option<&str>, has: Option<&str>| wanted.is_none() || wanted == has;
        fits(self.source.as_ref().map(SourceName::as_str), news.source.as_deref())
            && fits(self.target.as_ref().map(TargetName::as_str), news.target.as_deref())
            && fits(self.event_type.as_deref(), news.event_type.as_deref())
            && fits(self.subject.as_ref().map(Subject::as_str), news.subject.as_deref())
            && fits(self.name.as_deref(), Some(&news.name))
    }
}

/// What happens, live, as server-sent events
///
/// Each has the name of what happened and its facts as JSON, never a payload. An event `missed` tells how many were lost
/// because they were not read in time; a comment comes where nothing happens for 15 s.
#[utoipa::path(get, path = "/stream", tag = "relay", operation_id = "stream", params(StreamParams),
    responses((status = 200, description = "Events without end", body = String, content_type = "text/event-stream"),
        answers::Always))]
async fn listen(
    Shared(streaming): Shared<Streaming>, Params(params): Params<StreamParams>,
) -> Result<Response, Problem> {
    let wanted = params.read()?;
    let Streaming { feed, comment_every, places, stop } = streaming;
    let place = places.try_acquire_owned().map_err(|_| FULL)?;
    let told = told(wanted, feed.listen(), place).take_until(stop.cancelled_owned());
    let sse = Sse::new(told).keep_alive(KeepAlive::new().interval(comment_every));
    let mut response = sse.into_response();
    // nginx would hold lines back until its buffer is full.
    let unbuffered = (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response.headers_mut().insert(unbuffered.0, unbuffered.1);
    Ok(response)
}

/// What `listener` hears and `wanted` covers, for as long as it is polled. The place is given up with it.
fn told(
    wanted: Wanted, listener: Listener, place: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold((wanted, listener, place), |(wanted, mut listener, place)| async move {
        loop {
            let event = match listener.next().await? {
                Heard::News(news) if wanted.covers(&news) => of_news(&news),
                Heard::News(_) => continue,
                Heard::Missed(missed) => {
                    Event::default().event("missed").json_data(json!({ "missed": missed }))
                }
            };
            let Ok(event) = event else { continue }; // such JSON is always made
            return Some((Ok(event), (wanted, listener, place)));
        }
    })
}

fn of_news(news: &News) -> Result<Event, axum::Error> {
    // Another relay may have told it: a line break would end the field, and the library refuses it by a panic.
    let name = news.name.split(['\r', '\n']).next().unwrap_or_default();
    Event::default().event(name).json_data(news)
}
