//! A file that is not complete yet.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::OutputError;
use super::error::io_error;

/// How many builds may write one file at once.
const MOST_WRITERS: u32 = 100;

/// A file under a temporary name beside its final one: `.<name>.<number>.part`, which no tool takes for an image.
///
/// It is locked while it lives. Dropping it removes it. After a SIGKILL it stays; the next writer of the same name finds it unlocked
/// and removes it.
#[derive(Debug)]
pub struct Pending {
    file: File,
    path: PathBuf,
    target: PathBuf,
    kept: bool,
}

impl Pending {
    /// Makes the temporary file of `target`, and removes those of writers that were killed.
    ///
    /// # Errors
    /// If the directory of `target` is absent or not writable.
    pub fn new(target: &Path) -> Result<Self, OutputError> {
        for number in 0..MOST_WRITERS {
            let path = target.with_file_name(part_name(target, number));
            let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
            let file = opened.map_err(io_error("create", &path))?;
            if claim(&file, &path).map_err(io_error("lock", &path))? {
                file.set_len(0).map_err(io_error("empty", &path))?;
                return Ok(Self { file, path, target: target.to_owned(), kept: false });
            }
        }
        let source = io::ErrorKind::ResourceBusy.into();
        Err(OutputError::Io { action: "lock a temporary file for", path: target.to_owned(), source })
    }

    /// Returns the open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns its final name.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Returns its temporary name, for programs that want one.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Syncs it and gives it its final name, in place of a file that has it.
    ///
    /// # Errors
    /// Then nothing has the final name that did not have it before.
    pub fn commit(mut self) -> Result<(), OutputError> {
        self.file.sync_all().map_err(io_error("sync", &self.path))?;
        fs::rename(&self.path, &self.target).map_err(io_error("put in place", &self.target))?;
        self.kept = true;
        let directory = self.target.parent().filter(|path| !path.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        let sync = || File::open(directory)?.sync_all();
        sync().map_err(io_error("sync", directory))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Writes a small file whole: it appears complete, or not at all.
pub fn write_file(target: &Path, content: &[u8]) -> Result<(), OutputError> {
    let pending = Pending::new(target)?;
    pending.file().write_all(content).map_err(io_error("write", target))?;
    pending.commit()
}

fn part_name(target: &Path, number: u32) -> OsString {
    let name = target.file_name().unwrap_or(OsStr::new("output"));
    [OsStr::new("."), name, OsStr::new(&format!(".{number}.part"))].into_iter().collect()
}

/// Locks the file, unless another writer has; says no as well if that one was just finished and the name is another file's now.
fn claim(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(false),
        result => result?,
    }
    let ours = file.metadata()?;
    Ok(fs::metadata(path).is_ok_and(|named| (named.dev(), named.ino()) == (ours.dev(), ours.ino())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_committed_file_replaces_and_a_dropped_one_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("disk.qcow2");
        write_file(&target, b"old").unwrap();
        drop(Pending::new(&target).unwrap());
        assert_eq!(fs::read(&target).unwrap(), b"old");
        write_file(&target, b"new").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(names(directory.path()), ["disk.qcow2"]);
    }

    #[test]
    fn two_writers_get_two_files_and_a_killed_ones_is_reused() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("disk.qcow2");
        fs::write(directory.path().join(".disk.qcow2.0.part"), "left by a killed writer").unwrap();
        let (first, second) = (Pending::new(&target).unwrap(), Pending::new(&target).unwrap());
        assert_ne!(first.path(), second.path());
        assert_eq!(first.file().metadata().unwrap().len(), 0);
        drop((first, second));
        assert_eq!(names(directory.path()), [""; 0]);
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = Pending::new(Path::new("/no/such/directory/disk.raw")).unwrap_err();
        assert_eq!(error.to_string(), "cannot create `/no/such/directory/.disk.raw.0.part`");
    }
}
