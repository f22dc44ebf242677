//! Files and directories of the store: errors with paths, atomic writes, locks, safe removal.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use rustix::fs::{FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use tracing::debug;

use crate::port::{IoError, StoreError};
use crate::tree::retry;
pub(super) use crate::tree::{DIRECTORY, names, remove_tree};

/// Returns a function that adds `action` and `path` to an error.
pub(super) fn failed<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> StoreError {
    move |error| IoError::new(action, path)(error).into()
}

/// Creates a directory and its missing parents.
pub(super) fn create_directories(path: &Path) -> Result<(), StoreError> {
    std::fs::create_dir_all(path).map_err(|error| failed("create directory", taken(path))(error))
}

/// Returns the first of `path` and its parents, upwards, that exists and is not a directory; `path`
/// if there is none.
fn taken(path: &Path) -> &Path {
    let is_taken = |path: &&Path| path.symlink_metadata().is_ok() && !path.is_dir();
    path.ancestors().find(is_taken).unwrap_or(path)
}

/// Creates a missing directory that only its owner can enter. Unpacked layers hold setuid programs,
/// which other users must not be able to start.
pub(super) fn create_private(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::DirBuilderExt;
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        result => result.map_err(failed("create directory", path)),
    }
}

/// Writes a file atomically and durably: readers see the old or the new content, also after a power
/// failure. `temporary` is on the same file system.
pub(super) fn write_whole(path: &Path, temporary: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut file = File::create(temporary).map_err(failed("create", temporary))?;
    file.write_all(bytes).map_err(failed("write", temporary))?;
    // Before the rename: otherwise, after a power failure, the name could lead to an empty file.
    file.sync_all().map_err(failed("sync", temporary))?;
    place(temporary, path)
}

/// Gives a complete, synced file its name.
pub(super) fn place(temporary: &Path, path: &Path) -> Result<(), StoreError> {
    let rename = || std::fs::rename(temporary, path);
    let renamed = match rename() {
        // A directory has the name. It is moved to the temporary files, which are removed later.
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            std::fs::rename(path, temporary.with_added_extension("aside")).and_then(|()| rename())
        }
        result => result,
    };
    renamed.map_err(failed("rename a temporary file to", path))?;
    // A rename is durable only after its directory is synced. Without this, a record could survive
    // a power failure that its layer does not survive.
    sync_parent(path)
}

fn sync_parent(path: &Path) -> Result<(), StoreError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let directory = File::open(parent).map_err(failed("open", parent))?;
    directory.sync_all().map_err(failed("sync", parent))
}

/// Opens a file. Returns `None` if it does not exist, or is not a regular file. The next write
/// replaces a directory or FIFO of that name.
pub(super) fn open_if_there(path: &Path) -> Result<Option<File>, StoreError> {
    // NONBLOCK: opening a FIFO would wait for a writer. The flag has no effect on regular files.
    let opened = rustix::fs::open(path, OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty());
    let file = match opened {
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
        result => File::from(result.map_err(failed("open", path))?),
    };
    let is_file = file.metadata().map_err(failed("inspect", path))?.is_file();
    Ok(is_file.then_some(file))
}

/// Returns true if the path exists and is not a regular file.
pub(super) fn is_taken(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| !found.is_file())
}

/// Reads a file. Returns `None` in the same cases as [`open_if_there`].
pub(super) fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(mut file) = open_if_there(path)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed("read", path))?;
    Ok(Some(bytes))
}

/// Removes a file, if it exists.
pub(super) fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(failed("remove", path)),
    }
}

/// Opens a directory. Does not follow the last component if it is a link.
pub(super) fn open_directory(path: &Path) -> Result<OwnedFd, StoreError> {
    rustix::fs::open(path, DIRECTORY, Mode::empty()).map_err(failed("open directory", path))
}

/// Opens `path` beneath `root`. Fails if a component is a symbolic link.
pub(super) fn open_beneath(root: impl AsFd, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    retry(|| rustix::fs::openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve))
}

/// Locks `file`, which is at `path`. Waits while another process holds the lock.
pub(super) fn lock(file: impl AsFd, operation: Locking, path: &Path) -> Result<(), StoreError> {
    let (at_once, in_time) = match operation {
        Locking::Shared => (FlockOperation::NonBlockingLockShared, FlockOperation::LockShared),
        Locking::Exclusive => (FlockOperation::NonBlockingLockExclusive, FlockOperation::LockExclusive),
    };
    // The first attempt does not wait, so that the trace shows that a command waits here.
    match rustix::fs::flock(&file, at_once) {
        Err(Errno::WOULDBLOCK) => debug!(path = %path.display(), ?operation, "waits for the lock"),
        result => return result.map_err(failed("lock", path)),
    }
    let since = Instant::now();
    retry(|| rustix::fs::flock(&file, in_time)).map_err(failed("lock", path))?;
    debug!(path = %path.display(), ?operation, after = ?since.elapsed(), "has the lock");
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Locking {
    /// Several processes can hold it at the same time.
    Shared,
    /// No other process holds it at the same time.
    Exclusive,
}

/// Sets the time of the last use of a file, for the garbage collector. Errors are ignored: the file
/// then only looks older.
pub(super) fn mark_used(path: &Path) {
    use rustix::fs::{CWD, Timespec, Timestamps, UTIME_NOW};
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    let _ = rustix::fs::utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
}

/// Splits a path into its parent and its name.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Removes `path` and everything below it, as [`remove_tree`] does.
pub(super) fn remove_path(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::ffi::OsStrExt;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let directory = open_directory(parent)?;
    remove_tree(directory.as_fd(), name.as_bytes()).map_err(failed("remove", path))
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// Every process that opens the store after a killed build tries to remove the leftovers.
    #[test]
    fn several_processes_can_remove_the_same_tree_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("left");
        for inner in 0..100 {
            create_directories(&tree.join(format!("{inner}/deep/deeper"))).unwrap();
        }
        thread::scope(|scope| {
            let sweeps: Vec<_> = (0..4).map(|_| scope.spawn(|| remove_path(&tree))).collect();
            sweeps.into_iter().for_each(|sweep| sweep.join().unwrap().unwrap());
        });
        assert!(!tree.exists());
        remove_path(&tree).unwrap();
    }
}
