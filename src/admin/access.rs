//! Who may use the admin API. With tokens: a bearer token, compared in constant time, whose scope covers the method.
//! Without: only this machine, and no page of another site through a browser on it (a loopback `Host`, no foreign
//! `Origin`).

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::Response;

use super::problem::Problem;
use crate::config::{AdminToken, Scope};

/// Who makes a request, for the log.
#[derive(Debug, Clone)]
pub struct Actor(String);

impl Actor {
    /// The token's name, or `local` where there are no tokens.
    pub fn name(&self) -> &str {
        &self.0
    }
}

impl<S: Sync> FromRequestParts<S> for Actor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_else(|| Self("local".to_owned())))
    }
}

/// Lets a request through to the API, or answers 401 or 403.
///
/// # Errors
/// The [`Problem`] to answer with.
pub async fn check(
    State(tokens): State<Arc<[AdminToken]>>, request: Request, next: Next,
) -> Result<Response, Problem> {
    let needed = needed(request.method());
    admit(&tokens, needed, request, next).await
}

/// The same for `/metrics`, which any token opens.
///
/// # Errors
/// The [`Problem`] to answer with.
pub async fn check_scrape(
    State(tokens): State<Arc<[AdminToken]>>, request: Request, next: Next,
) -> Result<Response, Problem> {
    admit(&tokens, Scope::Metrics, request, next).await
}

async fn admit(
    tokens: &[AdminToken], needed: Scope, mut request: Request, next: Next,
) -> Result<Response, Problem> {
    let headers = request.headers();
    if tokens.is_empty() {
        return if is_local(headers) { Ok(next.run(request).await) } else { Err(Problem::NotLocal) };
    }
    let token = bearer(headers).and_then(|text| tokens.iter().find(|token| token.digest.matches(text)));
    let token = token.ok_or(Problem::Unauthorized)?;
    if token.can < needed {
        return Err(Problem::ReadOnly);
    }
    let actor = Actor(token.name.clone());
    request.extensions_mut().insert(actor);
    Ok(next.run(request).await)
}

/// What a token must be allowed to do for a request with this method.
fn needed(method: &Method) -> Scope {
    if method == Method::GET || method == Method::HEAD { Scope::Read } else { Scope::Write }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

fn is_local(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text(header::HOST).is_some_and(is_loopback);
    let origin = text(header::ORIGIN)
        .is_none_or(|origin| origin.split_once("://").is_some_and(|(_, authority)| is_loopback(authority)));
    host && origin
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
}
