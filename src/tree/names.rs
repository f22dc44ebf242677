//! Opening a directory, and the names in it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::path::Arg;

/// Flags that open a directory. The last component of the path is not followed if it is a link.
pub const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens the directory `name` of `parent`. Fails if it is a symbolic link.
pub fn open_directory(parent: impl AsFd, name: impl Arg) -> Result<OwnedFd, Errno> {
    openat(parent, name, DIRECTORY, Mode::empty())
}

/// Returns the names in a directory, in no particular order.
pub fn names(directory: impl AsFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

/// Returns the names in a directory in byte order. The kernel's own order depends on the file
/// system, and may change while it is mounted.
pub fn sorted_names(directory: impl AsFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = names(directory)?;
    names.sort_unstable();
    Ok(names)
}

/// Returns the sorted paths of the entries of a directory. `directory` may be a symbolic link.
pub fn sorted_paths(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = std::fs::read_dir(directory)?.map(|entry| Ok(entry?.path()));
    let mut paths = paths.collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
