//! Disks and root file systems in memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::fake::World;
use crate::disk::{Content, Layout};
use crate::port::*;

/// The files of a root file system, by their absolute paths.
pub(crate) type Tree = BTreeMap<String, Vec<u8>>;

/// The layers of an image, merged.
const MERGED: &str = "merged";

/// The mount point of a disk.
pub(super) const DISK: &str = "disk";

#[derive(Default)]
pub(super) struct Disks {
    trees: Mutex<BTreeMap<PathBuf, Tree>>,
    /// The call that is to fail.
    failing: Mutex<Option<&'static str>>,
    calls: Mutex<Vec<&'static str>>,
    open: Mutex<Vec<&'static str>>,
    finished: Mutex<Vec<BootImages>>,
}

impl World {
    /// Lets the merged layers have these files, and no others.
    pub(crate) fn merge(&self, files: &[(&str, &str)]) {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()));
        self.0.disks.trees.lock().unwrap().insert(MERGED.into(), files.collect());
    }

    /// Returns the files below a root.
    pub(crate) fn tree(&self, root: impl AsRef<Path>) -> Tree {
        self.0.disks.trees.lock().unwrap().get(root.as_ref()).cloned().unwrap_or_default()
    }

    /// Lets this call to the writer of disks, or to a disk, fail.
    pub(crate) fn fail_disk(&self, call: &'static str) {
        *self.0.disks.failing.lock().unwrap() = Some(call);
    }

    /// Returns the calls to the writer of disks and to disks.
    pub(crate) fn disk_calls(&self) -> Vec<&'static str> {
        self.0.disks.calls.lock().unwrap().clone()
    }

    /// Returns the disks, roots and workspaces that are open.
    pub(crate) fn still_open(&self) -> Vec<&'static str> {
        self.0.disks.open.lock().unwrap().clone()
    }

    /// Returns the boot images of the disks that are complete.
    pub(crate) fn finished_disks(&self) -> Vec<BootImages> {
        self.0.disks.finished.lock().unwrap().clone()
    }

    /// Programs are the files of the usual directories.
    pub(super) fn look(&self, root: &Path, path: &str) -> Option<EntryKind> {
        let tree = self.tree(root);
        let below = format!("{path}/");
        let is_executable = path.contains("/bin/") || path.contains("/sbin/");
        let file = tree.contains_key(path).then_some(EntryKind::File { is_executable });
        let is_directory = tree.keys().any(|other| other.starts_with(&below));
        file.or(is_directory.then_some(EntryKind::Directory))
    }

    pub(super) fn put_file(&self, root: &Path, path: &str, content: &[u8]) {
        let mut trees = self.0.disks.trees.lock().unwrap();
        trees.entry(root.to_owned()).or_default().insert(path.to_owned(), content.to_vec());
    }

    pub(super) fn remove_file(&self, root: &Path, path: &str) {
        self.0.disks.trees.lock().unwrap().entry(root.to_owned()).or_default().remove(path);
    }

    pub(super) fn copy_file(&self, root: &Path, from: &str, to: &str) {
        let content = self.tree(root)[from].clone();
        self.put_file(root, to, &content);
    }

    fn call(&self, call: &'static str) -> Result<(), DiskError> {
        self.0.disks.calls.lock().unwrap().push(call);
        match *self.0.disks.failing.lock().unwrap() {
            Some(failing) if failing == call => Err(DiskError::NoDeviceMapper),
            _ => Ok(()),
        }
    }
}

/// Counts as open until it is dropped.
pub(super) struct Open {
    world: World,
    name: &'static str,
}

impl Open {
    pub(super) fn new(world: &World, name: &'static str) -> Self {
        world.0.disks.open.lock().unwrap().push(name);
        Self { world: world.clone(), name }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut open = self.world.0.disks.open.lock().unwrap();
        let place = open.iter().position(|name| *name == self.name).unwrap();
        open.remove(place);
    }
}

impl DiskWriter for World {
    fn measure(&self, _: &Path) -> Result<Content, DiskError> {
        self.call("measure")?;
        Ok(Content { bytes: 1 << 20, entries: 1, blocks: 256, inodes: 1 })
    }

    fn ask_for_space(&self, _: Content, _: &Path) -> Result<(), DiskError> {
        self.call("ask for space")
    }

    fn create(&self, _: &Layout, _: &Path) -> Result<Box<dyn OpenDisk>, DiskError> {
        self.call("create")?;
        Ok(Box::new(FakeDisk { world: self.clone(), _open: Open::new(self, "disk") }))
    }
}

struct FakeDisk {
    world: World,
    _open: Open,
}

impl OpenDisk for FakeDisk {
    fn root(&self) -> &Path {
        Path::new(DISK)
    }

    fn fill(&mut self, source: &Path) -> Result<(), DiskError> {
        self.world.call("fill")?;
        let tree = self.world.tree(source);
        self.world.0.disks.trees.lock().unwrap().insert(DISK.into(), tree);
        Ok(())
    }

    fn devices(&mut self) -> Result<Vec<DiskDevice>, DiskError> {
        self.world.call("devices")?;
        Ok(Vec::new())
    }

    fn finish(self: Box<Self>, boot: &BootImages) -> Result<(), DiskError> {
        self.world.call("finish")?;
        self.world.0.disks.finished.lock().unwrap().push(boot.clone());
        Ok(())
    }
}

/// A tree that does not normalize changes.
pub(super) struct FakeTree;

impl ObservedTree for FakeTree {
    fn normalize(self: Box<Self>, _: &Path, _: &Commit) -> Result<(), StoreError> {
        Ok(())
    }
}
