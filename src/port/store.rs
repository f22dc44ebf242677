//! The store of layers, as the build sees it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::IoError;
use crate::distro::{Architecture, BaseSource};
use crate::layer::{CaptureRules, Encoding};
use crate::oci::{BlobStream, DamagedBlob, DiffId, Digest};
use crate::plan::{ContentKey, InputKey, Record};

/// A layer that the store holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    pub diff_id: DiffId,
    /// Bytes of the uncompressed tar.
    pub tar_bytes: u64,
    /// Number of entries in the tar, whiteouts included.
    pub entries: u64,
    /// The blob that holds it.
    pub blob: Digest,
    /// Bytes of the blob.
    pub blob_bytes: u64,
    pub encoding: Encoding,
}

/// A base that comes as layers.
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

/// Keys, layers and unpacked layers on disk.
///
/// Several processes may use one store at once.
pub trait LayerStore: Sync {
    /// Returns the record of this input key, if the store has it and its layer. Verifies that the blob is there and of
    /// the recorded size, not its digest.
    fn by_input(&self, key: InputKey) -> Result<Option<Record>, StoreError>;

    /// Returns the record of this content key; otherwise as [`LayerStore::by_input`].
    fn by_content(&self, key: ContentKey) -> Result<Option<Record>, StoreError>;

    /// Returns every record, in no particular order: to explain a miss.
    fn all_records(&self) -> Result<Vec<Record>, StoreError>;

    /// Saves a record under both its keys. Atomic; a second save of the same key wins.
    fn save(&self, record: &Record) -> Result<(), StoreError>;

    /// Returns a layer with one of its blobs, or `None` if the store has no blob of it.
    fn layer(&self, diff_id: &DiffId) -> Result<Option<Layer>, StoreError>;

    /// Takes in a layer from elsewhere: reads all of its blob. Idempotent; stores the layer if the blob is what it should be and
    /// the archive in it has DiffID and size of `layer`, and else nothing of it.
    fn receive(&self, layer: &Layer, blob: &mut BlobStream<'_>) -> Result<(), StoreError>;

    /// Verifies that the layers of `stack` (lowest first) can be unpacked, each above those below it. A layer that cannot
    /// is removed.
    fn prove(&self, stack: &[DiffId]) -> Result<(), StoreError>;

    /// Makes an empty workspace above `stack` (lowest first); unpacks layers that are not unpacked yet.
    fn workspace(&self, stack: &[DiffId]) -> Result<Box<dyn Workspace>, StoreError>;

    /// Returns the layers and the config of a base that comes as layers; takes it in if it is not here.
    fn base_image(&self, source: &BaseSource, architecture: Architecture) -> Result<BaseImage, StoreError>;

    /// Keeps a base that came from elsewhere, whose layers are in the store, as that which `source` defines. Fails unless config and
    /// layers belong together, and unless they are the image that `source` names by its manifest.
    fn keep_base(&self, source: &BaseSource, base: &BaseImage) -> Result<(), StoreError>;

    /// Begins to tell what changes below `root`, which is complete, from what is there now.
    fn observe(&self, root: &Path) -> Result<Box<dyn ObservedTree>, StoreError>;

    /// Returns a directory that is kept between builds and shared by them, for downloads of kind `name`
    /// (`sources`). Nothing in it may be needed for a right result.
    fn cache(&self, name: &str) -> Result<PathBuf, StoreError>;
}

/// A place to make one layer in. Dropping it removes it; a crash leaves a directory that the next process removes.
pub trait Workspace {
    /// Unpacked layers below, lowest first.
    fn lowers(&self) -> &[PathBuf];

    /// Returns the layers below whose unpacked form had been changed by others. They were unpacked again.
    fn renewed(&self) -> &[DiffId];

    /// Receives the changes: overlayfs' upper directory.
    fn upper(&self) -> &Path;

    /// Overlayfs' work directory.
    fn work(&self) -> &Path;

    /// Makes and returns a scratch directory of this name and mode beside the layer; it never gets into it.
    fn scratch(&self, name: &str, mode: u32) -> Result<PathBuf, StoreError>;

    /// Turns what is in [`Workspace::upper`] into a layer: normalizes it, drops what does not differ from below,
    /// encodes, and keeps the unpacked form. `None` if nothing differs. The root must be closed before.
    fn commit(self: Box<Self>, commit: &Commit) -> Result<Option<Layer>, StoreError>;

    /// Keeps what is in [`Workspace::upper`] as the state that a failed hook left, in place of the one that was kept before
    /// for the same image. The root must be closed before.
    fn keep_failed(self: Box<Self>, failed: &FailedStep) -> Result<(), StoreError>;
}

/// A step that failed, and what it stands on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedStep {
    pub image: String,
    /// The step's name.
    pub step: String,
    /// The phase in which it failed: `install.d`.
    pub phase: String,
    /// The hook or task that failed.
    pub task: String,
    /// The layers below the step, lowest first.
    pub stack: Vec<DiffId>,
}

/// A tree in which hooks change files in place: a mounted disk.
pub trait ObservedTree {
    /// Gives everything that changed since the observation began the form that a layer would have: what the rules of
    /// `commit` drop, empty or rewrite, and times. `below` is the tree as it was.
    fn normalize(self: Box<Self>, below: &Path, commit: &Commit) -> Result<(), StoreError>;
}

/// How a layer is captured.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Latest modification time an entry may have, in seconds since 1970; later ones are clamped to it.
    pub source_date_epoch: i64,
    pub rules: CaptureRules,
}

/// A store that cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Io(#[from] IoError),
    #[error("store `{}` has format {found}, this plywood knows formats up to {known}", path.display())]
    Newer {
        path: PathBuf,
        found: u32,
        /// Ours.
        known: u32,
    },
    #[error("`{}` is not a plywood store: {reason}", path.display())]
    NotAStore { path: PathBuf, reason: String },
    /// Another user could put anything into the store that root would run or write to.
    #[error("store `{}` {reason}, who could plant links and layers in it", path.display())]
    NotOwn {
        path: PathBuf,
        /// Whose it is: `belongs to user 1000`.
        reason: String,
    },
    #[error("blob {digest} is missing in the store")]
    MissingBlob { digest: Digest },
    #[error("layer {diff_id} is missing in the store")]
    MissingLayer { diff_id: DiffId },
    #[error("blob {expected} is damaged: its bytes have digest {found}")]
    Damaged { expected: Digest, found: Digest },
    #[error("`{}` has digest {found}, but the base is defined by {expected}", path.display())]
    WrongBase {
        path: PathBuf,
        /// As the definition has it.
        expected: Digest,
        found: Digest,
    },
    #[error("layer {expected} is not what it should be: its archive has DiffID {found}")]
    WrongLayer {
        /// What it is said to be.
        expected: DiffId,
        found: DiffId,
    },
    #[error("store `{}` may only be read", path.display())]
    ReadOnly { path: PathBuf },
    #[error("`{}` holds more than the {said} bytes that its record says", layer.display())]
    LargerThanSaid {
        /// Where the layer comes from.
        layer: PathBuf,
        /// How large it is said to be.
        said: u64,
    },
    /// A layer is larger than the store can take. Its blob may be small.
    #[error("`{}` holds more than the {room} bytes that there is room for in `{}`", layer.display(), path.display())]
    NoRoom {
        /// The layer, or where it comes from.
        layer: PathBuf,
        /// How large it may be.
        room: u64,
        path: PathBuf,
    },
    #[error("base image {digest} is not in the store `{}`", path.display())]
    NoBase {
        /// Of its manifest.
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
