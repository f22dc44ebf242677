//! Errors of the registry client.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, OtherError};

use crate::exec::ExecError;
use crate::oci::{Digest, ManifestError};

/// An error of a registry, of the way to it, or of the local files that the client needs.
///
/// No text contains a credential: URLs have no user and no query, and headers are never shown.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("{request}: no answer{}", through(proxy.as_deref()))]
    NoAnswer {
        request: String,
        /// The proxy, without its password: `proxy.example:3128, which https_proxy names`.
        proxy: Option<String>,
        source: Box<ureq::Error>,
    },
    #[error("{request}: the answer broke off")]
    BrokenOff { request: String, source: io::Error },
    /// The answer comes too slowly: there was no progress for longer than the patience of the user.
    #[error("{request}: the download stalled: less than 16 KiB came in {} s", elapsed.as_secs())]
    Stalled { request: String, elapsed: Duration },
    #[error("{request}: the registry answered {status}{}", quoted(reason))]
    Refused {
        request: String,
        status: u16,
        /// The reason that the registry gives; may be empty.
        reason: String,
        /// The wait that the registry asks for.
        retry_after: Option<Duration>,
    },
    /// The answer does not fit the request.
    #[error("{request}: unexpected answer: {reason}")]
    Unexpected { request: String, reason: String },
    #[error("gave up {action} after {attempts} attempt{} in {} s", if *attempts == 1 { "" } else { "s" }, elapsed.as_secs())]
    GaveUp {
        /// A gerund: `reading manifest latest of registry.example/a`.
        action: String,
        attempts: u32,
        elapsed: Duration,
        source: Box<RegistryError>,
    },
    /// The registry requires credentials, or refuses the given ones.
    #[error("`{host}` refuses access to `{repository}` {}", if *anonymous { "without credentials" } else { "with the credentials for it" })]
    Unauthorized {
        host: String,
        repository: String,
        /// True if no credentials for the repository were found.
        anonymous: bool,
        source: Box<RegistryError>,
    },
    /// The token service of the registry refused a token, or failed.
    #[error("no token for `{repository}` from the token service of `{host}`")]
    NoToken { host: String, repository: String, source: Box<RegistryError> },
    /// The bytes do not match their digest.
    #[error("{request}: the answer has digest {found} instead of {expected}")]
    WrongDigest {
        request: String,
        /// The requested digest, or the one in the headers of the answer.
        expected: Digest,
        found: Digest,
    },
    /// A blob has another size than its descriptor says.
    #[error("{request}: the answer has {found} bytes instead of {expected}")]
    WrongSize {
        request: String,
        /// The size in the descriptor.
        expected: u64,
        /// The number of bytes received. A longer blob is refused at once, so it may have more.
        found: u64,
    },
    /// The registry keeps a copy of another size, although the blob was uploaded again.
    #[error(
        "`{repository}` holds a damaged copy of blob {digest} ({found} bytes instead of {expected}) and does not replace it"
    )]
    KeepsDamaged {
        repository: String,
        digest: Digest,
        /// Bytes of the blob.
        expected: u64,
        /// Bytes of the copy.
        found: u64,
    },
    /// The answer is not a manifest.
    #[error("{request}: the answer (`{content_type}`) is not a manifest that plywood can read")]
    NoManifest { request: String, content_type: String, source: ManifestError },
    /// A document exceeds the limit.
    #[error("{request}: the document is larger than {limit} bytes")]
    TooLarge { request: String, limit: u64 },
    /// A request would use plain HTTP, which the settings of the host do not allow.
    #[error("the connection to `{host}` would not be encrypted")]
    PlainHttp {
        /// Host and port.
        host: String,
    },
    /// A file with credentials cannot be read.
    #[error("cannot read credentials from `{}`: {reason}", path.display())]
    Credentials { path: PathBuf, reason: String },
    /// A credential helper failed.
    #[error("credential helper `{program}` gave no credentials for `{server}`")]
    Helper { program: String, server: String, source: HelperError },
    /// A certificate or key cannot be used.
    #[error("cannot use certificate or key `{}`: {reason}", path.display())]
    Certificate { path: PathBuf, reason: String },
    /// A proxy of the environment cannot be used.
    #[error("cannot use the proxy in the variable `{variable}`: expected `http://HOST:PORT`")]
    Proxy {
        /// The name alone: the value may contain a password.
        variable: &'static str,
    },
    /// A blob cannot be read locally for an upload.
    #[error("cannot read blob {digest} to send it")]
    Source { digest: Digest, source: io::Error },
    /// The user has interrupted.
    #[error("interrupted")]
    Interrupted,
    /// Another transfer of the same push or pull has failed. Its error is the one to show.
    #[error("stopped because another transfer failed")]
    Stopped,
}

/// An error of a credential helper.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    #[error(transparent)]
    Run(#[from] ExecError),
    #[error("it ended with {exit}{}", quoted(said))]
    Failed { exit: std::process::ExitStatus, said: String },
    /// The answer is malformed. The message does not quote it, because it may contain a password.
    #[error("its answer is not the JSON of a credential helper")]
    Answer,
}

impl RegistryError {
    /// Returns true if the same request may succeed later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::NoAnswer { source, .. } => is_transient(source),
            Self::BrokenOff { .. } | Self::Stalled { .. } => true,
            damage if damage.is_damage() => true,
            Self::Refused { status, .. } => matches!(status, 408 | 425 | 429 | 500 | 502..=504),
            Self::NoToken { source, .. } => source.is_transient(),
            _ => false,
        }
    }

    /// Returns true if the bytes were damaged, in transit or in the registry.
    pub(super) fn is_damage(&self) -> bool {
        matches!(self, Self::WrongDigest { .. } | Self::WrongSize { .. })
    }

    /// Returns true if no server was reached. Few retries suffice then: a mistyped host name fails
    /// in the same way each time.
    pub(super) fn is_absence(&self) -> bool {
        let Self::NoAnswer { source, .. } = self else { return false };
        match &**source {
            ureq::Error::Io(error) => error.kind() == io::ErrorKind::ConnectionRefused,
            ureq::Error::Timeout(timeout) => *timeout == ureq::Timeout::Connect,
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => true,
            _ => false,
        }
    }

    /// Returns the wait that the registry asked for.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            Self::NoToken { source, .. } => source.retry_after(),
            _ => None,
        }
    }

    /// Returns the problem with the encryption, if that is the reason for the missing answer.
    pub fn tls_trouble(&self) -> Option<TlsTrouble> {
        let Self::NoAnswer { source, .. } = self else { return None };
        match tls_error(source)? {
            rustls::Error::InvalidCertificate(CertificateError::Other(reason)) if is_authority(reason) => {
                Some(TlsTrouble::Authority)
            }
            rustls::Error::InvalidCertificate(_) => Some(TlsTrouble::Certificate),
            rustls::Error::InvalidMessage(_) => Some(TlsTrouble::NoTls),
            rustls::Error::AlertReceived(
                AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::UnknownCA
                | AlertDescription::CertificateExpired,
            ) => Some(TlsTrouble::Client),
            _ => None,
        }
    }

    /// Returns the HTTP status of the refusal, also after retries.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::GaveUp { source, .. }
            | Self::Unauthorized { source, .. }
            | Self::NoToken { source, .. } => source.status(),
            _ => None,
        }
    }
}

/// A problem with the encryption of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsTrouble {
    /// No trusted authority has signed the registry's certificate, or it is for another host.
    Certificate,
    /// The registry presents a CA certificate as its server certificate.
    Authority,
    /// The registry requires a client certificate, or another one.
    Client,
    /// The registry uses plain HTTP.
    NoTls,
}

/// Returns true for errors of connections, which may succeed later. Errors of certificates stay.
fn is_transient(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(_) => tls_error(error).is_none(),
        ureq::Error::Timeout(_)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::Protocol(_)
        | ureq::Error::BodyStalled => true,
        _ => false,
    }
}

/// Returns true if a certificate was refused because it is that of an authority. rustls has no
/// variant for this; it passes on the text of webpki.
pub(super) fn is_authority(reason: &OtherError) -> bool {
    reason.0.to_string() == "CaUsedAsEndEntity"
}

/// Returns the TLS error in `error`. rustls wraps its errors in I/O errors.
fn tls_error(error: &ureq::Error) -> Option<&rustls::Error> {
    match error {
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref(),
        ureq::Error::Rustls(error) => Some(error),
        _ => None,
    }
}

fn through(proxy: Option<&str>) -> String {
    proxy.map_or_else(String::new, |proxy| format!(" through the proxy {proxy}"))
}

fn quoted(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}
