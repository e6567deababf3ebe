//! From a store's address and TLS files to what the Redis client connects by. Knows no topology: one entry per host.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use redis::io::tcp::{TcpSettings, socket2::TcpKeepalive};
use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion,
    RedisConnectionInfo, RedisError, TlsCertificates,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::config::redis_url::Transport;
use crate::config::{RedisUrl, StoreTls};

/// A connection that is silent for this long is probed: firewalls and load balancers forget silent ones.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Between such probes.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
/// What was sent and not acknowledged for this long breaks the connection; longer than any hiccup of a network.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(10);

/// Why the connections cannot be prepared. All of it is the operator's to mend.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file for TLS cannot be read.
    #[error("`{path}` cannot be read")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file that is to hold certificates to trust holds none.
    #[error("`{0}` holds no certificate")]
    NoCertificate(PathBuf),
    /// A certificate comes without its key, or a key without its certificate.
    #[error("`cert_file` and `key_file` belong together: one of them is missing")]
    HalfPair,
    /// The client cannot use the address or the files.
    #[error("the address or the TLS files of Redis cannot be used")]
    Unusable(#[source] Arc<RedisError>),
}

/// How to reach each of `places`, logged in as `url` says.
///
/// # Errors
/// [`OpenError`]. The files are read every time, so that renewed certificates are picked up.
pub(super) fn infos(url: &RedisUrl, tls: &StoreTls) -> Result<Vec<ConnectionInfo>, OpenError> {
    let login = login(url);
    match &url.transport {
        Transport::Unix(path) => Ok(vec![plain(ConnectionAddr::Unix(path.clone()), &login)?]),
        Transport::Tcp(places) => {
            places.iter().map(|(host, port)| info(&Wire::Plain, host, *port, &login)).collect()
        }
        Transport::Tls(places) => {
            let wire = wire(url, tls)?;
            places.iter().map(|(host, port)| info(&wire, host, *port, &login)).collect()
        }
    }
}

/// How a host is spoken to.
#[derive(Debug, Clone)]
pub(super) enum Wire {
    /// Plain TCP.
    Plain,
    /// TLS with these certificates.
    Tls(TlsCertificates),
}

/// How `url` wants hosts to be spoken to.
///
/// # Errors
/// [`OpenError`].
pub(super) fn wire(url: &RedisUrl, tls: &StoreTls) -> Result<Wire, OpenError> {
    match &url.transport {
        Transport::Tls(_) => Ok(Wire::Tls(certificates(tls)?)),
        Transport::Tcp(_) | Transport::Unix(_) => Ok(Wire::Plain),
    }
}

/// How to reach one host.
///
/// # Errors
/// [`OpenError`].
pub(super) fn info(
    wire: &Wire, host: &str, port: u16, login: &RedisConnectionInfo,
) -> Result<ConnectionInfo, OpenError> {
    match wire {
        Wire::Plain => plain(ConnectionAddr::Tcp(host.to_owned(), port), login),
        Wire::Tls(certificates) => {
            let bare =
                ConnectionAddr::TcpTls { host: host.to_owned(), port, insecure: false, tls_params: None };
            let client =
                Client::build_with_tls(plain(bare, login)?, certificates.clone()).map_err(unusable)?;
            Ok(client.get_connection_info().clone())
        }
    }
}

/// Whom to log in as, and how to speak. RESP2, so that every server answers in the same shapes.
pub(super) fn login(url: &RedisUrl) -> RedisConnectionInfo {
    let mut login = anonymous().set_db(i64::from(url.database));
    if let Some(username) = &url.username {
        login = login.set_username(username);
    }
    if let Some(password) = &url.password {
        login = login.set_password(password);
    }
    login
}

/// Nobody: no login, database 0.
pub(super) fn anonymous() -> RedisConnectionInfo {
    RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP2)
        .set_lib_name("clerk-relay", env!("CARGO_PKG_VERSION"))
}

/// The settings of every TCP connection: small writes at once, and dead peers noticed.
pub(super) fn tcp_settings() -> TcpSettings {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE_EVERY);
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(UNACKNOWLEDGED_MAX);
    settings
}

fn plain(addr: ConnectionAddr, login: &RedisConnectionInfo) -> Result<ConnectionInfo, OpenError> {
    let info = addr.into_connection_info().map_err(unusable)?;
    Ok(info.set_redis_settings(login.clone()).set_tcp_settings(tcp_settings()))
}

fn certificates(tls: &StoreTls) -> Result<TlsCertificates, OpenError> {
    let root_cert = match &tls.ca_file {
        Some(path) => Some(trusted(path)?),
        None => None,
    };
    let client_tls = match (&tls.cert_file, &tls.key_file) {
        (Some(cert), Some(key)) => Some(ClientTlsConfig { client_cert: read(cert)?, client_key: read(key)? }),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => return Err(OpenError::HalfPair),
    };
    Ok(TlsCertificates { client_tls, root_cert })
}

fn trusted(path: &Path) -> Result<Vec<u8>, OpenError> {
    let pem = read(path)?;
    if CertificateDer::pem_slice_iter(&pem).next().is_none() {
        return Err(OpenError::NoCertificate(path.to_owned()));
    }
    Ok(pem)
}

fn read(path: &Path) -> Result<Vec<u8>, OpenError> {
    std::fs::read(path).map_err(|source| OpenError::File { path: path.to_owned(), source })
}

pub(super) fn unusable(error: RedisError) -> OpenError {
    OpenError::Unusable(Arc::new(error))
}
