//! Layers, records and unpacked layers in one directory, shared by every build of a machine.
//!
//! ```text
//! plywood-store               {"format":1}: marks the directory as a store
//! oci-layout, index.json      an OCI image layout: skopeo and umoci read it as it is
//! blobs/sha256/<hex>          layers, configs, manifests
//! records/input/<hex>.json    built steps by input key
//! records/content/<hex>.json  built steps by content key
//! records/evidence/<hex>.json files of the build host that the hooks of a step read, by digest
//! layers/<DiffID hex>.json    size of a layer, and its blobs in several encodings
//! snapshots/<DiffID hex>/     a layer unpacked for overlayfs; removals are 0/0 character devices
//! snapshots/<DiffID hex>@<ChainID hex>/  a layer that depends on the layers below it, in this stack
//! imprints/                   states of the files in snapshots, which show later changes
//! boot                        the boot of the machine in which the snapshots were made
//! work/<start>-<pid>-<n>/     directory of one process, which holds a lock on it
//! cache/                      downloads, compressed clusters of the last disks; shared by builds
//! quarantine/                 damaged files
//! logs/                       output of hooks
//! failed/<image>/             the state after a failed hook, if the user asked to keep it
//! lock                        shared to use parts, exclusive to remove parts or to change an index
//! ```
//!
//! [`Store`] opens, locks, verifies ([`Store::check`]) and cleans ([`Store::gc`]) the whole store.
//! Each part has a view, and all views have the same verbs: `put` stores a value, `get` and `find`
//! return one, `list` returns all, `import` verifies and stores bytes from other sources, `remove`
//! removes a value.
//!
//! | view | content |
//! |---|---|
//! | [`Blobs`] | bytes by digest |
//! | [`Layers`] | the blobs of each layer, by DiffID |
//! | [`Snapshots`] | unpacked layers |
//! | [`Records`] | built steps, by input key and content key |
//! | [`Images`] | named manifests: images and artifacts |
//! | [`Bases`], [`Builds`] | images that steps are built on, and the last builds of images |
//! | [`Failures`] | states after failed hooks |
//!
//! # Crash order
//!
//! Every document and blob is written to a temporary file, synced and renamed. Then its directory
//! is synced. Blobs are written before the layer that names them, and layers before the record that
//! names them. Removals have the opposite order. Processes therefore see only complete parts, also
//! after SIGKILL or a power failure. A crash can leave a part that nothing names, and the next
//! collection removes it. Snapshots are not synced: plywood discards the snapshots of an earlier
//! boot and unpacks the layers again.
//!
//! # Locks
//!
//! There is one lock, and it is held briefly.
//!
//! - Shared: to rename a new part to its name, or to read parts that belong together, such as a
//!   record and its layers.
//! - Exclusive: to remove a part, or to change a document that other processes change as well.
//!
//! No long operation runs under the lock: bytes are written and synced before, and trees are moved
//! away under the lock and removed after it. The kernel releases the lock when its holder dies. A
//! function that holds the lock must not call a function that takes it: the second handle would
//! wait for the first one forever.
//!
//! Source: OCI image-spec v1.1, `image-layout.md`; kernel documentation, `overlayfs.rst`,
//! "whiteouts and opaque directories".

mod apply;
#[cfg(test)]
mod apply_tests;
mod artifact;
mod base;
mod below;
#[cfg(test)]
mod bench;
mod blob;
mod build;
mod census;
mod check;
mod compare;
mod deferred;
mod docker;
mod document;
mod encoding;
mod evidence;
mod failed;
mod file;
mod gc;
mod holes;
mod image;
mod import;
mod imprint;
mod interrupt;
mod layers;
mod layout;
mod listing;
mod log;
mod observe;
mod overlay;
mod pack;
mod peek;
mod port;
mod quarantine;
mod receive;
mod record;
mod remove;
mod room;
mod scan;
mod scratch;
mod seal;
mod stored_layer;
mod stored_record;
mod transfer;
mod unpack;
mod workspace;

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

pub use blob::{BlobWriter, Blobs};
pub use build::Builds;
pub use check::CheckReport;
pub use failed::Failures;
pub use gc::{GcPolicy, GcReport};
pub use image::Images;
pub use import::Imported;
pub use layers::Layers;
pub use listing::{ImagesDocument, RemovedDocument, StepsDocument};
pub use record::{ListedRecord, Records};
pub use remove::ListedImage;
pub use transfer::{StoredBlob, StoredImage};

use crate::oci::DiffId;
use crate::port::StoreError;
use file::{Locking, create_private, failed, read_if_there, remove_path, write_whole};
use interrupt::Interrupt;
use layout::Layout;
use scratch::Scratch;

/// A store on disk. Clones refer to the same store.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

/// The bases of a store: images that steps are built on.
#[derive(Debug, Clone, Copy)]
pub struct Bases<'a> {
    store: &'a Store,
}

/// The snapshots of a store: layers that are unpacked for overlayfs.
#[derive(Debug, Clone, Copy)]
pub struct Snapshots<'a> {
    store: &'a Store,
}

#[derive(Debug)]
struct Inner {
    layout: Layout,
    /// For temporary files of this process. `None` if the store is open read-only.
    scratch: Option<Scratch>,
    temporaries: AtomicU64,
    /// Documents that this process could not read and has moved to quarantine.
    set_aside: AtomicU64,
    interrupt: Interrupt,
    /// Snapshots that this process has found intact.
    intact: Mutex<BTreeSet<PathBuf>>,
    /// Layers whose snapshots this process has found changed.
    renewed: Mutex<Vec<DiffId>>,
}

/// A held lock on the store, released when dropped.
#[derive(Debug)]
struct Lock(#[expect(dead_code, reason = "closing the file releases the lock")] File);

impl Store {
    /// Opens the store at `path`. Creates one if the directory is missing or empty. Removes files
    /// that killed processes left.
    ///
    /// # Errors
    /// [`StoreError::NotAStore`], [`StoreError::Newer`], [`StoreError::Io`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_until(path, Arc::default())
    }

    /// Opens the store as [`Store::open`] does. Reading and writing layers fails soon after
    /// `interrupted` becomes true.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_until(path: &Path, interrupted: Arc<AtomicBool>) -> Result<Self, StoreError> {
        let layout = Layout::open(path)?;
        sweep(&layout)?;
        let _lock = lock(&layout, Locking::Shared)?;
        let scratch = Scratch::create(&layout.work())?;
        Ok(Self::new(layout, Some(scratch), Interrupt::when(interrupted)))
    }

    /// Opens the store at `path` for a user who may only read it. Calls that would change it fail.
    /// Steps that saw secrets are not found: see [`Store::seal`].
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_to_read(path: &Path) -> Result<Self, StoreError> {
        Ok(Self::new(Layout::open_to_read(path)?, None, Interrupt::default()))
    }

    fn new(layout: Layout, scratch: Option<Scratch>, interrupt: Interrupt) -> Self {
        let (temporaries, set_aside, intact, renewed) = Default::default();
        let inner = Inner { layout, scratch, temporaries, set_aside, interrupt, intact, renewed };
        Self { inner: Arc::new(inner) }
    }

    /// Returns the absolute path of the store.
    pub fn path(&self) -> &Path {
        self.layout().root()
    }

    /// Returns the directory for the output of hooks.
    pub fn logs(&self) -> PathBuf {
        self.layout().logs()
    }

    /// Returns the store's blobs.
    pub const fn blobs(&self) -> Blobs<'_> {
        Blobs { store: self }
    }

    /// Returns the store's records of built steps.
    pub const fn records(&self) -> Records<'_> {
        Records { store: self }
    }

    /// Returns the store's layers.
    pub const fn layers(&self) -> Layers<'_> {
        Layers { store: self }
    }

    /// Returns the store's unpacked layers.
    pub const fn snapshots(&self) -> Snapshots<'_> {
        Snapshots { store: self }
    }

    /// Returns the store's named images.
    pub const fn images(&self) -> Images<'_> {
        Images { store: self }
    }

    /// Returns the store's bases.
    pub const fn bases(&self) -> Bases<'_> {
        Bases { store: self }
    }

    /// Returns the last builds of images.
    pub const fn builds(&self) -> Builds<'_> {
        Builds { store: self }
    }

    /// Returns the kept states of failed hooks.
    pub const fn failures(&self) -> Failures<'_> {
        Failures { store: self }
    }

    /// Returns the number of records and other documents that this process could not read, and the
    /// directory to which it has moved them. They are damaged, or another version of plywood wrote
    /// them.
    pub fn set_aside(&self) -> (u64, PathBuf) {
        (self.inner.set_aside.load(Ordering::Relaxed), self.layout().quarantine())
    }

    /// Returns the flag that ends long operations.
    fn interrupt(&self) -> &Interrupt {
        &self.inner.interrupt
    }

    fn layout(&self) -> &Layout {
        &self.inner.layout
    }

    /// Returns an unused path for a temporary file.
    fn temporary(&self) -> Result<PathBuf, StoreError> {
        let number = self.inner.temporaries.fetch_add(1, Ordering::Relaxed);
        Ok(self.own_scratch()?.path().join(number.to_string()))
    }

    fn is_read_only(&self) -> bool {
        self.inner.scratch.is_none()
    }

    fn own_scratch(&self) -> Result<&Scratch, StoreError> {
        let read_only = || StoreError::ReadOnly { path: self.path().to_owned() };
        self.inner.scratch.as_ref().ok_or_else(read_only)
    }

    /// Creates a temporary directory on the file system of the store. It is removed when the result
    /// is dropped. Takes the shared lock.
    fn scratch(&self) -> Result<Scratch, StoreError> {
        self.own_scratch()?;
        let _lock = self.lock_shared()?;
        Scratch::create(&self.layout().work())
    }

    fn lock_shared(&self) -> Result<Lock, StoreError> {
        lock(self.layout(), Locking::Shared)
    }

    fn lock_exclusive(&self) -> Result<Lock, StoreError> {
        lock(self.layout(), Locking::Exclusive)
    }
}

fn lock(layout: &Layout, operation: Locking) -> Result<Lock, StoreError> {
    let path = layout.lock();
    let file = File::open(&path).map_err(failed("open", &path))?;
    file::lock(&file, operation, &path)?;
    Ok(Lock(file))
}

/// Removes the files of killed processes, and snapshots of an earlier boot. Does nothing while
/// another process holds the lock.
fn sweep(layout: &Layout) -> Result<(), StoreError> {
    let path = layout.lock();
    let file = File::open(&path).map_err(failed("open", &path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(()),
        result => result.map_err(failed("lock", &path))?,
    }
    discard_unsynced(layout)?;
    let orphans = scratch::orphans(&layout.work())?;
    drop(file);
    // Without the lock, because removing may take long. Several processes can remove the same tree
    // at once.
    orphans.iter().try_for_each(|path| remove_path(path))
}

/// The version of the way in which layers are unpacked. Snapshots of another version are discarded.
const SNAPSHOTS_FORM: &[u8] = b"form 2\n";

/// Discards all snapshots of an earlier boot, because a power failure may have damaged them. Their
/// blobs stay.
fn discard_unsynced(layout: &Layout) -> Result<(), StoreError> {
    let mut current = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    current.extend_from_slice(SNAPSHOTS_FORM);
    let recorded = read_if_there(&layout.boot())?;
    if recorded.as_deref() == Some(&current) {
        return Ok(());
    }
    if recorded.is_some() {
        let snapshots = layout.snapshots();
        let orphan = layout.work().join(format!("0-snapshots-{}", std::process::id()));
        std::fs::rename(&snapshots, &orphan).map_err(failed("move away", &snapshots))?;
        create_private(&snapshots)?;
    }
    write_whole(&layout.boot(), &layout.work().join(format!("0-boot-{}", std::process::id())), &current)
}
