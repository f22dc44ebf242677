//! Directories of lower layers that a job moved.
//!
//! overlayfs lets a program rename such a directory, as on any file system, and keeps of it only what changed and the path that it
//! had (`redirect_dir=on`). A layer has to be complete. So before a root is closed, each of these directories is replaced by a copy
//! of what it shows: what `mv` makes from one file system to another.
//!
//! Source: the kernel's `Documentation/filesystems/overlayfs.rst`, "Renaming directories".

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, fgetxattr, openat};
use rustix::io::Errno;

use super::setup;
use super::target::{modification_time, set_modification_time};
use crate::port::SandboxError;

/// The path of a moved directory in the lower layers.
const REDIRECT: &str = "trusted.overlay.redirect";

/// The name of a copy while it is made: no job runs, and the store has no place for it.
const COPY_SUFFIX: &str = ".plywood-moved";

/// Returns the directories of the upper directory `upper` that are moved ones, relative to it. Those within them are left out.
pub(super) fn find(upper: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    visit(&open(CWD, upper.as_os_str())?, Path::new(""), &mut found)?;
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
        let inner = match open(directory, name) {
            // Of an unknown type, and no directory.
            Err(Errno::NOTDIR | Errno::LOOP) => continue,
            opened => opened?,
        };
        let inner_path = path.join(name);
        match fgetxattr(&inner, REDIRECT, &mut [0_u8; 0]) {
            Ok(_) => found.push(inner_path),
            Err(Errno::NODATA | Errno::NOTSUP) => visit(&inner, &inner_path, found)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn open(parent: impl std::os::fd::AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// Replaces the moved directory `path` of the mounted root `root` by the copy that `copy` makes of its first argument at its second,
/// both relative to `root`. Its parent keeps its time.
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
    let time = modification_time(&parent).map_err(failed())?;
    copy(path, &copied)?;
    fs::remove_dir_all(root.join(path)).map_err(failed())?;
    fs::rename(root.join(copied), root.join(path)).map_err(failed())?;
    set_modification_time(&parent, time).map_err(failed())
}
