//! Reading a tree, directory by directory, through directory handles.

use std::collections::HashSet;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, statat};
use rustix::io::Errno;

use super::error::failed;
use super::sparse;
use crate::disk::Content;
use crate::port::DiskError;

/// Opens the directory `name` of `parent`, and never through a symbolic link.
pub(super) fn open_directory(parent: impl AsFd, name: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// Returns the names in `directory` but `.` and `..`, in byte order: what is made in that order lies in that order.
pub(super) fn sorted_names(directory: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Returns the path of `name` in `directory`.
pub(super) fn child(directory: &Path, name: &CString) -> std::path::PathBuf {
    directory.join(OsStr::from_bytes(name.to_bytes()))
}

/// Returns how much is below the directory `root`, sockets left out.
pub(super) fn measure(root: &Path) -> Result<Content, DiskError> {
    let directory = open_directory(rustix::fs::CWD, root).map_err(failed("open", root))?;
    let mut content = Content::default();
    measure_directory(&directory, root, &mut content, &mut HashSet::new())?;
    Ok(content)
}

fn measure_directory(
    directory: &OwnedFd,
    path: &Path,
    content: &mut Content,
    seen: &mut HashSet<(u64, u64)>,
) -> Result<(), DiskError> {
    for name in sorted_names(directory).map_err(failed("read directory", path))? {
        let path = child(path, &name);
        let stat = statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("examine", &path))?;
        content.entries += 1;
        let file_type = FileType::from_raw_mode(stat.st_mode);
        if file_type == FileType::Directory {
            content.inodes += 1;
            content.blocks += 1;
            let directory = open_directory(directory, &name).map_err(failed("open", &path))?;
            measure_directory(&directory, &path, content, seen)?;
        // Hard links share an inode and its blocks; only the first name counts them.
        } else if is_first(&stat, seen) {
            content.inodes += 1;
            if file_type == FileType::RegularFile {
                let bytes = sparse::data_bytes(directory, &name, &stat).map_err(failed("measure", &path))?;
                content.bytes += bytes;
                content.blocks += bytes.div_ceil(4096);
            }
        }
    }
    Ok(())
}

fn is_first(stat: &Stat, seen: &mut HashSet<(u64, u64)>) -> bool {
    stat.st_nlink == 1 || seen.insert((stat.st_dev, stat.st_ino))
}
