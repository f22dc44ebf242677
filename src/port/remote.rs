//! One repository of a registry, as a cache of built steps.

use std::error::Error;
use std::io::Read;

use super::{Layer, StoreError};
use crate::oci::{BlobStream, Digest, Tag, TagOrDigest};
use crate::plan::StepName;

/// A blob, as a manifest names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Blob {
    pub digest: Digest,
    pub bytes: u64,
}

impl Blob {
    /// Returns the blob with these bytes.
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
    /// The tag that it gets. Another manifest with this tag loses it.
    pub tag: Tag,
    pub media_type: &'static str,
    /// The document, byte for byte as its digest requires.
    pub bytes: Vec<u8>,
}

/// Stores a blob while it arrives, and reads it to its end, which verifies it. Called again, from
/// the start of the blob, when a transfer is repeated.
pub type Take<'a> = dyn Fn(&Blob, &mut BlobStream<'_>) -> Result<(), StoreError> + Sync + 'a;

/// Opens a blob for an upload. Called again when a transfer is repeated.
pub type Open<'a> = dyn Fn(&Blob) -> Result<Box<dyn Read + 'a>, StoreError> + Sync + 'a;

/// A repository through which hosts share built steps. Implementations run several requests in
/// parallel, and retry transfers if that may help.
pub trait RemoteCache: Sync {
    /// Returns its name: `registry.example/team/cache`.
    fn name(&self) -> &str;

    /// Returns false if the registry has no repository of this name. Most registries create it with
    /// the first push.
    fn exists(&self) -> Result<bool, RemoteError>;

    /// Returns the manifests with these tags or digests, in order; `None` where there is none. A
    /// manifest requested by digest is verified.
    fn manifests(&self, references: &[TagOrDigest]) -> Vec<Result<Option<Vec<u8>>, RemoteError>>;

    /// Fetches blobs and passes each to `take`; returns the results in order. `take` sees at most
    /// as many bytes as the blob has.
    fn fetch(&self, blobs: &[Blob], take: &Take<'_>) -> Vec<Result<(), RemoteError>>;

    /// Uploads the blobs that the repository lacks. Idempotent.
    fn send(&self, blobs: &[Blob], open: &Open<'_>) -> Result<(), RemoteError>;

    /// Publishes manifests, in any order. The repository must already have the blobs and manifests
    /// that they name. Each publication is atomic and idempotent.
    fn publish(&self, manifests: &[Tagged]) -> Result<(), RemoteError>;

    /// Returns all tags.
    ///
    /// # Errors
    /// [`RemoteError::Failed`], also if the registry lists a text that is not a tag.
    fn tags(&self) -> Result<Vec<Tag>, RemoteError>;

    /// Deletes a manifest with all its tags. Succeeds if the manifest does not exist.
    fn delete(&self, manifest: &Digest) -> Result<(), RemoteError>;
}

impl RemoteError {
    /// Returns the blob of which the registry holds a damaged copy, if that is the reason of the
    /// failure.
    pub fn damaged_blob(&self) -> Option<Digest> {
        match self {
            RemoteError::Damaged { digest, .. } => Some(*digest),
            RemoteError::Store(StoreError::Damaged { expected, .. }) => Some(*expected),
            _ => None,
        }
    }
}

/// A failed operation on a repository.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The registry cannot be reached, refuses the request, or serves unexpected content.
    #[error("cannot {action} `{repository}`")]
    Failed {
        /// An imperative such as `look up steps in`.
        action: &'static str,
        repository: String,
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("cannot fetch a layer from `{repository}`")]
    Damaged {
        repository: String,
        digest: Digest,
        /// The received content.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The registry holds a damaged copy of a blob, and would keep it if the blob were uploaded
    /// again. Another encoding of the layer cannot replace it: the layer belongs to an imported
    /// base, or all encodings are damaged.
    #[error("cannot publish `{step}`: `{repository}` holds a damaged copy of its blob {digest}")]
    KeepsDamaged { repository: String, step: StepName, digest: Digest },
    #[error("the registry of `{repository}` does not allow manifests to be deleted")]
    KeepsAll { repository: String },
    #[error("interrupted")]
    Interrupted,
    #[error(transparent)]
    Store(#[from] StoreError),
}
