//! What can be wrong with a request to the admin API, in words that say what to do next, and the exit code of each.

use std::error::Error as _;

use reqwest::StatusCode;
use serde::Deserialize;
use url::Url;

use super::{TokenFrom, VARIABLE_TOKEN};
use crate::cli::given::VARIABLE_URL;
use crate::cli::{EXIT_FAILURE, EXIT_NOT_ALLOWED, EXIT_UNAVAILABLE, EXIT_USAGE};
use crate::delivery::send::trouble::is_tls;
use crate::ingress::NO_SUCH_PATH;
use crate::telemetry::causes;

/// A request to the admin API that came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Nothing answers there.
    #[error("no answer from {base}: {}", innermost(.why))]
    Unreachable {
        /// The address.
        base: Box<Url>,
        /// Where the token is from, which tells where the address is from.
        token_from: TokenFrom,
        /// Why.
        why: reqwest::Error,
    },
    /// It answers, but not in time.
    #[error("{base} did not answer in time")]
    TimedOut {
        /// The address.
        base: Box<Url>,
    },
    /// No TLS connection comes about.
    #[error("no TLS connection to {base}: {}", innermost(.why))]
    Tls {
        /// The address.
        base: Box<Url>,
        /// Why.
        why: reqwest::Error,
    },
    /// Something answers that is no admin API.
    #[error("what answers at {base} is not the admin API of a relay (it said {status})")]
    NotARelay {
        /// The address.
        base: Url,
        /// What it answered.
        status: StatusCode,
    },
    /// What answers is a relay's listener of webhooks.
    #[error("what answers at {base} takes webhooks, and is not the admin API")]
    Webhooks {
        /// The address.
        base: Url,
    },
    /// An answer that is not understood.
    #[error("{base} gave an answer that this version does not understand")]
    Strange {
        /// The address.
        base: Url,
        /// What is odd about it.
        #[source]
        why: serde_json::Error,
    },
    /// 401.
    #[error("the relay wants an admin token that it knows")]
    Unauthorized(TokenFrom),
    /// 403: known, but not enough.
    #[error("not allowed: {0}")]
    Forbidden(Told),
    /// 404.
    #[error("{0}")]
    NotFound(Told),
    /// 409.
    #[error("{0}")]
    Conflict(Told),
    /// Another 4xx: what was asked makes no sense to the relay.
    #[error("{0}")]
    Refused(Told),
    /// 5xx.
    #[error("the relay cannot do it now: {0}")]
    Away(Told),
}

/// What the relay said.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
pub struct Told {
    /// For programs.
    pub code: String,
    /// For people.
    pub message: String,
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

#[derive(Deserialize)]
struct Body {
    error: Told,
}

/// The error that an answer which is no success means.
pub(super) fn told(status: StatusCode, body: &[u8], base: &Url, token_from: TokenFrom) -> ApiError {
    let Ok(Body { error }) = serde_json::from_slice(body) else {
        return ApiError::NotARelay { base: base.clone(), status };
    };
    match status {
        _ if error.code == NO_SUCH_PATH => ApiError::Webhooks { base: base.clone() },
        StatusCode::UNAUTHORIZED => ApiError::Unauthorized(token_from),
        StatusCode::FORBIDDEN => ApiError::Forbidden(error),
        StatusCode::NOT_FOUND => ApiError::NotFound(error),
        StatusCode::CONFLICT => ApiError::Conflict(error),
        status if status.is_client_error() => ApiError::Refused(error),
        _ => ApiError::Away(error),
    }
}

impl ApiError {
    /// What kept a request to `base` from an answer.
    pub fn unreachable(base: &Url, token_from: TokenFrom, why: reqwest::Error) -> Self {
        let base = Box::new(base.clone());
        let why = why.without_url();
        let mut cause = why.source();
        while let Some(error) = cause {
            if is_tls(error) {
                return Self::Tls { base, why };
            }
            cause = error.source();
        }
        if why.is_timeout() && !why.is_connect() {
            Self::TimedOut { base }
        } else {
            Self::Unreachable { base, token_from, why }
        }
    }

    /// What to do next.
    pub fn advice(&self) -> Option<String> {
        match self {
            Self::Unreachable { token_from: TokenFrom::Unreadable, .. } => Some(format!(
                "the configuration here has mistakes, such as a variable that is not set (`clerk-relay check` shows them), so its `admin.listen` was not used; `--url` or {VARIABLE_URL} names the admin API"
            )),
            Self::Unreachable { .. } => Some(format!(
                "is the relay running? `--url` or {VARIABLE_URL} names its admin API, by default http://127.0.0.1:8081 on its own machine"
            )),
            Self::TimedOut { .. } => Some("look at its log: the store may be slow or away".to_owned()),
            Self::Tls { base, .. } if base.scheme() == "https" => Some(
                "a relay itself speaks plain HTTP: is this the address of a proxy before it? For an authority of your own, SSL_CERT_FILE names its certificate".to_owned(),
            ),
            Self::Tls { .. } => None,
            Self::NotARelay { .. } | Self::Webhooks { .. } => Some(
                "the admin API has a listener of its own (`admin.listen`, by default port 8081), not that of the webhooks".to_owned(),
            ),
            Self::Strange { .. } => Some("compare `clerk-relay --version` with that of the relay".to_owned()),
            Self::Unauthorized(from) => Some(token_advice(*from)),
            Self::Forbidden(told) if told.code == "read_only" => Some(format!(
                "use a token that has `can: write` in `admin.tokens`, by --token-file or {VARIABLE_TOKEN}"
            )),
            Self::Forbidden(told) if told.code == "forbidden" => Some(format!(
                "use a token that has `can: read` or more in `admin.tokens`, by --token-file or {VARIABLE_TOKEN}"
            )),
            Self::Conflict(told) if told.code == "already_ended" => Some("`--again` delivers it once more".to_owned()),
            Self::Forbidden(_) | Self::NotFound(_) | Self::Conflict(_) | Self::Refused(_) => None,
            Self::Away(_) => Some("`clerk-relay health` tells more; then try again".to_owned()),
        }
    }

    /// What to end with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Tls { .. }
            | Self::NotARelay { .. }
            | Self::Webhooks { .. }
            | Self::Strange { .. }
            | Self::Away(_) => EXIT_UNAVAILABLE,
            Self::Unauthorized(_) | Self::Forbidden(_) => EXIT_NOT_ALLOWED,
            Self::NotFound(_) | Self::Conflict(_) => EXIT_FAILURE,
            Self::Refused(_) => EXIT_USAGE,
        }
    }
}

fn token_advice(from: TokenFrom) -> String {
    let give = format!("give one by --token-file or {VARIABLE_TOKEN}");
    match from {
        TokenFrom::Given => {
            "it does not know the one that was given: compare it with `admin.tokens` of its configuration"
                .to_owned()
        }
        TokenFrom::Configuration => {
            format!("the configuration here has another one than the relay that runs; {give}")
        }
        TokenFrom::NoneConfigured => {
            format!("the configuration here holds none itself, at most digests; {give}")
        }
        TokenFrom::Unreadable => format!(
            "the configuration here has mistakes (`clerk-relay check` shows them), so its token was not used; {give}"
        ),
        TokenFrom::AddressGiven => {
            format!("with an address of its own, the configuration's token is not sent; {give}")
        }
        TokenFrom::NoConfiguration => give,
    }
}

/// The reason behind the reasons: "connection refused" rather than "error sending request".
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    // The chain as a whole where the innermost says next to nothing.
    let text = cause.to_string();
    if text.len() < 4 { causes(error) } else { text }
}
