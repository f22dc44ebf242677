//! Certificates: those that the system trusts, and those that are set for one registry.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, parse_pem};

use super::error::RegistryError;

/// Where distributions keep the authorities that they trust, in one file.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Returns the authorities that the system trusts; `SSL_CERT_FILE` names others. None where there is no file: then no host is
/// trusted whose authority is not set.
pub(super) fn system_certificates(environment: &BTreeMap<String, String>) -> Vec<Certificate<'static>> {
    let named = environment.get("SSL_CERT_FILE").map(PathBuf::from);
    let bundles = named.into_iter().chain(SYSTEM_BUNDLES.map(PathBuf::from));
    bundles.filter_map(|path| read_certificates(&path).ok()).next().unwrap_or_default()
}

/// Reads the certificates in a PEM file, of which there must be one.
pub(super) fn read_certificates(path: &Path) -> Result<Vec<Certificate<'static>>, RegistryError> {
    let certificates = items(path)?.into_iter().filter_map(|item| match item {
        PemItem::Certificate(certificate) => Some(certificate),
        _ => None,
    });
    let certificates: Vec<_> = certificates.collect();
    if certificates.is_empty() {
        Err(unusable(path, "it holds no certificate in PEM form"))
    } else {
        Ok(certificates)
    }
}

/// Reads the certificate to show, with those that vouch for it, and its key.
pub(super) fn client_certificate(chain: &Path, key: &Path) -> Result<ClientCert, RegistryError> {
    let found = items(key)?.into_iter().find_map(|item| match item {
        PemItem::PrivateKey(key) => Some(key),
        _ => None,
    });
    let private: PrivateKey<'static> =
        found.ok_or_else(|| unusable(key, "it holds no private key in PEM form without password"))?;
    Ok(ClientCert::new_with_certs(&read_certificates(chain)?, private))
}

fn items(path: &Path) -> Result<Vec<PemItem<'static>>, RegistryError> {
    let bytes = std::fs::read(path).map_err(|error| unusable(path, &error.to_string()))?;
    let items: Result<Vec<_>, _> = parse_pem(&bytes).collect();
    items.map_err(|error| unusable(path, &error.to_string()))
}

fn unusable(path: &Path, reason: &str) -> RegistryError {
    RegistryError::Certificate { path: path.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_what_is_needed_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.crt");
        let missing = read_certificates(&path).unwrap_err().to_string();
        assert!(missing.contains("ca.crt"), "{missing}");
        std::fs::write(&path, "no PEM").unwrap();
        assert!(read_certificates(&path).unwrap_err().to_string().contains("no certificate"));
        assert!(client_certificate(&path, &path).unwrap_err().to_string().contains("no private key"));
    }
}
