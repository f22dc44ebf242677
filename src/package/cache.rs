//! Files that builds share: hard links where nothing writes, copies where a job may write.
//!
//! Symbolic links are linked and copied as links. They are made in roots, and lead somewhere only
//! there: nothing on the build host may open a file of these directories without looking at its
//! type first.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::directory::FileState;
use crate::port::{IoError, PackageError};

/// apt's lock on a directory. If builds shared it, they would wait for each other.
const LOCK: &str = "lock";

/// Links each file of the directory `from` into the directory `to`, except apt's lock. Makes `to`.
pub(super) fn link_files(from: &Path, to: &Path) -> Result<(), PackageError> {
    for_each_file(from, to, link)
}

/// Calls `take` with each file of `from` and its place in `to`, except for apt's lock. Makes `to`.
///
/// A file that another process removes meanwhile is left out: everything here can be fetched again.
fn for_each_file(
    from: &Path,
    to: &Path,
    take: impl Fn(&Path, &Path) -> Result<(), PackageError>,
) -> Result<(), PackageError> {
    fs::create_dir_all(to).map_err(failed("make directory", to))?;
    let entries = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed("read", from))?,
    };
    for entry in entries {
        let entry = entry.map_err(failed("read", from))?;
        // For a repository in the root itself, apt keeps symbolic links to the indices there.
        let counts = |kind: fs::FileType| kind.is_file() || kind.is_symlink();
        if entry.file_type().is_ok_and(counts) && entry.file_name() != LOCK {
            take(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Gives the file `from`, if it exists, the second name `to`, unless `to` exists. Atomic.
pub(super) fn link(from: &Path, to: &Path) -> Result<(), PackageError> {
    match fs::hard_link(from, to) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
            Err(failed("link", to)(error))
        }
        _ => Ok(()),
    }
}

/// Copies the files of the directory `from`, with their times, into the directory `to`, except
/// apt's lock. Makes `to`. A job may write to the copies.
pub(super) fn copy_files(from: &Path, to: &Path) -> Result<(), PackageError> {
    for_each_file(from, to, copy)
}

/// Copies the file `from`, if it exists, to the new file `to`, with its time. A symbolic link is
/// copied as a link.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), PackageError> {
    if let Ok(target) = fs::read_link(from) {
        return symlink(target, to).map_err(failed("link", to));
    }
    let copied = fs::copy(from, to).and_then(|_| {
        // apt compares size and time to see whether its `srcpkgcache.bin` fits an index.
        let modified = fs::metadata(from)?.modified()?;
        File::options().write(true).open(to)?.set_modified(modified)
    });
    match copied {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("copy", from)(error)),
        _ => Ok(()),
    }
}

/// Removes a file, if it exists.
pub(super) fn remove_file(path: &Path) -> Result<(), PackageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes a directory with everything in it, if it exists.
pub(super) fn remove_directory(path: &Path) -> Result<(), PackageError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes everything in a directory. Makes the directory if it does not exist.
pub(super) fn empty(directory: &Path) -> Result<(), PackageError> {
    remove_directory(directory)?;
    fs::create_dir(directory).map_err(failed("make directory", directory))
}

/// Gives the file `from`, if it exists, the second name `to`, and replaces any file of that name.
/// Atomic.
pub(super) fn replace_file(from: &Path, to: &Path) -> Result<(), PackageError> {
    let next = from.with_added_extension(NEXT);
    remove_file(&next)?;
    link(from, &next)?;
    move_file(&next, to)
}

/// Renames the file `from`, if it exists, to `to`, and replaces any file of that name. Atomic.
pub(super) fn move_file(from: &Path, to: &Path) -> Result<(), PackageError> {
    let renamed = fs::rename(from, to);
    // Renaming does nothing, without an error, if both are names of one file.
    let _ = fs::remove_file(from);
    match renamed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("rename", from)(error)),
        _ => Ok(()),
    }
}

/// The extension of a replacement for a shared file while it is prepared beside the session's own
/// file. A name beside the shared file could not be made unique by the process id: in containers
/// that share a store, many processes have the number 1.
const NEXT: &str = "next";

/// Makes the directory `to` hold exactly the files of `from`, in one step. If two processes do so
/// at once, the second wins.
pub(super) fn replace_files(from: &Path, to: &Path) -> Result<(), PackageError> {
    let next = from.with_added_extension(NEXT);
    remove_directory(&next)?;
    link_files(from, &next)?;
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(failed("make directory", parent))?;
    }
    // Other builds may be linking these files. If the old directory were removed first, they would
    // get some of the indices, and install older or fewer packages without an error.
    if renameat_with(CWD, &next, CWD, to, RenameFlags::EXCHANGE).is_err() {
        // There is no old directory yet, or the file system cannot exchange names.
        remove_directory(to)?;
        match fs::rename(&next, to) {
            // Another process was faster; its indices are as fresh as ours.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            result => result.map_err(failed("rename", &next))?,
        }
    }
    remove_directory(&next)
}

/// Returns the state of a file, or `None` if it does not exist. Symbolic links are not followed.
pub(super) fn state_of(path: &Path) -> Result<Option<FileState>, PackageError> {
    FileState::of(path).map_err(failed("inspect", path))
}

/// Returns a function that adds to an error the action that failed, and its path.
pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PackageError {
    move |error| IoError::new(action, path)(error).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn locks_are_not_shared() {
        let directory = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| directory.path().join(name));
        fs::create_dir_all(from.join("partial")).unwrap();
        for name in ["lock", "Packages"] {
            fs::write(from.join(name), "").unwrap();
        }
        link_files(&from, &to).unwrap();
        assert_eq!(names(&to), ["Packages"]);
    }

    #[test]
    fn a_file_is_replaced_by_another_itself_or_a_missing_one() {
        let directory = tempfile::tempdir().unwrap();
        let [new, kept, absent] = ["new", "kept", "absent"].map(|name| directory.path().join(name));
        fs::write(&new, "new").unwrap();
        fs::write(&kept, "old").unwrap();
        for from in [&new, &new, &absent] {
            replace_file(from, &kept).unwrap();
            assert_eq!(fs::read_to_string(&kept).unwrap(), "new");
            assert_eq!(names(directory.path()), ["kept", "new"]);
        }
    }

    #[test]
    fn a_copy_keeps_its_time_and_content_when_the_original_changes() {
        let directory = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "to"].map(|name| directory.path().join(name));
        copy_files(&from, &to).unwrap();
        assert_eq!(names(&to), [""; 0], "a cache that is not there yet is empty");
        fs::create_dir(&from).unwrap();
        let (original, copy) = (from.join("Packages"), to.join("Packages"));
        fs::write(&original, "right").unwrap();
        let long_ago = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1);
        File::options().write(true).open(&original).unwrap().set_modified(long_ago).unwrap();
        copy_files(&from, &to).unwrap();
        assert_eq!(fs::metadata(&copy).unwrap().modified().unwrap(), long_ago);
        fs::write(&copy, "wrong").unwrap();
        assert_eq!(fs::read_to_string(&original).unwrap(), "right");
        empty(&to).unwrap();
        symlink("/etc/hostname", from.join("link")).unwrap();
        copy_files(&from, &to).unwrap();
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("/etc/hostname"));
        empty(&to).unwrap();
        assert_eq!(names(&to), [""; 0]);
    }

    #[test]
    fn indices_are_replaced_whole() {
        let directory = tempfile::tempdir().unwrap();
        let (lists, kept) = (directory.path().join("lists"), directory.path().join("cache/kept"));
        fs::create_dir_all(directory.path().join("cache")).unwrap();
        for generation in ["old", "new"] {
            fs::create_dir_all(&lists).unwrap();
            fs::write(lists.join(generation), generation).unwrap();
            replace_files(&lists, &kept).unwrap();
            assert_eq!(names(&kept), [generation]);
            fs::remove_dir_all(&lists).unwrap();
        }
        assert_eq!(names(&directory.path().join("cache")), ["kept"]);
    }
}
