//! What a failed attempt looks like, in words: the likely cause and what to do about it, for whoever is on call. Only
//! causes that a reply or an error really gives away; a plain 500 has no hint. The rules stand in the folder beside this
//! file; `docs/why.md` lists every hint, and a test compares the two.

mod rules;

pub use rules::{Reply, Trouble, of_reply, of_trouble};

/// One table for the variants, their codes and their texts, so that none can be forgotten in one of the three.
macro_rules! hints {
    ($($variant:ident $code:literal $text:literal)*) => {
        /// What a failed attempt looks like.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Hint {
            $(
                #[doc = $text]
                $variant,
            )*
        }

        impl Hint {
            /// Every hint.
            pub const ALL: [Self; [$($code),*].len()] = [$(Self::$variant,)*];

            /// The code for it in JSON, logs and stores; it stays.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// What it looks like and what to do, for a person.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

hints! {
    RouteProtected "route_protected"
        "The app asks for a sign-in at this path. Make the webhook route public in clerkMiddleware, or in whatever \
         else guards it."
    VercelProtection "vercel_protection"
        "Vercel's deployment protection blocks it before the app runs. Create a bypass for automation at Vercel and \
         set it as the header x-vercel-protection-bypass under the target's `headers`, or use the production URL."
    BotProtection "bot_protection"
        "A firewall in front of the app takes the relay for a bot. Let POSTs to the webhook path pass there."
    Credentials "credentials"
        "The app, or a proxy in front of it, wants credentials. Set them under the target's `headers`, or make the \
         webhook path public."
    RedirectWww "redirect_www"
        "The app redirects to the host with or without www, and redirects are never followed. Put that host into the \
         target's `url`."
    RedirectHttps "redirect_https"
        "The app redirects to https, and redirects are never followed. Begin the target's `url` with https://."
    RedirectSlash "redirect_slash"
        "The app redirects because of the slash at the path's end, and redirects are never followed. Add it to the \
         target's `url`, or take it away."
    Redirect "redirect"
        "The app redirects, and redirects are never followed. Put the final address into the target's `url`."
    Signature "signature"
        "The app does not accept the signature. Its secret and the one that the relay signs with differ, or it parses \
         the body before it verifies (it must verify the raw bytes)."
    Clock "clock"
        "The app finds the signature's timestamp too old or too new. Each attempt is signed afresh, so the clock of the \
         app's machine or of the relay's is wrong."
    HeadersMissing "headers_missing"
        "The app does not find the webhook's headers. Something in front of it drops svix-*, or it reads other names."
    SecretMissing "secret_missing"
        "The app has no signing secret. Set CLERK_WEBHOOK_SIGNING_SECRET in its environment and deploy it again."
    Csrf "csrf"
        "The app's protection against cross-site requests refuses it. Exempt the webhook route."
    Method "method"
        "The path takes no POST. Correct the target's `url`, or export a POST handler in the app."
    Path "path"
        "The app has nothing at this path. Correct the target's `url`, or deploy the route."
    BodyLimit "body_limit"
        "The app, or a proxy in front of it, finds the body too large. Raise its limit for the webhook route."
    Slow "slow"
        "The app's server gave up waiting for its handler. Answer first and do slow work afterwards, or raise its limit."
    RateLimited "rate_limited"
        "The app limits the rate. Lower the target's `rate` or `concurrency`, or exempt the webhook route."
    Gone "gone"
        "The app answered 410: it wants nothing more, so the target is paused. Resume it when it takes events again."
    Aborted "aborted"
        "The app asked to give this event up (header webhook-delivery: abort-message). Its own log says why."
    AppDown "app_down"
        "A proxy or platform answered in the app's place: the app is not running, is being deployed, or listens \
         elsewhere. Look at its platform."
    FunctionCrashed "function_crashed"
        "The function crashed at Vercel before it could answer. Its log there says why."
    TunnelDown "tunnel_down"
        "The tunnel has no app behind it. Start the tunnel or the app, or put its new address into the target's `url`."
    SpeaksHttps "speaks_https"
        "The port speaks https. Begin the target's `url` with https://."
    SpeaksHttp "speaks_http"
        "The port does not speak TLS. Begin the target's `url` with http://, or correct its port."
    Timeout "timeout"
        "No answer within the target's `timeout`. The handler works too long before it answers, or a firewall drops \
         what is sent to the app."
    Dns "dns"
        "The host's name does not resolve. Correct the target's `url`; between containers use the service's name (on \
         Linux, host.docker.internal needs extra_hosts: host.docker.internal:host-gateway)."
    RefusedLocal "refused_local"
        "Nothing listens there on the relay's own machine. Start the app; inside a container localhost is the \
         container itself, so use the app's service name or host.docker.internal."
    Refused "refused"
        "The host is there but nothing listens on that port. Start the app, or correct the target's `url`."
    TlsExpired "tls_expired"
        "The app's certificate has expired or is not valid yet. Renew it, or correct the relay's clock."
    TlsUnknownIssuer "tls_unknown_issuer"
        "The relay does not know who issued the app's certificate. Give the issuer's as the target's `ca_file`, or \
         serve the whole chain."
    TlsWrongName "tls_wrong_name"
        "The app's certificate is for another name. Use a name that it holds in the target's `url`."
}

impl Hint {
    /// The hint of this code; of a code that this release does not know, none.
    pub fn of_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hint| hint.as_str() == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hint_has_a_code_of_its_own_that_is_read_back() {
        for hint in Hint::ALL {
            assert_eq!(Hint::of_code(hint.as_str()), Some(hint));
            assert!(hint.as_str().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{hint:?}");
        }
        assert_eq!(Hint::of_code("of a later release"), None);
    }
}
