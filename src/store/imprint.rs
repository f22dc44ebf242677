//! Imprints of snapshots, which show whether a snapshot has changed since it was unpacked.
//!
//! A snapshot is a plain directory, and every layer that is built on it depends on its content.
//! plywood records the state of each of its files when it makes the snapshot, and compares the
//! states before it uses the snapshot: name, owner, mode, size, modification time, inode number and
//! inode change time. Programs cannot set the inode change time, so it shows a change of content
//! even if the modification time was reset. Comparing the content itself would take too long for
//! each build; [`super::Store::check`] does it.
//!
//! ```text
//! imprints/<name of the snapshot>-<inode number of the snapshot>    digest of the states
//! ```
//!
//! The inode number distinguishes the snapshot from a copy of it, and from one that another process
//! makes at the same time.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::Stat;

use super::Snapshots;
use super::census::list_files;
use super::file::{failed, read_if_there, remove_if_there, write_whole};
use crate::oci::{DiffId, Digest, Hasher};
use crate::port::{IoError, StoreError};
use crate::tree::{Dir, is_whiteout};

/// The result of comparing a snapshot with its imprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SnapshotState {
    /// Unchanged since it was unpacked.
    Intact,
    /// A file in it has changed.
    Changed,
    /// It is another directory than the unpacked one: a copy, or a snapshot of an earlier version
    /// of plywood.
    Unknown,
    Absent,
}

/// The recorded state of a snapshot.
pub(super) struct Imprint {
    inode: u64,
    digest: Digest,
}

impl Imprint {
    /// Returns the state of the unpacked layer in `directory`.
    pub(super) fn of(directory: &Path) -> Result<Self, StoreError> {
        let inode = fs::symlink_metadata(directory).map_err(failed("inspect", directory))?.ino();
        Ok(Self { inode, digest: digest(directory)? })
    }
}

impl Snapshots<'_> {
    /// Saves the imprint of a snapshot, or of the unpacked layer that will be renamed to
    /// `snapshot`.
    pub(super) fn save_imprint(&self, snapshot: &Path, imprint: &Imprint) -> Result<(), StoreError> {
        let path = self.imprint_file(snapshot, imprint.inode);
        write_whole(&path, &self.store.temporary()?, imprint.digest.to_string().as_bytes())
    }

    /// Returns true if a snapshot exists and is intact. Discards a snapshot that is not intact.
    pub(super) fn has_intact(&self, snapshot: &Path, diff_id: &DiffId) -> Result<bool, StoreError> {
        let seen = || self.store.inner.intact.lock().unwrap_or_else(|held| held.into_inner());
        // Each process compares a snapshot once. A second comparison would not help: the snapshot
        // could change after it as well.
        if seen().contains(snapshot) && snapshot.is_dir() {
            return Ok(true);
        }
        match self.state(snapshot)? {
            SnapshotState::Absent => return Ok(false),
            SnapshotState::Intact => {}
            SnapshotState::Changed | SnapshotState::Unknown => {
                if self.discard(snapshot)? == SnapshotState::Changed {
                    self.store.inner.renewed.lock().unwrap_or_else(|held| held.into_inner()).push(*diff_id);
                }
                return Ok(false);
            }
        }
        seen().insert(snapshot.to_owned());
        Ok(true)
    }

    /// Returns the layers whose changed snapshots were discarded since the last call.
    pub(super) fn take_renewed(&self) -> Vec<DiffId> {
        std::mem::take(&mut *self.store.inner.renewed.lock().unwrap_or_else(|held| held.into_inner()))
    }

    /// Compares a snapshot with its imprint.
    pub(super) fn state(&self, snapshot: &Path) -> Result<SnapshotState, StoreError> {
        let Ok(metadata) = fs::symlink_metadata(snapshot) else { return Ok(SnapshotState::Absent) };
        let Some(noted) = read_if_there(&self.imprint_file(snapshot, metadata.ino()))? else {
            return Ok(SnapshotState::Unknown);
        };
        let is_intact = metadata.is_dir()
            && match digest(snapshot) {
                // Another process has discarded the snapshot, and removes its files at the same
                // time.
                Err(StoreError::Io(error)) if error.kind() == io::ErrorKind::NotFound => false,
                digest => digest?.to_string().as_bytes() == noted,
            };
        Ok(if is_intact { SnapshotState::Intact } else { SnapshotState::Changed })
    }

    /// Discards a snapshot, unless it is intact or gone by now. Returns its state.
    fn discard(&self, snapshot: &Path) -> Result<SnapshotState, StoreError> {
        // Created before the lock, because creating it takes the lock. Dropped after the lock is
        // released, because removing a tree takes long.
        let bin = self.store.scratch()?;
        let _lock = self.store.lock_exclusive()?;
        // Compared again: another process may have replaced the snapshot before this one got the
        // lock.
        let state = self.state(snapshot)?;
        if matches!(state, SnapshotState::Changed | SnapshotState::Unknown) {
            fs::rename(snapshot, bin.path().join("snapshot")).map_err(failed("move away", snapshot))?;
        }
        Ok(state)
    }

    /// Removes imprints whose snapshots are gone. The caller holds the exclusive lock: without it,
    /// another process could have saved an imprint and not yet renamed its snapshot.
    pub(super) fn collect_imprints(&self) -> Result<(), StoreError> {
        for path in list_files(&self.store.layout().imprints())? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let snapshot = name
                .rsplit_once('-')
                .map(|(name, inode)| (self.store.layout().snapshots().join(name), inode));
            // A snapshot of this name with another inode number is another snapshot.
            let is_there = snapshot.is_some_and(|(snapshot, inode)| {
                fs::symlink_metadata(snapshot).is_ok_and(|metadata| metadata.ino().to_string() == inode)
            });
            if !is_there {
                remove_if_there(&path)?;
            }
        }
        Ok(())
    }

    fn imprint_file(&self, snapshot: &Path, inode: u64) -> PathBuf {
        let name = snapshot.file_name().unwrap_or_default().to_string_lossy();
        self.store.layout().imprints().join(format!("{name}-{inode}"))
    }
}

/// Returns a digest of the states of everything in `directory`.
fn digest(directory: &Path) -> Result<Digest, StoreError> {
    let root = Dir::open(directory)?;
    let mut hasher = Hasher::default();
    // The rename of the workspace to the snapshot changes the change time of the directory itself,
    // so it is left out.
    let mut stat = root.status()?;
    (stat.st_ctime, stat.st_ctime_nsec) = (0, 0);
    add(&mut hasher, b"", &stat);
    add_directory(&mut hasher, &root)?;
    Ok(hasher.finish())
}

fn add_directory(hasher: &mut Hasher, directory: &Dir<'_>) -> Result<(), IoError> {
    for entry in directory.entries()? {
        let entry = entry?;
        add(hasher, &entry.name, &entry.stat);
        if entry.is_directory() {
            add_directory(hasher, &entry.enter()?)?;
            // Marks the end of a directory. Without the mark, moving a file to the directory above
            // could give the same digest.
            hasher.update(&0u64.to_le_bytes());
        }
    }
    Ok(())
}

fn add(hasher: &mut Hasher, name: &[u8], stat: &Stat) {
    // All removals that overlayfs makes in a workspace are hard links of one inode, and one more
    // link is in its work directory. Removing the workspace removes that link, which changes the
    // change time and the link count. Both are left out.
    let changed = if is_whiteout(stat) { (0, 0) } else { (stat.st_ctime as u64, stat.st_ctime_nsec) };
    let owner = (u64::from(stat.st_uid) << 32) | u64::from(stat.st_gid);
    let numbers = [
        // Never 0, which marks the end of a directory.
        name.len() as u64 + 1,
        stat.st_mode.into(),
        owner,
        stat.st_size as u64,
        stat.st_ino,
        stat.st_rdev,
        stat.st_mtime as u64,
        stat.st_mtime_nsec,
        changed.0,
        changed.1,
    ];
    hasher.update(numbers.map(u64::to_le_bytes).as_flattened());
    hasher.update(name);
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::store::Store;

    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir_all(tree.path().join("a/b")).unwrap();
        for name in ["a/file", "a/b/file"] {
            fs::write(tree.path().join(name), "content").unwrap();
        }
        tree
    }

    /// Writes the same number of different bytes, and resets the modification time.
    fn flip(path: &Path) {
        let modified = fs::metadata(path).unwrap().modified().unwrap();
        fs::write(path, "CONTENT").unwrap();
        File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
    }

    #[test]
    fn every_change_of_a_tree_is_seen() {
        type Change<'a> = (&'a str, &'a dyn Fn(&Path));
        let changes: [Change; 9] = [
            ("flipped", &|root| flip(&root.join("a/b/file"))),
            ("truncated", &|root| fs::write(root.join("a/file"), "").unwrap()),
            ("removed", &|root| fs::remove_file(root.join("a/b/file")).unwrap()),
            ("removed with its directory", &|root| fs::remove_dir_all(root.join("a/b")).unwrap()),
            ("added", &|root| fs::write(root.join("a/new"), "").unwrap()),
            ("renamed", &|root| fs::rename(root.join("a/file"), root.join("a/filE")).unwrap()),
            ("moved", &|root| fs::rename(root.join("a/b/file"), root.join("a/file")).unwrap()),
            ("made writable", &|root| {
                fs::set_permissions(root.join("a/file"), PermissionsExt::from_mode(0o666)).unwrap()
            }),
            ("made anew", &|root| {
                fs::remove_file(root.join("a/file")).unwrap();
                fs::write(root.join("a/file"), "content").unwrap();
            }),
        ];
        for (what, change) in changes {
            let tree = tree();
            let before = digest(tree.path()).unwrap();
            change(tree.path());
            assert_ne!(digest(tree.path()).unwrap(), before, "{what}");
        }
    }

    #[test]
    fn reading_and_renaming_a_tree_change_nothing() {
        let outer = tree();
        let tree = outer.path().join("a");
        let before = digest(&tree).unwrap();
        fs::read(tree.join("file")).unwrap();
        fs::rename(&tree, outer.path().join("snapshot")).unwrap();
        assert_eq!(digest(&outer.path().join("snapshot")).unwrap(), before);
    }

    /// When the work directory of overlayfs is removed, a removal loses one of its hard links.
    #[test]
    fn a_removal_that_loses_a_hard_link_is_unchanged() {
        let outer = tree();
        let tree = outer.path().join("a");
        let directory = Dir::open(&tree).unwrap();
        super::super::overlay::make_whiteout(directory.as_fd(), b"gone").unwrap();
        fs::hard_link(tree.join("gone"), outer.path().join("work")).unwrap();
        let before = digest(&tree).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::remove_file(outer.path().join("work")).unwrap();
        assert_eq!(digest(&tree).unwrap(), before);
    }

    /// The imprint is saved before the snapshot gets its name. A collection in between must not
    /// remove it.
    #[test]
    fn snapshots_that_are_made_during_collections_have_imprints() {
        let outer = tempfile::tempdir().unwrap();
        let store = Store::open(&outer.path().join("store")).unwrap();
        let diff_ids = (0..50).map(|number| DiffId::new(Digest::of(number.to_string())));
        std::thread::scope(|scope| {
            let collecting = scope.spawn(|| {
                for _ in 0..50 {
                    let _lock = store.lock_exclusive().unwrap();
                    store.snapshots().collect_imprints().unwrap();
                }
            });
            for diff_id in diff_ids {
                let directory = store.layout().work().join("new");
                fs::create_dir(&directory).unwrap();
                let snapshot = store.snapshots().put(&directory, &diff_id, None).unwrap();
                assert_eq!(store.snapshots().state(&snapshot).unwrap(), SnapshotState::Intact);
            }
            collecting.join().unwrap();
        });
    }
}
