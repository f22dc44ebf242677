//! A client for registries: the OCI distribution protocol.
//!
//! ```text
//! Client ── settings, accounts, connections, tokens
//!   └─ Remote ── one repository: blobs, manifests, tags, referrers
//! ```
//!
//! - Blobs are streamed in both directions, whatever their size, and their digest and size are
//!   verified on the way.
//! - Transient failures are retried with growing waits, and at least the wait that the registry
//!   asks for, until the patience of the user ends.
//! - A host gets only credentials for itself, and only over an encrypted connection. Redirects to
//!   other hosts carry none. No message shows one.
//! - plywood never fetches URLs in a manifest: blobs come from the repository.
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
mod outgoing;
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
