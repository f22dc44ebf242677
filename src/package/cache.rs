//! Files that builds share: hard links where nothing writes, copies where a job may write.
//!
//! Symbolic links are linked and copied as links. They come from roots, and their targets are valid
//! only there. Code on the build host must therefore check the type of a file in these directories
//! before it opens the file.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::directory::FileState;
use crate::port::{IoError, PackageError};

/// apt's lock on a directory. If builds shared it, they would wait for each other.
const LOCK: &str = "lock";

/// Links each file of the directory `from` into the directory `to`, except apt's lock. Creates
/// `to`.
pub(super) fn link_files(from: &Path, to: &Path) -> Result<(), PackageError> {
    for_each_file(from, to, link)
}

/// Calls `take` for each file of `from` with its path and its new path in `to`, except for apt's
/// lock. Creates `to`.
///
/// A file that another process removes at the same time is skipped, because everything here can be
/// fetched again.
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
        // For a repository in the root itself, apt stores symbolic links to its indices.
        let counts = |kind: fs::FileType| kind.is_file() || kind.is_symlink();
        if entry.file_type().is_ok_and(counts) && entry.file_name() != LOCK {
            take(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Creates the hard link `to` of the file `from`, if `from` exists and `to` does not. Atomic.
pub(super) fn link(from: &Path, to: &Path) -> Result<(), PackageError> {
    match fs::hard_link(from, to) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
            Err(failed("link", to)(error))
        }
        _ => Ok(()),
    }
}

/// Copies the files of the directory `from`, with their times, into the directory `to`, except
/// apt's lock. Creates `to`. A job may write to the copies.
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
        // apt compares size and time of each index to decide whether its `srcpkgcache.bin` is
        // valid.
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

/// Removes everything in a directory. Creates a missing directory.
pub(super) fn empty(directory: &Path) -> Result<(), PackageError> {
    remove_directory(directory)?;
    fs::create_dir(directory).map_err(failed("make directory", directory))
}

/// Creates the hard link `to` of the file `from`, if `from` exists. Replaces an existing `to`.
/// Atomic.
pub(super) fn replace_file(from: &Path, to: &Path) -> Result<(), PackageError> {
    let next = from.with_added_extension(NEXT);
    remove_file(&next)?;
    link(from, &next)?;
    move_file(&next, to)
}

/// Renames the file `from`, if it exists, to `to`. Replaces an existing `to`. Atomic.
pub(super) fn move_file(from: &Path, to: &Path) -> Result<(), PackageError> {
    let renamed = fs::rename(from, to);
    // If both are hard links of one file, `rename` does nothing and succeeds. The old name is then
    // still there.
    let _ = fs::remove_file(from);
    match renamed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("rename", from)(error)),
        _ => Ok(()),
    }
}

/// The extension of a replacement for a shared file while it is prepared beside the session's own
/// file. It is not prepared beside the shared file, because the process id would not make its name
/// unique: in containers that share a store, many processes have the id 1.
const NEXT: &str = "next";

/// Replaces the directory `to` by hard links of the files of `from`. Atomic. If two processes do
/// this at once, the second wins.
pub(super) fn replace_files(from: &Path, to: &Path) -> Result<(), PackageError> {
    let next = from.with_added_extension(NEXT);
    remove_directory(&next)?;
    link_files(from, &next)?;
    exchange(&next, to)
}

/// Moves the directory `next` to `to`, and replaces any directory of that name, in one step. If two
/// processes do so at once, the second wins.
pub(super) fn exchange(next: &Path, to: &Path) -> Result<(), PackageError> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).map_err(failed("make directory", parent))?;
    }
    // Other builds may be linking the old files. If the directory were emptied first, they would
    // get only some of the indices, and install older or fewer packages without an error.
    if renameat_with(CWD, next, CWD, to, RenameFlags::EXCHANGE).is_err() {
        // The old directory is missing, or the file system cannot exchange names.
        remove_directory(to)?;
        match fs::rename(next, to) {
            // Another process was faster. Its indices are as fresh as these.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            result => result.map_err(failed("rename", next))?,
        }
    }
    remove_directory(next)
}

/// Returns the state of a file, or `None` if it does not exist. Symbolic links are not followed.
pub(super) fn state_of(path: &Path) -> Result<Option<FileState>, PackageError> {
    FileState::of(path).map_err(failed("inspect", path))
}

/// Returns a function that adds `action` and `path` to an error.
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
    fn a_file_can_be_replaced_by_another_by_itself_and_by_a_missing_one() {
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
        assert_eq!(names(&to), [""; 0], "a missing cache is empty");
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
    fn indices_are_replaced_at_once() {
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
