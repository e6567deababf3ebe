//! `/health/live` and `/health/ready` of the webhook listener, without a token and without details: is the process
//! there, and would an event that comes now be kept?

use http_body_util::Full;
use hyper::body::{Body, Bytes};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::answer;
use crate::store::readiness::Ready;

/// The answer to a probe. That the process serves is as good as ready to `/health/live`.
pub(super) fn answer<B: Body>(request: &Request<B>, ready: Ready) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return answer::only_get(request);
    }
    let mut response = Response::new(Full::from(ready.as_str()));
    *response.status_mut() = match ready {
        Ready::Yes | Ready::Degraded => StatusCode::OK,
        Ready::No => StatusCode::SERVICE_UNAVAILABLE,
    };
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
