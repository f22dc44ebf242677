//! A file that is not complete yet.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, flock, linkat, open};
use rustix::io::Errno;

use super::OutputError;
use super::error::io_error;

/// How many builds may write one file at once.
const MOST_WRITERS: u32 = 100;

/// A file that gets its name when it is complete.
///
/// Until then it has none, so that nothing is left of it whatever ends this process; callers who stop builds by SIGKILL give each of them
/// another name, and nobody would ever clean up. Where the file system knows no files without names, it has a temporary one:
/// `.<name>.<number>.part`, which no tool takes for an image. Dropping it removes it; after a SIGKILL the next writer of the same name does.
///
/// It is locked while it lives.
#[derive(Debug)]
pub struct Pending {
    file: File,
    target: PathBuf,
    /// The temporary name, if it has one.
    part: Option<Part>,
}

impl Pending {
    /// Makes the file that is to become `target`.
    ///
    /// # Errors
    /// If the directory of `target` is absent or not writable.
    pub fn new(target: &Path) -> Result<Self, OutputError> {
        match unnamed(target) {
            Ok(file) => Ok(Self { file, target: target.to_owned(), part: None }),
            // The last is what kernels say that know no such files.
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::ISDIR) => Self::named(target),
            Err(error) => Err(io_error("create", target)(error.into())),
        }
    }

    /// Makes it with a temporary name, which nobody else has while it lives. Removes those of writers that were killed.
    ///
    /// # Errors
    /// As [`Pending::new`].
    pub(super) fn named(target: &Path) -> Result<Self, OutputError> {
        for path in part_names(target) {
            let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
            let file = opened.map_err(io_error("create", &path))?;
            if claim(&file, &path).map_err(io_error("lock", &path))? {
                file.set_len(0).map_err(io_error("empty", &path))?;
                return Ok(Self { file, target: target.to_owned(), part: Some(Part::new(path)) });
            }
        }
        Err(too_many_writers(target))
    }

    /// Returns the open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns its final name, by which messages call it.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Returns its temporary name, if it has one.
    pub(super) fn part(&self) -> Option<&Path> {
        self.part.as_ref().map(|part| part.path.as_path())
    }

    /// Returns a path by which programs can open it while this process lives.
    pub fn path_for_programs(&self) -> PathBuf {
        let descriptor = || format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into();
        self.part().map_or_else(descriptor, Path::to_owned)
    }

    /// Syncs it and gives it its final name, in place of a file that has it.
    ///
    /// # Errors
    /// Then nothing has the final name that did not have it before.
    pub fn commit(mut self) -> Result<(), OutputError> {
        self.file.sync_all().map_err(io_error("sync", &self.target))?;
        let part = self.part.take().map_or_else(|| self.link(), Ok)?;
        part.rename(&self.target).map_err(io_error("put in place", &self.target))?;
        let directory = directory_of(&self.target);
        let sync = || File::open(directory)?.sync_all();
        sync().map_err(io_error("sync", directory))
    }

    /// Gives it a temporary name: a link cannot take another file's place, and a rename can.
    fn link(&self) -> Result<Part, OutputError> {
        let own = self.path_for_programs();
        for path in part_names(&self.target) {
            remove_if_left(&path).map_err(io_error("remove", &path))?;
            match linkat(CWD, &own, CWD, &path, AtFlags::SYMLINK_FOLLOW) {
                Ok(()) => return Ok(Part::new(path)),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(io_error("name", &self.target)(error.into())),
            }
        }
        Err(too_many_writers(&self.target))
    }
}

/// A temporary name. Dropping it removes the file, unless that has got another.
#[derive(Debug)]
struct Part {
    path: PathBuf,
    is_renamed: bool,
}

impl Part {
    fn new(path: PathBuf) -> Self {
        Self { path, is_renamed: false }
    }

    fn rename(mut self, target: &Path) -> io::Result<()> {
        fs::rename(&self.path, target)?;
        self.is_renamed = true;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Once it is renamed, the name may be another writer's.
        if !self.is_renamed {
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

fn directory_of(target: &Path) -> &Path {
    target.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a file without a name where `target` is to be.
fn unnamed(target: &Path) -> Result<File, Errno> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = File::from(open(directory_of(target), flags, Mode::from_raw_mode(0o666))?);
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

fn part_names(target: &Path) -> impl Iterator<Item = PathBuf> {
    (0..MOST_WRITERS).map(|number| target.with_file_name(part_name(target, number)))
}

fn part_name(target: &Path, number: u32) -> OsString {
    let name = target.file_name().unwrap_or(OsStr::new("output"));
    [OsStr::new("."), name, OsStr::new(&format!(".{number}.part"))].into_iter().collect()
}

fn too_many_writers(target: &Path) -> OutputError {
    let source = io::ErrorKind::ResourceBusy.into();
    OutputError::Io { action: "lock a temporary file for", path: target.to_owned(), source }
}

/// Removes the file of a writer that was killed.
fn remove_if_left(path: &Path) -> io::Result<()> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    if claim(&file, path)? { fs::remove_file(path) } else { Ok(()) }
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
    fn a_file_that_is_not_complete_has_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("disk.qcow2");
        let pending = Pending::new(&target).unwrap();
        fs::write(pending.path_for_programs(), "by a program").unwrap();
        assert_eq!(names(directory.path()), [""; 0]);
        // As a kill between the link and the rename leaves it.
        fs::write(directory.path().join(".disk.qcow2.0.part"), "left by a killed writer").unwrap();
        pending.commit().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"by a program");
        assert_eq!(names(directory.path()), ["disk.qcow2"]);
    }

    #[test]
    fn two_writers_get_two_names_and_a_killed_ones_is_reused() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("disk.qcow2");
        fs::write(directory.path().join(".disk.qcow2.0.part"), "left by a killed writer").unwrap();
        let named = || Pending::named(&target).unwrap();
        let (first, second, third) = (named(), named(), Pending::new(&target).unwrap());
        assert_ne!(first.path_for_programs(), second.path_for_programs());
        assert_eq!(first.file().metadata().unwrap().len(), 0);
        third.commit().unwrap();
        drop((first, second));
        assert_eq!(names(directory.path()), ["disk.qcow2"]);
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = Pending::new(Path::new("/no/such/directory/disk.raw")).unwrap_err();
        assert_eq!(error.to_string(), "cannot create `/no/such/directory/disk.raw`");
    }
}
