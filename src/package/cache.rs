//! Files that builds share, by hard links.

use std::fs;
use std::io;
use std::path::Path;

use crate::port::PackageError;

/// Makes each file of the directory `from` appear in the directory `to`, which is made.
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
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            link(&entry.path(), &to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Gives the file `from` the second name `to`, unless `to` is there; atomic.
fn link(from: &Path, to: &Path) -> Result<(), PackageError> {
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
