//! Files that builds share: links where nobody writes, copies where somebody may.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::port::PackageError;

/// Where apt notes who works in a directory. Shared, it would make two builds at once wait for each other.
const LOCK: &str = "lock";

/// Makes each file of the directory `from` appear in the directory `to`, which is made; but for locks.
pub(super) fn link_files(from: &Path, to: &Path) -> Result<(), PackageError> {
    for_each_file(from, to, link)
}

/// Calls `take` with each file of `from` and its place in `to`, which is made; but for locks.
///
/// A file that somebody removes meanwhile is left out: everything here can be fetched again.
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
        // Of a repository in the root itself, apt keeps links to the indices there.
        let counts = |kind: fs::FileType| kind.is_file() || kind.is_symlink();
        if entry.file_type().is_ok_and(counts) && entry.file_name() != LOCK {
            take(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Gives the file `from`, if it is there, the second name `to`, unless that is taken; atomic.
pub(super) fn link(from: &Path, to: &Path) -> Result<(), PackageError> {
    match fs::hard_link(from, to) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
            Err(failed("link", to)(error))
        }
        _ => Ok(()),
    }
}

/// Copies the files of the directory `from`, with their times, into the directory `to`, which is made; but for locks. What is
/// written to the copies stays in them.
pub(super) fn copy_files(from: &Path, to: &Path) -> Result<(), PackageError> {
    for_each_file(from, to, copy)
}

/// Copies the file `from`, if it is there, to the new file `to`, with its time. A link is copied as such: it leads somewhere
/// in the root alone.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), PackageError> {
    if let Ok(target) = fs::read_link(from) {
        return symlink(target, to).map_err(failed("link", to));
    }
    let copied = fs::copy(from, to).and_then(|_| {
        // By size and time, apt sees whether its digest fits an index.
        let modified = fs::metadata(from)?.modified()?;
        File::options().write(true).open(to)?.set_modified(modified)
    });
    match copied {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("copy", from)(error)),
        _ => Ok(()),
    }
}

/// Removes a file, if it is there.
pub(super) fn remove_file(path: &Path) -> Result<(), PackageError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Removes everything in a directory, and makes it if it is not there.
pub(super) fn empty(directory: &Path) -> Result<(), PackageError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("empty", directory)(error)),
        _ => fs::create_dir(directory).map_err(failed("make directory", directory)),
    }
}

/// Gives the file `from`, if it is there, the second name `to`, in place of what has that name; atomic.
pub(super) fn replace_file(from: &Path, to: &Path) -> Result<(), PackageError> {
    replace_with(to, |next| link(from, next))
}

/// Puts what `make` writes to the path that it is given in the place of `to`; atomic. Does nothing if it writes nothing.
pub(super) fn replace_with(
    to: &Path,
    make: impl FnOnce(&Path) -> Result<(), PackageError>,
) -> Result<(), PackageError> {
    let next = to.with_added_extension(std::process::id().to_string());
    make(&next)?;
    let renamed = fs::rename(&next, to);
    // Of two names of one file, renaming keeps both.
    let _ = fs::remove_file(&next);
    match renamed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("rename", &next)(error)),
        _ => Ok(()),
    }
}

/// Makes the directory `to` hold just the files of `from`, in one step; of two processes at once the second wins.
pub(super) fn replace_files(from: &Path, to: &Path) -> Result<(), PackageError> {
    let next = to.with_added_extension(std::process::id().to_string());
    let remove = |path: &Path| match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    };
    remove(&next)?;
    link_files(from, &next)?;
    remove(to)?;
    match fs::rename(&next, to) {
        // Another process was faster; its indices are as fresh as ours.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => remove(&next),
        result => result.map_err(failed("rename", &next)),
    }
}

/// Says what was tried, and where.
pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PackageError {
    let path = path.to_owned();
    move |source| PackageError::Io { action, path, source }
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
    fn a_file_is_replaced_by_another_by_itself_and_by_none() {
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
    fn a_copy_has_the_time_and_not_the_fate_of_its_original() {
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
