//! One repository of a registry, as a cache of built steps.

use std::error::Error;
use std::io::Read;

use super::{Layer, StoreError};
use crate::oci::{BlobStream, Digest, Tag, TagOrDigest};

/// A blob, as a manifest names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Blob {
    /// Of its bytes.
    pub digest: Digest,
    /// How many.
    pub bytes: u64,
}

impl Blob {
    /// Returns the blob of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { digest: Digest::of(bytes), bytes: bytes.len() as u64 }
    }
}

impl From<&Layer> for Blob {
    fn from(layer: &Layer) -> Self {
        Self { digest: layer.blob, bytes: layer.blob_bytes }
    }
}

/// A manifest or an index to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged {
    /// The tag it gets, taken from what had it.
    pub tag: Tag,
    /// What the document is.
    pub media_type: &'static str,
    /// The document, in the bytes that its digest is of.
    pub bytes: Vec<u8>,
}

/// Takes in a blob as it arrives, and reads it to its end, which verifies it. Called again, from the start, when a transfer has
/// to be repeated.
pub type Take<'a> = dyn Fn(&Blob, &mut BlobStream<'_>) -> Result<(), StoreError> + Sync + 'a;

/// Opens a blob that is to be sent. Called again when a transfer has to be repeated.
pub type Open<'a> = dyn Fn(&Blob) -> Result<Box<dyn Read + 'a>, StoreError> + Sync + 'a;

/// A repository that built steps are shared through. Several requests are under way at a time; transfers are tried again where
/// that may help.
pub trait RemoteCache: Sync {
    /// Returns its name: `registry.example/team/cache`.
    fn name(&self) -> &str;

    /// Returns false if the registry has no repository of this name. Most make it with the first push.
    fn exists(&self) -> Result<bool, RemoteError>;

    /// Returns the manifests that these tags or digests name, in their order; `None` where nothing has the name. One by digest
    /// is verified.
    fn manifests(&self, references: &[TagOrDigest]) -> Vec<Result<Option<Vec<u8>>, RemoteError>>;

    /// Fetches blobs and hands each to `take`; returns in their order how it went. `take` sees at most as many bytes as
    /// the blob has.
    fn fetch(&self, blobs: &[Blob], take: &Take<'_>) -> Vec<Result<(), RemoteError>>;

    /// Sees to it that the repository has these blobs: sends what it lacks. Idempotent.
    fn send(&self, blobs: &[Blob], open: &Open<'_>) -> Result<(), RemoteError>;

    /// Publishes manifests, in no particular order; what they name is there. Each is atomic and idempotent.
    fn publish(&self, manifests: &[Tagged]) -> Result<(), RemoteError>;

    /// Returns all tags.
    ///
    /// # Errors
    /// [`RemoteError::Failed`], also if the registry lists a text that is not a tag.
    fn tags(&self) -> Result<Vec<Tag>, RemoteError>;

    /// Deletes a manifest, with every tag that it has. One that is gone already is no error.
    fn delete(&self, manifest: &Digest) -> Result<(), RemoteError>;
}

impl RemoteError {
    /// Returns the blob of which the registry holds a damaged copy, if this is the reason of the failure.
    pub fn damaged_blob(&self) -> Option<Digest> {
        match self {
            RemoteError::Damaged { digest, .. } => Some(*digest),
            RemoteError::Store(StoreError::Damaged { expected, .. }) => Some(*expected),
            _ => None,
        }
    }
}

/// A repository that does not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The registry cannot be reached, refuses, or serves something else than it should.
    #[error("cannot {action} `{repository}`")]
    Failed {
        /// What was tried, in the imperative: `look up steps in`.
        action: &'static str,
        repository: String,
        source: Box<dyn Error + Send + Sync>,
    },
    /// The registry serves other bytes than the digest of a blob names, again and again.
    #[error("cannot fetch a layer from `{repository}`")]
    Damaged {
        repository: String,
        digest: Digest,
        /// What came instead.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The registry holds a damaged copy of a blob, and would keep it if the blob were uploaded again. No other encoding of the layer
    /// can stand in for it: the layer is one of an imported base, or all encodings are damaged.
    #[error("cannot publish `{step}`: `{repository}` holds a damaged copy of its blob {digest}")]
    KeepsDamaged {
        repository: String,
        /// The step that has the layer.
        step: String,
        digest: Digest,
    },
    #[error("the registry of `{repository}` does not allow manifests to be deleted")]
    KeepsAll { repository: String },
    #[error("interrupted")]
    Interrupted,
    #[error(transparent)]
    Store(#[from] StoreError),
}
