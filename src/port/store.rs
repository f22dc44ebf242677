//! The port through which the build uses the store of layers.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::IoError;
use crate::distro::{Architecture, BaseSource};
use crate::layer::{CaptureRules, Clamp, Encoding};
use crate::oci::{BlobStream, DamagedBlob, DiffId, Digest};
use crate::plan::{ContentKey, InputKey, Record, StepName};

/// A layer in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    pub diff_id: DiffId,
    /// Bytes of the uncompressed tar.
    pub tar_bytes: u64,
    /// Number of entries in the tar, whiteouts included.
    pub entries: u64,
    /// A blob that holds it.
    pub blob: Digest,
    pub blob_bytes: u64,
    pub encoding: Encoding,
}

/// A base that consists of layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseImage {
    /// Its layers, lowest first, and the blobs that its manifest names.
    pub layers: Vec<Layer>,
    /// Its image config, byte for byte.
    pub config: Vec<u8>,
}

impl BaseImage {
    /// Returns its layers, lowest first.
    pub fn diff_ids(&self) -> Vec<DiffId> {
        self.layers.iter().map(|layer| layer.diff_id).collect()
    }
}

/// Access to keys, layers and unpacked layers.
///
/// Several processes may use one store at the same time.
pub trait LayerStore: Sync {
    /// Returns the record of this input key, if the store has it and its layers. Verifies that the
    /// blob exists and has the recorded size, but not its digest.
    fn by_input(&self, key: InputKey) -> Result<Option<Record>, StoreError>;

    /// Returns the record of this content key; otherwise like [`LayerStore::by_input`].
    fn by_content(&self, key: ContentKey) -> Result<Option<Record>, StoreError>;

    /// Returns every record, in no particular order, to explain a miss.
    fn all_records(&self) -> Result<Vec<Record>, StoreError>;

    /// Saves a record under both keys. Atomic; a second record for the same key replaces the first.
    fn save(&self, record: &Record) -> Result<(), StoreError>;

    /// Returns a layer with one of its blobs, or `None` if the store has no blob of it.
    fn layer(&self, diff_id: &DiffId) -> Result<Option<Layer>, StoreError>;

    /// Stores a layer from elsewhere. Reads the whole blob. Idempotent. Stores nothing if the blob
    /// has another digest, or if the archive in it has another DiffID or size than `layer`.
    fn receive(&self, layer: &Layer, blob: &mut BlobStream<'_>) -> Result<(), StoreError>;

    /// Verifies that the layers of `stack` (lowest first) can be unpacked, each above those below
    /// it. Removes a layer that cannot.
    fn prove(&self, stack: &[DiffId]) -> Result<(), StoreError>;

    /// Creates an empty workspace above `stack` (lowest first). Unpacks layers that are not
    /// unpacked yet.
    fn workspace(&self, stack: &[DiffId]) -> Result<Box<dyn Workspace>, StoreError>;

    /// Returns the layers and the config of a base that consists of layers. Imports it if the store
    /// lacks it.
    fn base_image(&self, source: &BaseSource, architecture: Architecture) -> Result<BaseImage, StoreError>;

    /// Keeps a base from elsewhere, whose layers are in the store, as the base that `source`
    /// defines. Fails if config and layers do not match, or if they are not the image whose
    /// manifest `source` names.
    fn keep_base(&self, source: &BaseSource, base: &BaseImage) -> Result<(), StoreError>;

    /// Records the state of the complete tree below `root`, to detect later changes.
    fn observe(&self, root: &Path) -> Result<Box<dyn ObservedTree>, StoreError>;

    /// Returns a directory that builds share and keep, for downloads of kind `name` (`sources`).
    /// Builds must give the same result without its content.
    fn cache(&self, name: &str) -> Result<PathBuf, StoreError>;
}

/// A directory in which one layer is built. Dropping it removes it. After a crash, the next process
/// removes it.
pub trait Workspace {
    /// Unpacked layers below, lowest first.
    fn lowers(&self) -> &[PathBuf];

    /// Returns the lower layers whose unpacked form had been changed by others. They were unpacked
    /// again.
    fn renewed(&self) -> &[DiffId];

    /// Returns overlayfs's upper directory, which receives the changes.
    fn upper(&self) -> &Path;

    /// Returns overlayfs's work directory.
    fn work(&self) -> &Path;

    /// Creates and returns a scratch directory of this name and mode beside the layer. It never
    /// gets into the layer.
    fn scratch(&self, name: &str, mode: u32) -> Result<PathBuf, StoreError>;

    /// Turns the content of [`Workspace::upper`] into a layer: normalizes it, drops entries that
    /// are the same below, encodes it, and keeps the unpacked form. Returns `None` if nothing
    /// differs. The root must be closed before.
    fn commit(self: Box<Self>, commit: &Commit) -> Result<Option<Layer>, StoreError>;

    /// Keeps the content of [`Workspace::upper`] as the state that a failed hook left. Replaces the
    /// kept state of the same image. The root must be closed before.
    fn keep_failed(self: Box<Self>, failed: &FailedStep) -> Result<(), StoreError>;
}

/// A step that failed, with the layers below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedStep {
    pub image: String,
    pub step: StepName,
    /// For example `install.d`.
    pub phase: String,
    /// The hook or task that failed.
    pub task: String,
    /// The layers below the step, lowest first.
    pub stack: Vec<DiffId>,
}

/// A tree in which hooks change files in place: a mounted disk.
pub trait ObservedTree {
    /// Normalizes everything that changed since the observation began: applies the rules and times
    /// of `commit`, as for a layer. `below` is the tree before the changes.
    fn normalize(self: Box<Self>, below: &Path, commit: &Commit) -> Result<(), StoreError>;
}

/// The settings for capturing a layer.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Limits the modification times of entries.
    pub clamp: Clamp,
    pub rules: CaptureRules,
}

/// A failed operation on the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Io(#[from] IoError),
    #[error("store `{}` has format {found}, but this plywood supports formats up to {known}", path.display())]
    Newer { path: PathBuf, found: u32, known: u32 },
    #[error("`{}` is not a plywood store: {reason}", path.display())]
    NotAStore { path: PathBuf, reason: String },
    /// Another user could write layers into the store, and root would run them or write through
    /// their links.
    #[error("store `{}` {reason}, who could insert links and layers into it", path.display())]
    NotOwn {
        path: PathBuf,
        /// The owner or mode: `belongs to user 1000`.
        reason: String,
    },
    #[error("blob {digest} is missing in the store")]
    MissingBlob { digest: Digest },
    #[error("layer {diff_id} is missing in the store")]
    MissingLayer { diff_id: DiffId },
    #[error("blob {expected} is damaged: its bytes have digest {found}")]
    Damaged { expected: Digest, found: Digest },
    #[error("`{}` has digest {found}, but the base is defined by {expected}", path.display())]
    WrongBase { path: PathBuf, expected: Digest, found: Digest },
    #[error("layer {expected} is damaged: its archive has DiffID {found}")]
    WrongLayer { expected: DiffId, found: DiffId },
    #[error("store `{}` is open for reading only", path.display())]
    ReadOnly { path: PathBuf },
    #[error("`{}` holds more than the {said} bytes in its record", layer.display())]
    LargerThanSaid {
        /// The layer's path, or its source.
        layer: PathBuf,
        said: u64,
    },
    /// A layer is larger than the free space of the store. Its blob may be small.
    #[error("`{}` holds more than the {room} bytes of free space in `{}`", layer.display(), path.display())]
    NoRoom {
        /// The layer's path, or its source.
        layer: PathBuf,
        /// The largest size that fits.
        room: u64,
        path: PathBuf,
    },
    #[error("base image {digest} is not in the store `{}`", path.display())]
    NoBase {
        /// The digest of its manifest.
        digest: Digest,
        path: PathBuf,
    },
    #[error("`{}` is not valid: {reason}", path.display())]
    Invalid { path: PathBuf, reason: String },
    #[error("the store's index `{}` is not valid: {reason}", path.display())]
    DamagedIndex { path: PathBuf, reason: String },
    #[error("cannot import `{}`", path.display())]
    Import { path: PathBuf, source: Box<StoreError> },
    #[error(transparent)]
    Layer(#[from] crate::layer::LayerError),
    #[error("interrupted")]
    Interrupted,
}

impl From<DamagedBlob> for StoreError {
    fn from(DamagedBlob { expected, found }: DamagedBlob) -> Self {
        Self::Damaged { expected, found }
    }
}
