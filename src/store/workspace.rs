//! Workspaces: each one makes one layer.

use std::fs::{self, Permissions};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, utimensat};
use rustix::io::Errno;

use super::Store;
use super::below::MergedDir;
use super::file::{create_directories, failed, open_beneath, open_directory, remove_tree, split};
use super::overlay::{apply_meta, make_whiteout};
use super::pack::pack;
use super::scan::scan;
use super::scratch::{Scratch, seconds_now};
use crate::layer::{Changeset, Entry, Kind, Meta, Times, diff};
use crate::oci::{ChainId, DiffId};
use crate::port::{Commit, FailedStep, Layer, StoreError, Workspace};
use crate::tree::{FileRef, timestamps};

/// A workspace in the store.
pub(super) struct LayerWorkspace {
    store: Store,
    scratch: Scratch,
    stack: Vec<DiffId>,
    lowers: Vec<PathBuf>,
    renewed: Vec<DiffId>,
    upper: PathBuf,
    work: PathBuf,
    created: i64,
}

impl LayerWorkspace {
    pub(super) fn create(store: Store, stack: &[DiffId]) -> Result<Self, StoreError> {
        let scratch = store.scratch()?;
        let lowers = store.snapshots().unpack(stack)?;
        // Read at once, so that the list has only layers of this stack.
        let renewed = store.snapshots().take_renewed();
        let (upper, work) = (scratch.path().join("upper"), scratch.path().join("work"));
        for directory in [&upper, &work] {
            let made = std::fs::DirBuilder::new().mode(0o755).create(directory);
            made.map_err(failed("create directory", directory))?;
        }
        prepare_root(&upper, lowers.last().map(PathBuf::as_path))?;
        let created = seconds_now() as i64;
        Ok(Self { store, scratch, stack: stack.to_vec(), lowers, renewed, upper, work, created })
    }

    /// Makes the upper directory equal to the unpacked layer.
    fn settle(&self, changeset: &Changeset) -> Result<(), StoreError> {
        let root = open_directory(&self.upper)?;
        let settle = || -> Result<(), Errno> {
            for path in &changeset.dropped {
                let (parent, name) = split(path);
                remove_tree(open_beneath(&root, parent, super::file::DIRECTORY)?.as_fd(), name)?;
            }
            changeset.entries.iter().try_for_each(|entry| hide(root.as_fd(), entry))?;
            // Last, because every change in a directory sets its time.
            changeset.entries.iter().try_for_each(|entry| date(root.as_fd(), entry))
        };
        settle().map_err(failed("finish", &self.upper))
    }

    fn keep_snapshot(&self, diff_id: &DiffId, changeset: &Changeset) -> Result<(), StoreError> {
        // The layer depends on others only if it has removals: plywood's changesets list all
        // directories, and copy files instead of linking to files of lower layers.
        let leans = changeset.entries.iter().any(|entry| entry.kind == Kind::Whiteout);
        let chain = if leans { ChainId::of(&[self.stack.as_slice(), &[*diff_id]].concat()) } else { None };
        self.store.snapshots().put(&self.upper, diff_id, chain.as_ref()).map(drop)
    }
}

impl Workspace for LayerWorkspace {
    fn lowers(&self) -> &[PathBuf] {
        &self.lowers
    }

    fn renewed(&self) -> &[DiffId] {
        &self.renewed
    }

    fn upper(&self) -> &Path {
        &self.upper
    }

    fn work(&self) -> &Path {
        &self.work
    }

    fn scratch(&self, name: &str, mode: u32) -> Result<PathBuf, StoreError> {
        let path = self.scratch.path().join("scratch").join(name);
        create_directories(&path)?;
        // Set explicitly, because the umask must not decide: programs of other users may have to
        // write there.
        fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(failed("set the mode of", &path))?;
        Ok(path)
    }

    fn commit(self: Box<Self>, commit: &Commit) -> Result<Option<Layer>, StoreError> {
        let root = open_directory(&self.upper)?;
        let times = Times { clamp: commit.clamp.clone(), started: self.created, ended: seconds_now() as i64 };
        let tree = scan(&self.upper, commit, &times)?;
        let upper = open_directory(&self.upper)?;
        let below = MergedDir::open(&self.lowers, upper, commit.clamp.clone())?;
        let changeset = diff(&tree, below.as_ref())?;
        if changeset.entries.is_empty() {
            return Ok(None);
        }
        let layer =
            pack(&changeset.entries, root.as_fd(), self.store.blobs().writer()?, self.store.interrupt())?;
        // Before the snapshot: blob and document must be durable before other parts depend on the
        // layer.
        self.store.layers().put(&layer)?;
        self.settle(&changeset)?;
        self.keep_snapshot(&layer.diff_id, &changeset)?;
        Ok(Some(layer))
    }

    fn keep_failed(self: Box<Self>, failed: &FailedStep) -> Result<(), StoreError> {
        self.store.failures().put(failed, &self.upper)
    }
}

/// Copies mode, owner and attributes of the root below to the upper directory, because overlayfs
/// shows those of the highest layer.
fn prepare_root(upper: &Path, below: Option<&Path>) -> Result<(), StoreError> {
    let to = open_directory(upper)?;
    let meta = match below {
        Some(path) => {
            let from = open_directory(path)?;
            FileRef::Open(from.as_fd()).describe().map_err(failed("inspect", path))?.1
        }
        None => Meta::IMPLIED_DIRECTORY,
    };
    apply_meta(to.as_fd(), b".", &Kind::Directory, &meta).map_err(failed("prepare", upper))
}

/// Creates removals of the changeset that overlayfs has expressed by an opaque directory.
fn hide(root: BorrowedFd<'_>, entry: &Entry) -> Result<(), Errno> {
    if entry.kind != Kind::Whiteout {
        return Ok(());
    }
    let (parent, name) = split(&entry.path);
    match make_whiteout(open_beneath(root, parent, super::file::DIRECTORY)?.as_fd(), name) {
        Err(Errno::EXIST) => Ok(()),
        result => result,
    }
}

fn date(root: BorrowedFd<'_>, entry: &Entry) -> Result<(), Errno> {
    if entry.kind != Kind::Directory {
        return Ok(());
    }
    let directory = open_beneath(root, &entry.path, super::file::DIRECTORY)?;
    utimensat(directory, ".", &timestamps(entry.meta.mtime), AtFlags::empty())
}
