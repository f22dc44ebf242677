//! Certificates: those of the system, and those set for one registry.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::error::RegistryError;
use crate::directory::read_document;

/// The files in which distributions keep the authorities that they trust.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The files with certificates for one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Certificates {
    /// Authorities, trusted in addition to those of the system.
    pub(super) authorities: Vec<PathBuf>,
    /// The client certificate and its key.
    pub(super) client: Option<(PathBuf, PathBuf)>,
}

impl Certificates {
    /// Finds the files for a host and port in `directories`. Each `.crt` is an authority. The first
    /// `.cert` is the client certificate, and the `.key` of the same name is its key. For each of
    /// the two kinds, the first directory that has it decides.
    ///
    /// Source: containers-certs.d(5); Docker manual, "Verify repository client with certificates".
    pub(super) fn find(directories: &[PathBuf], host: &str) -> Self {
        let found = directories.iter().map(|directory| Self::in_directory(&directory.join(host)));
        found.fold(Self::default(), Self::or)
    }

    /// Returns `self`, with the kinds that it lacks from `other`.
    pub(super) fn or(self, other: Self) -> Self {
        let authorities = if self.authorities.is_empty() { other.authorities } else { self.authorities };
        Self { authorities, client: self.client.or(other.client) }
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn in_directory(directory: &Path) -> Self {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
        // The order of a directory differs between file systems, and the first `.cert` decides.
        files.sort();
        let of_kind = |kind: &'static str| {
            files.iter().filter(move |path| path.extension().is_some_and(|is| is == kind))
        };
        let client = of_kind("cert").next().map(|path| (path.clone(), path.with_extension("key")));
        Self { authorities: of_kind("crt").cloned().collect(), client }
    }
}

/// Returns the authorities that the system trusts, or those in `SSL_CERT_FILE`. The list is empty
/// if there is no such file; then only authorities set for a registry are trusted.
pub(super) fn system_certificates(environment: &BTreeMap<String, String>) -> Vec<CertificateDer<'static>> {
    let named = environment.get("SSL_CERT_FILE").map(PathBuf::from);
    let bundles = named.into_iter().chain(SYSTEM_BUNDLES.map(PathBuf::from));
    bundles.filter_map(|path| read_certificates(&path).ok()).next().unwrap_or_default()
}

/// Reads the certificates in a PEM file. Fails if there is none.
pub(super) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, RegistryError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let certificates = certificates.map_err(|error| unusable(path, &error.to_string()))?;
    if certificates.is_empty() {
        Err(unusable(path, "it has no certificate in PEM form"))
    } else {
        Ok(certificates)
    }
}

/// A client certificate.
#[derive(Debug)]
pub(super) struct ClientCertificate {
    /// The certificate, followed by the authorities that signed it.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// Reads a client certificate, the authorities that signed it, and its key.
pub(super) fn client_certificate(chain: &Path, key: &Path) -> Result<ClientCertificate, RegistryError> {
    let private = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|_| unusable(key, "it has no private key in PEM form without a password"))?;
    Ok(ClientCertificate { chain: read_certificates(chain)?, key: private })
}

fn read(path: &Path) -> Result<Vec<u8>, RegistryError> {
    read_document(path).map_err(|error| unusable(path, &error.to_string()))
}

fn unusable(path: &Path, reason: &str) -> RegistryError {
    RegistryError::Certificate { path: path.to_owned(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_found_by_extension_in_the_directories_of_engines() {
        let directory = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| directory.path().join(name));
        for path in [
            "first/a.example/x.cert",
            "second/a.example:5000/ca.crt",
            "second/a.example/b.crt",
            "second/a.example/a.crt",
            "second/a.example/me.cert",
            "second/a.example/README",
        ] {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let at = |path: &str| directory.path().join(path);
        let directories = [first, second];
        let found = Certificates::find(&directories, "a.example");
        assert_eq!(found.authorities, [at("second/a.example/a.crt"), at("second/a.example/b.crt")]);
        assert_eq!(found.client, Some((at("first/a.example/x.cert"), at("first/a.example/x.key"))));
        let found = Certificates::find(&directories, "a.example:5000");
        assert_eq!((found.authorities.len(), found.client), (1, None));
        assert!(Certificates::find(&directories, "b.example").is_empty());
    }

    #[test]
    fn a_file_without_certificate_or_key_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.crt");
        let missing = read_certificates(&path).unwrap_err().to_string();
        assert!(missing.contains("ca.crt"), "{missing}");
        std::fs::write(&path, "no PEM").unwrap();
        assert!(read_certificates(&path).unwrap_err().to_string().contains("no certificate"));
        assert!(client_certificate(&path, &path).unwrap_err().to_string().contains("no private key"));
    }
}
