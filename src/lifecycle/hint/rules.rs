//! Which hint a reply or an error gives: the status, the headers that platforms mark their own answers with, and words
//! at the start of the reply. Pure; looks at nothing of the request but its address.
//!
//! Replies come from whoever answers at the target's address, so nothing here is believed beyond a hint for people.

use hyper::HeaderMap;
use url::{Host, Url};

use super::Hint;

/// A reply that is not 2xx.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'a> {
    /// The address that was asked.
    pub asked: &'a Url,
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// The start of its body.
    pub start: &'a [u8],
}

/// What kept a request from a reply, as far as it has a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No answer in time.
    Timeout,
    /// The name does not resolve.
    Dns,
    /// The host answered that nothing listens.
    Refused,
    /// The certificate's time is over or has not come.
    CertificateTime,
    /// Nobody who is trusted issued the certificate.
    CertificateIssuer,
    /// The certificate does not hold the host's name.
    CertificateName,
    /// What answered was not TLS.
    NotTls,
}

/// The hint of an error on the way to `asked`.
pub fn of_trouble(trouble: Trouble, asked: &Url) -> Hint {
    match trouble {
        Trouble::Timeout => Hint::Timeout,
        Trouble::Dns => Hint::Dns,
        Trouble::Refused if is_loopback(asked) => Hint::RefusedLocal,
        Trouble::Refused => Hint::Refused,
        Trouble::CertificateTime => Hint::TlsExpired,
        Trouble::CertificateIssuer => Hint::TlsUnknownIssuer,
        Trouble::CertificateName => Hint::TlsWrongName,
        Trouble::NotTls => Hint::SpeaksHttp,
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// The hint of a reply, where it gives its cause away. What is most certain is asked first: a platform's own mark, then
/// the words of the libraries that verify webhooks, then the status alone.
pub fn of_reply(reply: &Reply<'_>) -> Option<Hint> {
    let text = String::from_utf8_lossy(reply.start).to_lowercase();
    of_order(reply)
        .or_else(|| of_redirect(reply))
        .or_else(|| of_marks(reply, &text))
        .or_else(|| of_words(reply, &text))
        .or_else(|| of_guard(reply))
        .or_else(|| of_status(reply, &text))
}

impl Reply<'_> {
    /// The header as text; empty where it is absent.
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    fn is_page(&self, text: &str) -> bool {
        self.header("content-type").starts_with("text/html") || text.trim_start().starts_with('<')
    }
}

/// What the app orders outright (`delivery` obeys it).
fn of_order(reply: &Reply<'_>) -> Option<Hint> {
    if reply.status == 410 {
        return Some(Hint::Gone);
    }
    reply.header("webhook-delivery").trim().eq_ignore_ascii_case("abort-message").then_some(Hint::Aborted)
}

/// Where a redirect leads tells what it is for.
fn of_redirect(reply: &Reply<'_>) -> Option<Hint> {
    if !matches!(reply.status, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = reply.header("location");
    if location.is_empty() {
        return None;
    }
    let asked = reply.asked;
    let Ok(to) = asked.join(location) else { return Some(Hint::Redirect) };
    let (from_host, to_host) = (host(asked), host(&to));
    // Vercel Authentication sends visitors to vercel.com/sso-api.
    if to_host == "vercel.com" && (to.path().starts_with("/sso") || to.path().starts_with("/login")) {
        return Some(Hint::VercelProtection);
    }
    // @clerk/nextjs marks the redirects that clerkMiddleware makes (`redirectAdapter`).
    if is_sign_in(&to, &from_host) || reply.headers.contains_key("x-clerk-redirect-to") {
        return Some(Hint::RouteProtected);
    }
    let bare = |name: &str| name.strip_prefix("www.").unwrap_or(name).to_owned();
    let slashless = |url: &Url| url.path().trim_end_matches('/').to_owned();
    if from_host != to_host {
        let only_www = bare(&from_host) == bare(&to_host);
        return Some(if only_www { Hint::RedirectWww } else { Hint::Redirect });
    }
    if slashless(asked) != slashless(&to) {
        return Some(Hint::Redirect);
    }
    Some(match (asked.scheme(), to.scheme()) {
        ("http", "https") => Hint::RedirectHttps,
        (_, _) if asked.path() != to.path() => Hint::RedirectSlash,
        (_, _) => Hint::Redirect,
    })
}

fn host(url: &Url) -> String {
    url.host_str().unwrap_or_default().to_lowercase()
}

/// Whether an address is a page to sign in at: by its path, or because it is Clerk's (accounts.<domain>,
/// <name>.accounts.dev, clerk.<domain>), or an identity gateway's.
fn is_sign_in(to: &Url, from_host: &str) -> bool {
    const PATHS: [&str; 8] =
        ["sign-in", "signin", "sign_in", "sign-up", "login", "log-in", "sso-callback", "handshake"];
    let host = host(to);
    let clerks = host.ends_with(".accounts.dev") || host.ends_with(".cloudflareaccess.com");
    let elsewhere = host != from_host && (host.starts_with("accounts.") || host.starts_with("clerk."));
    let path = to
        .path_segments()
        .is_some_and(|mut parts| parts.any(|part| PATHS.contains(&part.to_lowercase().as_str())));
    clerks || elsewhere || path
}

/// Headers and cookies by which platforms mark answers that are theirs, not the app's.
fn of_marks(reply: &Reply<'_>, text: &str) -> Option<Hint> {
    // Vercel's firewall, Cloudflare's challenge pages, AWS WAF: each names its verdict in a header of its own
    // (developers.cloudflare.com, "Detect a challenge page response"; AWS WAF sends `challenge` or `captcha`).
    let blocked = |name| reply.headers.contains_key(name);
    if blocked("x-vercel-mitigated") || blocked("cf-mitigated") || blocked("x-amzn-waf-action") {
        return Some(Hint::BotProtection);
    }
    // Deployment protection is a 401 with the page "Authentication Required" and a nonce for Vercel's own sign-in.
    let mut cookies = reply.headers.get_all("set-cookie").iter();
    let nonce = cookies.any(|cookie| cookie.as_bytes().starts_with(b"_vercel_sso_nonce"));
    let walled = text.contains("vercel.com/sso-api")
        || (reply.header("server").eq_ignore_ascii_case("vercel")
            && text.contains("authentication required"));
    if matches!(reply.status, 401 | 403) && (nonce || walled) {
        return Some(Hint::VercelProtection);
    }
    // ngrok: 3200 the tunnel is offline, 8012 it cannot reach the app (ngrok.com/docs/errors).
    if matches!(reply.header("ngrok-error-code"), "ERR_NGROK_3200" | "ERR_NGROK_8012") {
        return Some(Hint::TunnelDown);
    }
    // Railway's edge answers so where no instance of the app does.
    if reply.header("x-railway-fallback") == "true" {
        return Some(Hint::AppDown);
    }
    // vercel.com/docs/errors
    match reply.header("x-vercel-error") {
        "FUNCTION_INVOCATION_FAILED" | "EDGE_FUNCTION_INVOCATION_FAILED" => Some(Hint::FunctionCrashed),
        "FUNCTION_INVOCATION_TIMEOUT" | "EDGE_FUNCTION_INVOCATION_TIMEOUT" => Some(Hint::Slow),
        "FUNCTION_THROTTLED" => Some(Hint::RateLimited),
        "FUNCTION_PAYLOAD_TOO_LARGE" => Some(Hint::BodyLimit),
        code if code.starts_with("DEPLOYMENT_") => Some(Hint::AppDown),
        _ => None,
    }
}

/// The words of what verifies webhooks, and of frameworks' checks before it.
fn of_words(reply: &Reply<'_>, text: &str) -> Option<Hint> {
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    // Django and Flask say "CSRF", Rails names its error, Laravel answers 419.
    let is_csrf = says(&["csrf", "invalidauthenticitytoken"]) && matches!(reply.status, 400 | 403 | 422);
    if is_csrf || reply.status == 419 {
        return Some(Hint::Csrf);
    }
    // Of svix, standardwebhooks and Clerk's verifyWebhook; the last also of the handlers in Clerk's guides.
    if says(&["timestamp too old", "timestamp too new"]) {
        return Some(Hint::Clock);
    }
    let asks_for_it = says(&["please add"]) && says(&["webhook_secret", "signing_secret"]);
    if asks_for_it || says(&["missing webhook signing secret"]) {
        return Some(Hint::SecretMissing);
    }
    if says(&[
        "missing required headers",
        "missing required webhook headers",
        "no svix headers",
        "missing svix",
    ]) {
        return Some(Hint::HeadersMissing);
    }
    if says(&["no matching signature", "error verifying webhook", "invalid signature headers"]) {
        return Some(Hint::Signature);
    }
    // nginx, Apache and Go, on plain HTTP to a TLS port.
    const PLAIN: [&str; 3] = [
        "plain http request was sent to https port",
        "speaking plain http to an ssl-enabled server",
        "sent an http request to an https server",
    ];
    if reply.status == 400 && says(&PLAIN) {
        return Some(Hint::SpeaksHttps);
    }
    // The handler's own words; a page's words may be about anything.
    let own = matches!(reply.status, 400 | 401 | 403) && !reply.is_page(text);
    let names_it = says(&["signature", "svix"]) || (says(&["webhook"]) && says(&["verif"]));
    (own && (names_it || says(&["occurred during verification", "occured during verification"])))
        .then_some(Hint::Signature)
}

/// Who asks for a sign-in or for credentials.
fn of_guard(reply: &Reply<'_>) -> Option<Hint> {
    // `auth.protect()` makes a 404 of what is no page request and says so in this header (@clerk/nextjs,
    // clerkMiddleware.ts, handleControlFlowErrors). A 404 without it may be the app's own.
    if reply.header("x-clerk-auth-reason").contains("protect-rewrite") {
        return Some(Hint::RouteProtected);
    }
    // A 401 or 403 under clerkMiddleware that says nothing of a signature: the app found nobody signed in.
    if matches!(reply.status, 401 | 403) && reply.header("x-clerk-auth-status") == "signed-out" {
        return Some(Hint::RouteProtected);
    }
    // RFC 9110, 11.6.1: whoever wants credentials names the scheme.
    (reply.status == 401 && reply.headers.contains_key("www-authenticate")).then_some(Hint::Credentials)
}

/// What a status alone says.
fn of_status(reply: &Reply<'_>, text: &str) -> Option<Hint> {
    match reply.status {
        404 => Some(Hint::Path),
        405 => Some(Hint::Method),
        408 | 504 => Some(Hint::Slow),
        413 => Some(Hint::BodyLimit),
        429 => Some(Hint::RateLimited),
        502 | 503 if is_gateways(reply, text) => Some(Hint::AppDown),
        // Cloudflare's own, about the origin behind it (its docs, "Cloudflare 5xx errors").
        521..=523 | 525 | 526 | 530 if reply.header("server") == "cloudflare" => Some(Hint::AppDown),
        524 if reply.header("server") == "cloudflare" => Some(Hint::Slow),
        _ => None,
    }
}

/// Whether a 502 or 503 is a proxy's or a platform's: a page, or the bare words of a load balancer (Envoy, Traefik, Go's
/// reverse proxies, and Caddy, which says nothing at all).
fn is_gateways(reply: &Reply<'_>, text: &str) -> bool {
    const WORDS: [&str; 5] = [
        "bad gateway",
        "service unavailable",
        "no available server",
        "no healthy upstream",
        "upstream connect error",
    ];
    let text = text.trim();
    reply.is_page(text)
        || WORDS.iter().any(|word| text.starts_with(word))
        || (text.is_empty() && reply.header("server").eq_ignore_ascii_case("caddy"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hint of a reply to `https://app.example/api/webhooks/clerk`; `head` is the status and then header lines.
    fn hint(head: &str, start: &str) -> Option<Hint> {
        hint_at("https://app.example/api/webhooks/clerk", head, start)
    }

    fn hint_at(asked: &str, head: &str, start: &str) -> Option<Hint> {
        let mut lines = head.split('\n');
        let status = lines.next().unwrap().parse().unwrap();
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            let name: hyper::header::HeaderName = name.parse().unwrap();
            headers.append(name, value.parse().unwrap());
        }
        let asked = asked.parse().unwrap();
        of_reply(&Reply { asked: &asked, status, headers: &headers, start: start.as_bytes() })
    }

    #[test]
    fn a_redirect_is_known_by_where_it_leads() {
        for (head, expected) in [
            ("307\nlocation: /sign-in?redirect_url=%2Fapi", Hint::RouteProtected),
            ("302\nlocation: https://app.example/login", Hint::RouteProtected),
            ("307\nlocation: https://accounts.app.example/sign-in", Hint::RouteProtected),
            ("307\nlocation: https://happy-cat-1.accounts.dev/sign-in", Hint::RouteProtected),
            ("307\nlocation: https://clerk.app.example/v1/client/handshake?x=1", Hint::RouteProtected),
            ("307\nlocation: /welcome\nx-clerk-redirect-to: true", Hint::RouteProtected),
            ("302\nlocation: https://vercel.com/sso-api?url=https%3A%2F%2Fapp", Hint::VercelProtection),
            ("301\nlocation: https://www.app.example/api/webhooks/clerk", Hint::RedirectWww),
            ("308\nlocation: /api/webhooks/clerk/", Hint::RedirectSlash),
            ("308\nlocation: /elsewhere", Hint::Redirect),
            ("301\nlocation: https://other.example/api/webhooks/clerk", Hint::Redirect),
            ("302\nlocation: http://[", Hint::Redirect),
        ] {
            assert_eq!(hint(head, ""), Some(expected), "{head}");
        }
        let plain = "http://www.app.example/hook/";
        for (location, expected) in [
            ("https://www.app.example/hook/", Hint::RedirectHttps),
            ("https://app.example/hook/", Hint::RedirectWww),
            ("http://www.app.example/hook", Hint::RedirectSlash),
        ] {
            let head = format!("301\nlocation: {location}");
            assert_eq!(hint_at(plain, &head, ""), Some(expected), "{location}");
        }
        assert_eq!(hint("304", ""), None);
        assert_eq!(hint("302", ""), None, "it leads nowhere");
    }

    #[test]
    fn a_platform_is_known_by_its_mark() {
        let wall = "<html><title>Authentication Required</title>";
        for (head, start, expected) in [
            ("401\nset-cookie: _vercel_sso_nonce=x; Path=/", wall, Hint::VercelProtection),
            ("401\nserver: Vercel", wall, Hint::VercelProtection),
            ("429\nx-vercel-mitigated: challenge", "", Hint::BotProtection),
            ("403\ncf-mitigated: challenge", "<html>", Hint::BotProtection),
            ("404\nngrok-error-code: ERR_NGROK_3200", "<html>", Hint::TunnelDown),
            ("502\nngrok-error-code: ERR_NGROK_8012", "<html>", Hint::TunnelDown),
            ("404\nx-railway-fallback: true", r#"{"message":"Application not found"}"#, Hint::AppDown),
            ("404\nx-vercel-error: DEPLOYMENT_NOT_FOUND", "", Hint::AppDown),
            ("404\nx-vercel-error: NOT_FOUND", "", Hint::Path),
            ("500\nx-vercel-error: FUNCTION_INVOCATION_FAILED", "", Hint::FunctionCrashed),
            ("504\nx-vercel-error: FUNCTION_INVOCATION_TIMEOUT", "", Hint::Slow),
            ("521\nserver: cloudflare", "<html>", Hint::AppDown),
            ("524\nserver: cloudflare", "<html>", Hint::Slow),
            (
                "404\nx-clerk-auth-status: signed-out\nx-clerk-auth-reason: protect-rewrite, x",
                "",
                Hint::RouteProtected,
            ),
            (
                "404\nx-clerk-auth-status: signed-out\nx-clerk-auth-reason: session-token-missing",
                "",
                Hint::Path,
            ),
            ("401\nx-clerk-auth-status: signed-out", r#"{"error":"Unauthorized"}"#, Hint::RouteProtected),
            ("401\nx-clerk-auth-status: signed-out", "invalid signature", Hint::Signature),
            ("401\nwww-authenticate: Basic realm=x", "", Hint::Credentials),
        ] {
            assert_eq!(hint(head, start), Some(expected), "{head}");
        }
    }

    #[test]
    fn what_verifies_webhooks_is_known_by_its_words() {
        for (status, start, expected) in [
            ("400", "Error verifying webhook", Hint::Signature),
            ("500", "WebhookVerificationError: No matching signature found", Hint::Signature),
            ("401", r#"{"error":"Invalid webhook signature"}"#, Hint::Signature),
            ("403", "webhook verification failed", Hint::Signature),
            ("400", "Error occured during verification", Hint::Signature),
            ("400", "Message timestamp too old", Hint::Clock),
            ("400", "Error occured -- no svix headers", Hint::HeadersMissing),
            ("400", "Missing required headers", Hint::HeadersMissing),
            ("500", "Missing webhook signing secret. Set the CLERK_…", Hint::SecretMissing),
            ("500", "Error: Please add CLERK_WEBHOOK_SIGNING_SECRET to .env", Hint::SecretMissing),
            ("403", "<h1>Forbidden</h1><p>CSRF verification failed.", Hint::Csrf),
            ("419", "<title>Page Expired", Hint::Csrf),
            ("400", "The plain HTTP request was sent to HTTPS port", Hint::SpeaksHttps),
        ] {
            assert_eq!(hint(status, start), Some(expected), "{status} {start}");
        }
    }

    #[test]
    fn a_status_alone_says_what_it_can_and_a_plain_failure_nothing() {
        for (status, start, expected) in [
            ("404", "", Some(Hint::Path)),
            ("405", "", Some(Hint::Method)),
            ("408", "", Some(Hint::Slow)),
            ("504", "<html>", Some(Hint::Slow)),
            ("410", "", Some(Hint::Gone)),
            ("500\nwebhook-delivery: abort-message", "", Some(Hint::Aborted)),
            ("413", "", Some(Hint::BodyLimit)),
            ("429", "", Some(Hint::RateLimited)),
            ("502", "<html><h1>502 Bad Gateway", Some(Hint::AppDown)),
            ("503", "no healthy upstream", Some(Hint::AppDown)),
            ("503", r#"{"error":"database is down"}"#, None),
            ("500", "Internal Server Error", None),
            ("500", "<html>", None),
            ("400", r#"{"error":"email verification failed"}"#, None),
            ("400", "<html>the artist's signature", None),
            ("401", "", None),
            ("521", "", None),
        ] {
            assert_eq!(hint(status, start), expected, "{status} {start}");
        }
    }

    #[test]
    fn a_refusal_on_this_machine_is_told_from_another() {
        for (url, expected) in [
            ("http://localhost:3000/", Hint::RefusedLocal),
            ("http://127.0.0.1:3000/", Hint::RefusedLocal),
            ("http://[::1]:3000/", Hint::RefusedLocal),
            ("http://app:3000/", Hint::Refused),
        ] {
            assert_eq!(of_trouble(Trouble::Refused, &url.parse().unwrap()), expected, "{url}");
        }
    }
}
