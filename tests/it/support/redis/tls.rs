//! A Redis server behind TLS, with a small certificate authority of its own.

use std::path::{Path, PathBuf};

use clerk_relay::config::redis_url::{Topology, Transport};
use clerk_relay::config::{RedisUrl, StoreTls};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::{RedisServer, free_port};

/// Whether clients must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificate {
    Required,
    Ignored,
}

/// A server that speaks TLS on one port, and plainly on the other for the fixture's own commands.
pub struct TlsServer {
    pub server: RedisServer,
    tls_port: u16,
    authority: Authority,
}

impl TlsServer {
    pub async fn start(clients: ClientCertificate) -> Self {
        let authority = Authority::new();
        let (cert, key) = authority.issue("server");
        let tls_port = free_port();
        let ask = match clients {
            ClientCertificate::Required => "yes",
            ClientCertificate::Ignored => "no",
        };
        let [cert, key, ca] = [&cert, &key, &authority.ca_file()].map(|path| path.display().to_string());
        let args = ["--tls-port", &tls_port.to_string(), "--tls-cert-file", &cert, "--tls-key-file", &key];
        let more = ["--tls-ca-cert-file", &ca, "--tls-auth-clients", ask];
        let server = RedisServer::start_with(&[&args[..], &more].concat()).await;
        Self { server, tls_port, authority }
    }

    pub fn redis_url(&self) -> RedisUrl {
        RedisUrl {
            topology: Topology::Standalone,
            transport: Transport::Tls(vec![("127.0.0.1".to_owned(), self.tls_port)]),
            username: None,
            password: None,
            database: 0,
        }
    }

    /// What trusts the server.
    pub fn trust(&self) -> StoreTls {
        StoreTls { ca_file: Some(self.authority.ca_file()), ..StoreTls::default() }
    }

    /// What trusts the server and shows a certificate that it trusts.
    pub fn trust_and_identity(&self) -> StoreTls {
        let (cert, key) = self.authority.issue("client");
        StoreTls { cert_file: Some(cert), key_file: Some(key), ..self.trust() }
    }
}

/// A certificate authority in a folder.
pub struct Authority {
    folder: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "private authority");
        let key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.pem"), cert.pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    pub fn ca_file(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// A certificate for 127.0.0.1 and its key, as files.
    pub fn issue(&self, name: &str) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let (cert_file, key_file) = (self.file(&format!("{name}.pem")), self.file(&format!("{name}.key")));
        std::fs::write(&cert_file, cert.pem()).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        (cert_file, key_file)
    }

    fn file(&self, name: &str) -> PathBuf {
        Path::join(self.folder.path(), name)
    }
}
