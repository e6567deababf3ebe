//! What kept a request from a reply, told by the types in the error's chain, never by its text.

use std::error::Error;
use std::io;

use rustls::CertificateError;

use crate::config::Target;
use crate::lifecycle::attempt::ErrorClass;
use crate::lifecycle::hint::{self, Hint};

/// What kept a request from a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The target's name does not resolve.
    Dns,
    /// The host answered that nothing listens there.
    Refused,
    /// No connection, for another reason.
    Connect,
    /// The TLS handshake failed, perhaps for a reason that is known.
    Tls(Option<hint::Trouble>),
    /// No complete answer in time.
    Timeout,
    /// The connection broke before the answer was whole.
    Reset,
    /// The answer's headers are too large.
    TooLarge,
    /// The request could not be made.
    Internal,
}

impl Trouble {
    /// Its class.
    pub(super) const fn class(self) -> ErrorClass {
        match self {
            Self::Dns => ErrorClass::Dns,
            Self::Refused | Self::Connect => ErrorClass::Connect,
            Self::Tls(_) => ErrorClass::Tls,
            Self::Timeout => ErrorClass::Timeout,
            Self::Reset => ErrorClass::Reset,
            Self::TooLarge => ErrorClass::TooLarge,
            Self::Internal => ErrorClass::Internal,
        }
    }

    /// What it looks like. Of a name or a connection nothing where the target has a proxy: then they are the proxy's.
    pub(super) fn hint(self, target: &Target) -> Option<Hint> {
        let direct = |trouble| target.proxy.is_none().then_some(trouble);
        let trouble = match self {
            Self::Dns => direct(hint::Trouble::Dns),
            Self::Refused => direct(hint::Trouble::Refused),
            Self::Tls(known) => known,
            Self::Timeout => Some(hint::Trouble::Timeout),
            Self::Connect | Self::Reset | Self::TooLarge | Self::Internal => None,
        };
        trouble.map(|trouble| hint::of_trouble(trouble, &target.url))
    }
}

/// What `error` comes from.
pub(super) fn of(error: &reqwest::Error) -> Trouble {
    if error.is_timeout() {
        return Trouble::Timeout;
    }
    if error.is_dns() {
        return Trouble::Dns;
    }
    let mut is_refused = false;
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(tls) = tls_of(error) {
            return Trouble::Tls(known(tls));
        }
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse_too_large) {
            return Trouble::TooLarge;
        }
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        is_refused |= kind == Some(io::ErrorKind::ConnectionRefused);
        cause = error.source();
    }
    match (error.is_connect(), is_refused) {
        (true, true) => Trouble::Refused,
        (true, false) => Trouble::Connect,
        (false, _) => Trouble::Reset,
    }
}

/// Whether an error is one of TLS.
pub fn is_tls(error: &(dyn Error + 'static)) -> bool {
    tls_of(error).is_some()
}

/// rustls' errors travel inside one or two `io::Error`s, whose `source` skips what they hold.
fn tls_of<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    tls_of(error.downcast_ref::<io::Error>()?.get_ref()?)
}

/// The failures of a handshake that say what to do.
fn known(error: &rustls::Error) -> Option<hint::Trouble> {
    // Bytes that are no TLS at all: an HTTP server that answers the handshake in its own words.
    if matches!(error, rustls::Error::InvalidMessage(_)) {
        return Some(hint::Trouble::NotTls);
    }
    let rustls::Error::InvalidCertificate(error) = error else { return None };
    if matches!(
        error,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    ) {
        return Some(hint::Trouble::CertificateTime);
    }
    if matches!(error, CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }) {
        return Some(hint::Trouble::CertificateName);
    }
    matches!(error, CertificateError::UnknownIssuer).then_some(hint::Trouble::CertificateIssuer)
}
