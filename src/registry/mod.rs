//! Registries: the OCI distribution protocol, as a client.
//!
//! ```text
//! Client ── settings, accounts, connections, tokens
//!   └─ Remote ── one repository: blobs, manifests, tags, referrers
//! ```
//!
//! - Blobs stream, both ways, whatever their size; digest and size are verified while they do.
//! - What may get better is tried again: with growing waits, as long as the registry asks for, until patience ends.
//! - A host sees credentials that are meant for it and are sent encrypted; a redirect takes none along. No message has one.
//! - URLs that a manifest names are never fetched: blobs come from the repository.
//!
//! Source: OCI distribution-spec v1.1.

mod auth;
mod cache;
mod certificate;
mod credential;
mod download;
mod error;
mod image;
mod manifest;
mod message;
mod meter;
mod parallel;
mod pieces;
mod proxy;
mod referrers;
mod remote;
mod retry;
mod settings;
mod tls;
mod transport;
mod upload;

pub use cache::CacheRepository;
pub use credential::{Account, Credentials};
pub use download::PullError;
pub use error::{HelperError, RegistryError, TlsTrouble};
pub use manifest::{Deletion, MAX_MANIFEST_BYTES};
pub use meter::{Transfer, Transfers};
pub use remote::{Access, Client, Remote};
pub use settings::{CERTIFICATE_DIRECTORIES, HostSettings, Protocol, Settings};
pub use upload::Upload;
