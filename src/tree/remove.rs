//! Removing a tree.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Mode, ResolveFlags, openat2, unlinkat};
use rustix::io::Errno;

use super::{DIRECTORY, names};

/// Repeats `openat2` while it fails with `EAGAIN` or `EINTR`. The kernel returns `EAGAIN` if a
/// rename or mount anywhere on the machine races with a `..` in the path.
pub fn retry<T>(mut open: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match open() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Removes `name` in `directory` and everything below it, if it exists. Follows no link. Fails at a
/// mount point instead of entering another file system. Several processes may remove the same tree
/// at once.
pub fn remove_tree(directory: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match remove_what_is_there(directory, name) {
        // Another process removes the same tree.
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

fn remove_what_is_there(directory: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        result => return result,
    }
    // NO_XDEV: a mount that was left behind may show a directory of the build host, whose files
    // must not be removed.
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let inner = retry(|| openat2(directory, name, DIRECTORY, Mode::empty(), resolve))?;
    for child in names(&inner)? {
        remove_tree(inner.as_fd(), &child)?;
    }
    unlinkat(directory, name, AtFlags::REMOVEDIR)
}
