//! Completes directories of lower layers that a job has renamed.
//!
//! With `redirect_dir=on`, overlayfs records only the changes of such a directory and its former
//! path. A layer needs all of its files. So before a root is closed, plywood replaces each of these
//! directories by a full copy, as `mv` between two file systems does.
//!
//! Source: the kernel's `Documentation/filesystems/overlayfs.rst`, "Renaming directories".

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, FileType};
use rustix::io::Errno;

use super::setup;
use super::target::{modification_time, set_modification_time};
use crate::port::SandboxError;
use crate::tree::{FileRef, open_directory};

/// The extended attribute with the former path of a renamed directory.
const REDIRECT: &[u8] = b"trusted.overlay.redirect";

/// Suffix of the name of an unfinished copy. It is made in the root itself, where no job runs at
/// that time.
const COPY_SUFFIX: &str = ".plywood-moved";

/// Returns the renamed directories below `upper`, relative to it. Those within another one are left
/// out: its copy includes them.
pub(super) fn find(upper: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    visit(&open_directory(CWD, upper)?, Path::new(""), &mut found)?;
    Ok(found)
}

fn visit(directory: &OwnedFd, path: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        let is_directory = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
        if !is_directory || name == "." || name == ".." {
            continue;
        }
        let inner = match open_directory(directory, name) {
            // A file system that does not tell types, and an entry that is no directory.
            Err(Errno::NOTDIR | Errno::LOOP) => continue,
            opened => opened?,
        };
        let inner_path = path.join(name);
        match FileRef::Open(inner.as_fd()).attribute(REDIRECT)? {
            Some(_) => found.push(inner_path),
            None => visit(&inner, &inner_path, found)?,
        }
    }
    Ok(())
}

/// Replaces the renamed directory `path` of the mounted root `root` by a copy. `copy` gets the
/// source and the target, both relative to `root`. The parent directory keeps its modification
/// time.
pub(super) fn replace(
    root: &Path,
    path: &Path,
    copy: impl FnOnce(&Path, &Path) -> Result<(), SandboxError>,
) -> Result<(), SandboxError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(COPY_SUFFIX);
    let copied = path.with_file_name(name);
    let parent = root.join(path).parent().unwrap_or(root).to_owned();
    let failed = || setup::<io::Error>(format!("complete the moved directory `/{}`", path.display()));
    // The layer must show the time at which the job renamed the directory, and not that of this
    // replacement.
    let time = modification_time(&parent).map_err(failed())?;
    copy(path, &copied)?;
    fs::remove_dir_all(root.join(path)).map_err(failed())?;
    fs::rename(root.join(copied), root.join(path)).map_err(failed())?;
    set_modification_time(&parent, time).map_err(failed())
}
