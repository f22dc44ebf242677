//! Files that builds share, by hard links.

use std::fs;
use std::io;
use std::path::Path;

use crate::port::PackageError;

/// Where apt notes who works in a directory. Shared, it would make two builds at once wait for each other.
const LOCK: &str = "lock";

/// Makes each file of the directory `from` appear in the directory `to`, which is made; but for locks.
///
/// A file that somebody removes meanwhile is left out: everything here can be fetched again.
pub(super) fn link_files(from: &Path, to: &Path) -> Result<(), PackageError> {
    fs::create_dir_all(to).map_err(failed("make directory", to))?;
    let entries = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed("read", from))?,
    };
    for entry in entries {
        let entry = entry.map_err(failed("read", from))?;
        if entry.file_type().is_ok_and(|kind| kind.is_file()) && entry.file_name() != LOCK {
            link(&entry.path(), &to.join(entry.file_name()))?;
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

/// Links the files of `from` whose names end with `suffix` into the directory `to`, where they are not there yet.
pub(super) fn harvest(from: &Path, suffix: &str, to: &Path) -> Result<(), PackageError> {
    fs::create_dir_all(to).map_err(failed("make directory", to))?;
    for entry in fs::read_dir(from).map_err(failed("read", from))? {
        let entry = entry.map_err(failed("read", from))?;
        if entry.file_name().to_string_lossy().ends_with(suffix) {
            link(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Gives the file `from`, if it is there, the second name `to`, in place of what has that name; atomic.
pub(super) fn replace_file(from: &Path, to: &Path) -> Result<(), PackageError> {
    let next = to.with_added_extension(std::process::id().to_string());
    link(from, &next)?;
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
    fn downloads_go_into_a_session_and_new_ones_come_back() {
        let directory = tempfile::tempdir().unwrap();
        let (cache, session) = (directory.path().join("cache"), directory.path().join("session"));
        link_files(&cache, &session).unwrap();
        assert_eq!(names(&session), [""; 0], "a cache that is not there yet is empty");
        fs::write(session.join("a.deb"), "a").unwrap();
        fs::write(session.join("lock"), "").unwrap();
        fs::create_dir(session.join("partial")).unwrap();
        harvest(&session, ".deb", &cache).unwrap();
        assert_eq!(names(&cache), ["a.deb"]);

        let other = directory.path().join("other");
        link_files(&cache, &other).unwrap();
        fs::write(other.join("b.deb"), "b").unwrap();
        harvest(&other, ".deb", &cache).unwrap();
        assert_eq!(names(&cache), ["a.deb", "b.deb"]);
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
