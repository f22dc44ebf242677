//! Whether unpacked layers are still as they were unpacked.
//!
//! A snapshot is a plain directory, and what is built on it or copied from it is trusted. So the state of every file in it is
//! noted when it is made, and looked at again before it is used: names, owners, modes, sizes, times, inode numbers and the times
//! of the inodes' last change, which nobody can set. Content is not read: that takes too long for each build, and
//! [`Store::check`] does it.
//!
//! ```text
//! imprints/<name of the snapshot>-<inode number of the snapshot>    digest of the states
//! ```
//!
//! The inode number tells the snapshot that was noted from a copy of it, and from one that another process makes meanwhile.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, Stat, openat, statat};
use rustix::io::Errno;

use super::Store;
use super::census::list_files;
use super::file::{DIRECTORY, failed, names, open_directory, read_if_there, remove_if_there, write_whole};
use crate::oci::{DiffId, Digest, Hasher};
use crate::port::StoreError;

/// What a look at a snapshot gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SnapshotState {
    /// It is as it was unpacked.
    Intact,
    /// Something in it was changed.
    Changed,
    /// It is not the directory that was unpacked: a copy of it, or made by an earlier plywood.
    Unknown,
    /// There is none.
    Absent,
}

impl Store {
    /// Notes the state of the unpacked layer in `directory`, which becomes `snapshot` next.
    pub(super) fn note_imprint(&self, directory: &Path, snapshot: &Path) -> Result<(), StoreError> {
        let inode = fs::symlink_metadata(directory).map_err(failed("inspect", directory))?.ino();
        let imprint = imprint(directory)?.to_string();
        write_whole(&self.imprint_file(snapshot, inode), &self.temporary()?, imprint.as_bytes())
    }

    /// Says whether a snapshot is there and intact. Takes one that is not out of use.
    pub(super) fn has_intact(&self, snapshot: &Path, diff_id: &DiffId) -> Result<bool, StoreError> {
        let seen = || self.inner.intact.lock().unwrap_or_else(|held| held.into_inner());
        // Looking at every file once for each process is enough: nobody can tell what happens after a look.
        if seen().contains(snapshot) && snapshot.is_dir() {
            return Ok(true);
        }
        match self.snapshot_state(snapshot)? {
            SnapshotState::Absent => return Ok(false),
            SnapshotState::Intact => {}
            state => {
                if state == SnapshotState::Changed {
                    self.inner.renewed.lock().unwrap_or_else(|held| held.into_inner()).push(*diff_id);
                }
                self.discard_snapshot(snapshot)?;
                return Ok(false);
            }
        }
        seen().insert(snapshot.to_owned());
        Ok(true)
    }

    /// Returns the layers whose snapshots were found changed since the last call.
    pub(super) fn take_renewed(&self) -> Vec<DiffId> {
        std::mem::take(&mut *self.inner.renewed.lock().unwrap_or_else(|held| held.into_inner()))
    }

    /// Compares a snapshot with its imprint.
    pub(super) fn snapshot_state(&self, snapshot: &Path) -> Result<SnapshotState, StoreError> {
        let Ok(metadata) = fs::symlink_metadata(snapshot) else { return Ok(SnapshotState::Absent) };
        let Some(noted) = read_if_there(&self.imprint_file(snapshot, metadata.ino()))? else {
            return Ok(SnapshotState::Unknown);
        };
        let is_intact = metadata.is_dir() && imprint(snapshot)?.to_string().as_bytes() == noted;
        Ok(if is_intact { SnapshotState::Intact } else { SnapshotState::Changed })
    }

    /// Takes a snapshot out of use, unless another process has replaced it meanwhile.
    fn discard_snapshot(&self, snapshot: &Path) -> Result<(), StoreError> {
        // Made before the lock, which making it needs, and removed after it is released.
        let bin = self.scratch()?;
        let _lock = self.lock_exclusive()?;
        if matches!(self.snapshot_state(snapshot)?, SnapshotState::Changed | SnapshotState::Unknown) {
            fs::rename(snapshot, bin.path().join("snapshot")).map_err(failed("move away", snapshot))?;
        }
        Ok(())
    }

    /// Removes imprints whose snapshots are gone.
    pub(super) fn collect_imprints(&self) -> Result<(), StoreError> {
        for path in list_files(&self.layout().imprints())? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let snapshot =
                name.rsplit_once('-').map(|(name, inode)| (self.layout().snapshots().join(name), inode));
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
        self.layout().imprints().join(format!("{name}-{inode}"))
    }
}

/// Returns a digest of the states of everything in `directory`.
fn imprint(directory: &Path) -> Result<Digest, StoreError> {
    let error = || failed::<Errno>("inspect", directory);
    let root = open_directory(directory)?;
    let mut hasher = Hasher::default();
    // Getting its name changes the inode of the snapshot itself.
    let mut stat = rustix::fs::fstat(&root).map_err(error())?;
    (stat.st_ctime, stat.st_ctime_nsec) = (0, 0);
    add(&mut hasher, b"", &stat);
    add_directory(&mut hasher, root.as_fd()).map_err(error())?;
    Ok(hasher.finish())
}

fn add_directory(hasher: &mut Hasher, directory: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut names = names(directory)?;
    names.sort();
    for name in names {
        let stat = statat(directory, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)?;
        add(hasher, &name, &stat);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            add_directory(hasher, openat(directory, name.as_slice(), DIRECTORY, Mode::empty())?.as_fd())?;
            // The end of a directory: a file must not look like one in the directory above.
            hasher.update(&0u64.to_le_bytes());
        }
    }
    Ok(())
}

fn add(hasher: &mut Hasher, name: &[u8], stat: &Stat) {
    // Overlayfs makes many removals of one inode and keeps a name for it beside the layer, which goes with the workspace.
    let is_removal = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0;
    let changed = if is_removal { (0, 0) } else { (stat.st_ctime as u64, stat.st_ctime_nsec) };
    let owner = (u64::from(stat.st_uid) << 32) | u64::from(stat.st_gid);
    let numbers = [
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
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        fs::create_dir_all(tree.path().join("a/b")).unwrap();
        for name in ["a/file", "a/b/file"] {
            fs::write(tree.path().join(name), "content").unwrap();
        }
        tree
    }

    /// Writes the same number of other bytes and puts the time back.
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
            let before = imprint(tree.path()).unwrap();
            change(tree.path());
            assert_ne!(imprint(tree.path()).unwrap(), before, "{what}");
        }
    }

    #[test]
    fn reading_and_renaming_a_tree_change_nothing() {
        let outer = tree();
        let tree = outer.path().join("a");
        let before = imprint(&tree).unwrap();
        fs::read(tree.join("file")).unwrap();
        fs::rename(&tree, outer.path().join("snapshot")).unwrap();
        assert_eq!(imprint(&outer.path().join("snapshot")).unwrap(), before);
    }
}
