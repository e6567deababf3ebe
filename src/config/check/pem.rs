//! PEM files that keys name: read once here, so that a wrong one is told before anything starts. What is in them is not
//! kept, and no reason repeats any of it.

use std::path::PathBuf;

use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};

use crate::config::mistakes::Findings;
use crate::config::read::{self, Fields};
use crate::config::values;
use crate::config::vars::reason_of;

/// The file that the key `name` gives, of certificates to trust.
pub(super) fn authorities(fields: &Fields<'_>, name: &str, findings: &mut Findings) -> Option<PathBuf> {
    let (path, _) = file(fields, name, findings, |pem| {
        let certificates = certificates(pem)?;
        // Parsing alone does not look into the certificates; making a client does.
        let client = reqwest::Client::builder().tls_certs_only(certificates).build();
        client.map(drop).map_err(|_| "holds a certificate that cannot be used")
    })?;
    Some(path)
}

/// The files that two keys give: a certificate of our own with those that vouch for it, and its private key.
pub(super) fn identity(
    fields: &Fields<'_>, cert_name: &str, key_name: &str, findings: &mut Findings,
) -> (Option<PathBuf>, Option<PathBuf>) {
    for (given, other) in [(cert_name, key_name), (key_name, cert_name)] {
        if let (Some(entry), None) = (fields.entry(given), fields.entry(other)) {
            let help = "both of them, or none";
            findings.mistake(entry.at.clone(), format!("`{given}` is given without `{other}`"), help);
        }
    }
    let cert = file(fields, cert_name, findings, |pem| certificates(pem).map(drop));
    let key = file(fields, key_name, findings, |pem| match PrivateKeyDer::from_pem_slice(pem) {
        Ok(_) => Ok(()),
        Err(PemError::NoItemsFound) => Err("holds no private key; an encrypted one cannot be used"),
        Err(_) => Err("is not a PEM file"),
    });
    let (Some((cert_file, cert)), Some((key_file, key))) = (cert, key) else { return (None, None) };
    let both = [cert, key].join(&b'\n');
    let client = reqwest::Identity::from_pem(&both)
        .and_then(|identity| reqwest::Client::builder().identity(identity).build());
    if client.is_err() {
        let reason = format!("`{key_name}` is not the key of the certificate in `{cert_name}`");
        let help = "the key that the first certificate of the file was made with";
        findings.mistake(fields.blame(key_name), reason, help);
    }
    (Some(cert_file), Some(key_file))
}

/// The path and the content of the file that the key `name` gives, where `check` finds nothing wrong with it.
fn file(
    fields: &Fields<'_>, name: &str, findings: &mut Findings,
    check: impl Fn(&[u8]) -> Result<(), &'static str>,
) -> Option<(PathBuf, Vec<u8>)> {
    let path = PathBuf::from(fields.optional(name, findings, values::text)?);
    let reason = match std::fs::read(&path) {
        Err(error) => format!("`{name}` cannot be read: {}", reason_of(&error)),
        Ok(pem) => match check(&pem) {
            Ok(()) => return Some((path, pem)),
            Err(wrong) => format!("`{name}` {wrong}"),
        },
    };
    findings.mistake(fields.blame(name), reason, read::accepted(&fields.key(name).kind));
    None
}

fn certificates(pem: &[u8]) -> Result<Vec<reqwest::Certificate>, &'static str> {
    match reqwest::Certificate::from_pem_bundle(pem) {
        Ok(certificates) if certificates.is_empty() => Err("holds no certificate"),
        Ok(certificates) => Ok(certificates),
        Err(_) => Err("is not a PEM file"),
    }
}
