//! Layers, records and unpacked layers in one directory, shared by every build of a machine.
//!
//! ```text
//! plywood-store               {"format":1}: marks the directory as a store
//! oci-layout, index.json      an OCI image layout: skopeo and umoci read it as it is
//! blobs/sha256/<hex>          layers, configs, manifests
//! records/input/<hex>.json    built steps by input key
//! records/content/<hex>.json  the same by content key
//! records/evidence/<hex>.json what the hooks of a step read of the build host, by digest
//! layers/<DiffID hex>.json    size of a layer, and its blobs in several encodings
//! snapshots/<DiffID hex>/     a layer unpacked for overlayfs; removals are 0/0 character devices
//! snapshots/<DiffID hex>@<ChainID hex>/  one that leans on the layers below it, in this stack
//! imprints/                   states of the files in snapshots, which show later changes
//! boot                        the boot of the machine that the snapshots belong to
//! work/<start>-<pid>-<n>/     of one owner, who holds a lock on it; swept when the owner is gone
//! cache/                      downloads, compressed clusters of the last disks; shared by builds
//! quarantine/                 what was found damaged
//! logs/                       output of hooks
//! failed/<image>/             the state after a failed hook, if the user asked to keep it
//! lock                        shared to use something, exclusive to take something away or to change an index
//! ```
//!
//! [`Store`] opens, locks, verifies ([`Store::check`]) and cleans ([`Store::gc`]) all of it.
//! Everything else is done through a view of one part, with the same verbs for each: `put` stores,
//! `get` and `find` return what is there, `list` returns all, `import` stores bytes from elsewhere
//! once they are verified, `remove` takes out of use.
//!
//! | view | what it holds |
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
//! Every document and blob is written to a temporary file, synced, then renamed, and its directory
//! is synced. Blobs come before the layer that names them, layers before the record that names
//! them; removals go the other way round. So whatever a process sees is whole, also after SIGKILL
//! or a power failure: a crash leaves at worst a part that nothing names yet, and the next
//! collection removes it. Snapshots are not synced; those of an earlier boot are thrown away and
//! unpacked again.
//!
//! # Locks
//!
//! There is one lock, held for moments. Shared: to give a part its name, or to look at parts that
//! must stay together until the look ends, such as a record and its layers. Alone: to take
//! something away, or to change a document that others change as well. Nothing long happens under
//! it: bytes are written and synced before, and trees that were moved away are removed after. The
//! kernel releases the lock when its holder dies. A function that holds it calls none that takes
//! it: a second handle of the same process would wait for the first one for ever.
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

/// A store on disk. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

/// The bases of a store: images that steps are built on.
#[derive(Debug, Clone, Copy)]
pub struct Bases<'a> {
    store: &'a Store,
}

/// The snapshots of a store: unpacked layers, as overlayfs needs them.
#[derive(Debug, Clone, Copy)]
pub struct Snapshots<'a> {
    store: &'a Store,
}

#[derive(Debug)]
struct Inner {
    layout: Layout,
    /// For temporary files of this process. `None` where nothing may be written.
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
    /// Opens the store at `path`; makes one where there is nothing or an empty directory. Removes
    /// what killed processes left.
    ///
    /// # Errors
    /// [`StoreError::NotAStore`], [`StoreError::Newer`], [`StoreError::Io`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_until(path, Arc::default())
    }

    /// Opens the store as [`Store::open`]. Reading and writing layers fails soon after
    /// `interrupted` became true.
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

    /// Opens the store at `path` for a user who may only read it. Nothing in it changes; calls that
    /// would change it fail. Steps that saw secrets are not found: see [`Store::seal`].
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

    /// Returns the store's directory, absolute.
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

    /// Returns how many records and other documents this process could not read, and the directory
    /// that it has moved them to: they are damaged, or another version of plywood wrote them.
    pub fn set_aside(&self) -> (u64, PathBuf) {
        (self.inner.set_aside.load(Ordering::Relaxed), self.layout().quarantine())
    }

    /// Returns the flag that ends long work.
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

    /// Makes a directory of its own, on the store's file system, that vanishes with the result.
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
    // Without the lock, as removing may take long. Several sweeps can remove the same tree at once.
    orphans.iter().try_for_each(|path| remove_path(path))
}

/// Increases when layers are unpacked in another way. Snapshots of another form are discarded.
const SNAPSHOTS_FORM: &[u8] = b"form 2\n";

/// Throws snapshots away that a power failure may have damaged: all of an earlier boot. Their blobs
/// stay.
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
