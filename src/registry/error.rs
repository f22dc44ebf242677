//! What can go wrong between here and a registry.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustls::{AlertDescription, CertificateError, OtherError};

use crate::exec::ExecError;
use crate::oci::{Digest, ManifestError};

/// A registry that cannot be reached, refuses, or serves something else than it should.
///
/// No text in it holds a credential: URLs are without user and query, headers are never shown.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The request got no answer.
    #[error("{request}: no answer{}", through(proxy.as_deref()))]
    NoAnswer {
        /// Method and URL.
        request: String,
        /// The proxy that was to lead there: `proxy.example:3128, which https_proxy names`.
        proxy: Option<String>,
        /// Why not.
        source: Box<ureq::Error>,
    },
    /// The answer broke off.
    #[error("{request}: the answer broke off")]
    BrokenOff {
        /// Method and URL.
        request: String,
        /// Why.
        source: io::Error,
    },
    /// The answer comes, but so slowly that it would take for ever.
    #[error("{request}: next to nothing came in {} s", elapsed.as_secs())]
    Stalled {
        /// Method and URL.
        request: String,
        /// For how long.
        elapsed: Duration,
    },
    /// The registry said no.
    #[error("{request}: the registry answered {status}{}", quoted(reason))]
    Refused {
        /// Method and URL.
        request: String,
        /// Status code of HTTP.
        status: u16,
        /// What it gave as reason; may be empty.
        reason: String,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The answer makes no sense for the request.
    #[error("{request}: unexpected answer: {reason}")]
    Unexpected {
        /// Method and URL.
        request: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It was tried again and again.
    #[error("gave up on {action} after {attempts} attempt{} in {} s", if *attempts == 1 { "" } else { "s" }, elapsed.as_secs())]
    GaveUp {
        /// What was tried: `blob sha256:… of registry.example/a`.
        action: String,
        /// How often.
        attempts: u32,
        /// For how long.
        elapsed: Duration,
        /// How the last attempt failed.
        source: Box<RegistryError>,
    },
    /// The registry wants other credentials than it was given.
    #[error("`{host}` refuses access to `{repository}` {}", if *anonymous { "without credentials" } else { "with the credentials for it" })]
    Unauthorized {
        /// The registry.
        host: String,
        /// The repository.
        repository: String,
        /// No credentials were found for it.
        anonymous: bool,
        /// What the registry said.
        source: Box<RegistryError>,
    },
    /// The token service of a registry gave no token.
    #[error("no token for `{repository}` from the token service of `{host}`")]
    NoToken {
        /// The registry.
        host: String,
        /// The repository.
        repository: String,
        /// What the service said.
        source: Box<RegistryError>,
    },
    /// Bytes are not those that their digest names.
    #[error("{request}: the answer has digest {found} instead of {expected}")]
    WrongDigest {
        /// Method and URL.
        request: String,
        /// As asked for, or as the registry says.
        expected: Digest,
        /// What the bytes give.
        found: Digest,
    },
    /// A blob has another size than its descriptor says.
    #[error("{request}: the answer has {found} bytes instead of {expected}")]
    WrongSize {
        /// Method and URL.
        request: String,
        /// As the descriptor says.
        expected: u64,
        /// What came; where there is more, what had come by then.
        found: u64,
    },
    /// The registry keeps a copy of another size although the blob was sent again.
    #[error(
        "`{repository}` holds a damaged copy of blob {digest} ({found} bytes instead of {expected}) and does not replace it"
    )]
    KeepsDamaged {
        /// The repository.
        repository: String,
        /// The blob.
        digest: Digest,
        /// Bytes of the blob.
        expected: u64,
        /// Bytes of the copy.
        found: u64,
    },
    /// What was served as a manifest is none.
    #[error("{request}: the answer (`{content_type}`) cannot be used")]
    NoManifest {
        /// Method and URL.
        request: String,
        /// As what it was served.
        content_type: String,
        /// Why not.
        source: ManifestError,
    },
    /// A document is larger than any registry has to take.
    #[error("{request}: the document is larger than {limit} bytes")]
    TooLarge {
        /// Method and URL.
        request: String,
        /// How large it may be.
        limit: u64,
    },
    /// Plain HTTP to a host that it is not allowed for.
    #[error("`{host}` would be spoken to without encryption")]
    PlainHttp {
        /// Host and port.
        host: String,
    },
    /// A file with credentials cannot be read.
    #[error("cannot read credentials from `{}`: {reason}", path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A credential helper failed.
    #[error("credential helper `{program}` gave no credentials for `{server}`")]
    Helper {
        /// The program.
        program: String,
        /// The server that it was asked for.
        server: String,
        /// Why not.
        source: HelperError,
    },
    /// A certificate or key cannot be used.
    #[error("cannot use certificate or key `{}`: {reason}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A proxy of the environment cannot be used.
    #[error("`{variable}` names no proxy that can be used: expected `http://HOST:PORT`")]
    Proxy {
        /// The variable. Its value may hold a password.
        variable: &'static str,
    },
    /// The bytes to send cannot be read.
    #[error("cannot read blob {digest} to send it")]
    Source {
        /// The blob.
        digest: Digest,
        /// Why not.
        source: io::Error,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// Another transfer of the same push or pull has failed, whose error is the one to show.
    #[error("stopped, as another transfer failed")]
    Stopped,
}

/// A credential helper that gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// It cannot be run.
    #[error(transparent)]
    Run(#[from] ExecError),
    /// It failed.
    #[error("it ended with {exit}{}", quoted(said))]
    Failed {
        /// How it ended.
        exit: std::process::ExitStatus,
        /// What it said.
        said: String,
    },
    /// It answered something that is no answer. What that was is not said: there may be a password in it.
    #[error("its answer is not what helpers answer")]
    Answer,
}

impl RegistryError {
    /// Returns whether the same may go well in a while.
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

    /// Returns true if the bytes that came are wrong: damaged in transit or in the registry.
    pub(super) fn is_damage(&self) -> bool {
        matches!(self, Self::WrongDigest { .. } | Self::WrongSize { .. })
    }

    /// Returns true if no server was reached. A mistyped host name gives the same error, however often it is tried.
    pub(super) fn is_absence(&self) -> bool {
        let Self::NoAnswer { source, .. } = self else { return false };
        match &**source {
            ureq::Error::Io(error) => error.kind() == io::ErrorKind::ConnectionRefused,
            ureq::Error::Timeout(timeout) => *timeout == ureq::Timeout::Connect,
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => true,
            _ => false,
        }
    }

    /// Returns how long the registry asked to be left alone.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            Self::NoToken { source, .. } => source.retry_after(),
            _ => None,
        }
    }

    /// Returns what is wrong with the encryption, if that is why there was no answer.
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

    /// Returns the status that the registry refused with, whatever was tried since.
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

/// What can be wrong with the encryption of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsTrouble {
    /// Nobody who is trusted vouches for the registry's certificate, or it is for another host.
    Certificate,
    /// The registry's certificate is that of a certificate authority, which may vouch for others and not for itself.
    Authority,
    /// The registry wants to be shown another certificate than it was, or one at all.
    Client,
    /// The registry does not encrypt at all.
    NoTls,
}

/// Certificates do not get better by waiting; connections may.
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

/// Returns true if a certificate is refused because it is an authority's. rustls passes the reason on as webpki words it.
pub(super) fn is_authority(reason: &OtherError) -> bool {
    reason.0.to_string() == "CaUsedAsEndEntity"
}

/// Rustls reports what it finds wrong as an I/O error.
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
