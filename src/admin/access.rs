//! Who may use the admin API. With tokens: a bearer token, compared in constant time, whose scope covers the request.
//! Without: only this machine, and no page of another site through a browser on it (a loopback `Host`, no foreign
//! `Origin`). Knows nothing of what a request does beyond its method; a handler that needs more asks its [`Actor`].

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use tracing::info;

use super::problem::Problem;
use crate::config::{AdminToken, Scope};
use crate::http::Arrival;

/// Who makes a request, for the log and the audit, and what it may do.
#[derive(Debug, Clone)]
pub struct Actor {
    name: Arc<str>,
    can: Scope,
}

impl Actor {
    /// The token's name, or `local` where there are no tokens.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it may do what takes `scope`.
    pub fn may(&self, scope: Scope) -> bool {
        self.can >= scope
    }

    /// [`Problem::Forbidden`] unless it may change things and see payloads whole.
    pub fn must_write(&self) -> Result<(), Problem> {
        if self.may(Scope::Write) { Ok(()) } else { Err(Problem::Forbidden(Scope::Write)) }
    }
}

impl<S: Sync> FromRequestParts<S> for Actor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or(Problem::Unauthorized)
    }
}

/// Lets a request through to the API, or answers 401 or 403 and says so in the log.
///
/// # Errors
/// The [`Problem`] to answer with.
pub async fn check(
    State(tokens): State<Arc<[AdminToken]>>, request: Request, next: Next,
) -> Result<Response, Problem> {
    let scope = needed(request.method());
    checked(&tokens, scope, request, next).await
}

/// The same for `/metrics`, which any token opens.
///
/// # Errors
/// The [`Problem`] to answer with.
pub async fn check_scrape(
    State(tokens): State<Arc<[AdminToken]>>, request: Request, next: Next,
) -> Result<Response, Problem> {
    checked(&tokens, Scope::Metrics, request, next).await
}

async fn checked(
    tokens: &[AdminToken], scope: Scope, mut request: Request, next: Next,
) -> Result<Response, Problem> {
    match admit(tokens, scope, request.headers()) {
        Ok(actor) => {
            request.extensions_mut().insert(actor);
            Ok(next.run(request).await)
        }
        Err(problem) => {
            let remote = request.extensions().get::<Arrival>().map(|arrival| arrival.peer.ip().to_string());
            let (method, path) = (request.method(), request.uri().path());
            info!(remote, %method, path, reason = problem.code(), "admin.refused");
            Err(problem)
        }
    }
}

/// Who makes this request, where it may be made.
fn admit<'a>(tokens: &'a [AdminToken], scope: Scope, headers: &HeaderMap) -> Result<Actor, Problem> {
    if tokens.is_empty() {
        let local = Actor { name: "local".into(), can: Scope::Write };
        return if is_local(headers) { Ok(local) } else { Err(Problem::NotLocal) };
    }
    let text = bearer(headers).ok_or(Problem::Unauthorized)?;
    // All are compared, so that the time does not tell which one matched.
    let matching =
        |found, token: &'a AdminToken| if token.digest.matches(text) { Some(token) } else { found };
    let token = tokens.iter().fold(None, matching);
    let token = token.ok_or(Problem::Unauthorized)?;
    let actor = Actor { name: token.name.as_str().into(), can: token.can };
    if !actor.may(scope) {
        return Err(Problem::Forbidden(scope));
    }
    if scope == Scope::Write && !is_own_origin(headers) {
        return Err(Problem::ForeignOrigin);
    }
    Ok(actor)
}

/// What a token must be allowed to do for a request with this method.
fn needed(method: &Method) -> Scope {
    if method == Method::GET || method == Method::HEAD { Scope::Read } else { Scope::Write }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

/// The part of an origin that a `Host` has too; `null` has none.
fn authority(origin: &str) -> Option<&str> {
    origin.split_once("://").map(|(_, authority)| authority)
}

fn is_local(headers: &HeaderMap) -> bool {
    let host = text(headers, header::HOST).is_some_and(is_loopback);
    let origin =
        text(headers, header::ORIGIN).is_none_or(|origin| authority(origin).is_some_and(is_loopback));
    host && origin
}

/// Whether no browser sends this for a page that came from somewhere else.
fn is_own_origin(headers: &HeaderMap) -> bool {
    let host = text(headers, header::HOST);
    text(headers, header::ORIGIN)
        .is_none_or(|origin| authority(origin).is_some() && authority(origin) == host)
}

fn is_loopback(authority: &str) -> bool {
    match url::Url::parse(&format!("http://{authority}")).ok().as_ref().and_then(url::Url::host) {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_local() {
        for local in ["localhost", "localhost:8081", "127.0.0.1:8081", "127.9.9.9", "[::1]:8081"] {
            assert!(is_loopback(local), "{local}");
        }
        for foreign in
            ["", "evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "a@b"]
        {
            assert!(!is_loopback(foreign), "{foreign}");
        }
    }

    #[test]
    fn an_origin_is_own_where_it_is_the_host() {
        let is_own = |host: &str, origin: &str| {
            let headers = [(header::HOST, host), (header::ORIGIN, origin)];
            is_own_origin(&headers.into_iter().map(|(name, value)| (name, value.parse().unwrap())).collect())
        };
        assert!(is_own("relay.example:8081", "https://relay.example:8081"));
        for foreign in ["https://evil.example", "https://relay.example", "null", ""] {
            assert!(!is_own("relay.example:8081", foreign), "{foreign}");
        }
        assert!(is_own_origin(&HeaderMap::new()));
    }
}
