//! Files that get their names when they are complete.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::OutputError;
use super::error::io_error;
use crate::directory::{Directory, path_of, random_name};

/// The beginning and the end of temporary names. No tool takes such a file for an image.
const PART: (&str, &str) = (".plywood.", ".part");
/// The name of an incomplete directory is the name of the file that locks it, with this suffix.
pub(super) const DIRECTORY_SUFFIX: &str = ".d";
/// The number of attempts to create a file. A second one is needed if a sweep removes the file
/// before it is locked.
const ATTEMPTS: u32 = 100;

/// A file that gets its name when it is complete.
///
/// Until then it has no name, so that it disappears with the process. This matters for callers who
/// stop builds by SIGKILL and give each build another name: nobody would remove incomplete files.
/// On file systems without nameless files, the file has a random temporary name. Dropping this
/// removes it. After a SIGKILL, the next writer in the directory removes it.
///
/// The file is locked until this is dropped.
#[derive(Debug)]
pub struct Pending {
    file: File,
    directory: Directory,
    name: OsString,
    target: PathBuf,
    /// The temporary name, if it has one.
    part: Option<Part>,
}

impl Pending {
    /// Creates the file that will be `name` in `directory`.
    ///
    /// # Errors
    /// If the directory is not writable.
    pub fn new(directory: &Directory, name: &OsStr) -> Result<Self, OutputError> {
        let target = directory.path().join(name);
        let failed = || io_error("create", &target);
        match directory.create_unnamed().map_err(failed())? {
            None => Self::named(directory, name),
            Some(file) => {
                flock(&file, FlockOperation::NonBlockingLockExclusive)
                    .map_err(|error| failed()(error.into()))?;
                Ok(Self { file, directory: directory.clone(), name: name.to_owned(), target, part: None })
            }
        }
    }

    /// Creates the file with a temporary name. Removes temporary files of killed writers.
    ///
    /// # Errors
    /// As [`Pending::new`].
    pub(super) fn named(directory: &Directory, name: &OsStr) -> Result<Self, OutputError> {
        let target = directory.path().join(name);
        let create = || {
            sweep(directory)?;
            for _ in 0..ATTEMPTS {
                let part = Part::random(directory)?;
                let file = directory.create_file(&part.name, 0o666)?;
                if claim(directory, &part.name, &file)? {
                    return Ok((file, part));
                }
            }
            Err(io::ErrorKind::ResourceBusy.into())
        };
        let (file, part) = create().map_err(io_error("create", &target))?;
        Ok(Self { file, directory: directory.clone(), name: name.to_owned(), target, part: Some(part) })
    }

    /// Returns the open file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns the final path, for messages.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Returns the temporary name, if any.
    pub(super) fn part(&self) -> Option<&OsStr> {
        self.part.as_ref().map(|part| part.name.as_os_str())
    }

    /// Returns a path with which other programs can open the file while this process runs.
    pub fn path_for_programs(&self) -> PathBuf {
        path_of(&self.file)
    }

    /// Syncs the file and gives it its final name. Replaces an existing file. A link of that name
    /// is replaced too, and its target does not change.
    ///
    /// # Errors
    /// After an error, an existing file still has the final name.
    pub fn commit(mut self) -> Result<(), OutputError> {
        self.file.sync_all().map_err(io_error("sync", &self.target))?;
        let part = self.part.take().map_or_else(|| self.link(), Ok)?;
        part.rename(&self.name).map_err(io_error("put in place", &self.target))?;
        self.directory.sync().map_err(io_error("sync", self.directory.path()))
    }

    /// Gives the file a temporary name. `rename` can then replace an existing file, which `link`
    /// cannot.
    fn link(&self) -> Result<Part, OutputError> {
        let link = || {
            sweep(&self.directory)?;
            let part = Part::random(&self.directory)?;
            self.directory.link(&self.file, &part.name).map(|()| part)
        };
        link().map_err(io_error("name", &self.target))
    }
}

/// A temporary name. Dropping it removes the file, unless it was renamed.
#[derive(Debug)]
struct Part {
    directory: Directory,
    name: OsString,
    is_renamed: bool,
}

impl Part {
    fn random(directory: &Directory) -> io::Result<Self> {
        let name = random_name(PART.0, PART.1)?;
        Ok(Self { directory: directory.clone(), name, is_renamed: false })
    }

    fn rename(mut self, target: &OsStr) -> io::Result<()> {
        self.directory.rename(&self.name, target)?;
        self.is_renamed = true;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // After a rename, the temporary name may belong to another writer.
        if !self.is_renamed {
            let _ = self.directory.remove(&self.name);
        }
    }
}

/// Writes a small file atomically.
pub fn write_file(directory: &Directory, name: &OsStr, content: &[u8]) -> Result<(), OutputError> {
    let pending = Pending::new(directory, name)?;
    pending.file().write_all(content).map_err(io_error("write", pending.target()))?;
    pending.commit()
}

/// Removes temporary files without a lock, which belong to killed writers.
fn sweep(directory: &Directory) -> io::Result<()> {
    let names = directory.names()?;
    let is_part = |name: &&OsString| {
        let name = name.as_bytes();
        name.starts_with(PART.0.as_bytes()) && name.ends_with(PART.1.as_bytes())
    };
    for name in names.iter().filter(is_part) {
        // A file that cannot be opened belongs to another user, and only regular files are
        // temporary files of plywood.
        let Ok(file) = directory.open_regular(name) else { continue };
        if claim(directory, name, &file)? {
            directory.remove(
                &[name.as_os_str(), OsStr::new(DIRECTORY_SUFFIX)].into_iter().collect::<OsString>(),
            )?;
            directory.remove(name)?;
        }
    }
    Ok(())
}

/// Locks the file. Returns false if another writer has locked it, or has just renamed it, so that
/// the name belongs to another file now.
fn claim(directory: &Directory, name: &OsStr, file: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(false),
        result => result?,
    }
    let ours = file.metadata()?;
    let named = directory.status(name)?;
    Ok(named.is_some_and(|named| (named.st_dev, named.st_ino) == (ours.dev(), ours.ino())))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn open(directory: &tempfile::TempDir) -> Directory {
        Directory::open(directory.path()).unwrap()
    }

    const NAME: &str = "disk.qcow2";
    const LEFT: &str = ".plywood.0123456789abcdef.part";

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
        let write = |content: &[u8]| write_file(&open(&directory), NAME.as_ref(), content).unwrap();
        write(b"old");
        drop(Pending::new(&open(&directory), NAME.as_ref()).unwrap());
        assert_eq!(fs::read(&target).unwrap(), b"old");
        write(b"new");
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(names(directory.path()), ["disk.qcow2"]);
    }

    #[test]
    fn an_incomplete_file_has_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("disk.qcow2");
        let pending = Pending::new(&open(&directory), NAME.as_ref()).unwrap();
        fs::write(pending.path_for_programs(), "by a program").unwrap();
        assert_eq!(names(directory.path()), [""; 0]);
        // The state after a kill between the link and the rename.
        fs::write(directory.path().join(LEFT), "left by a killed writer").unwrap();
        pending.commit().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"by a program");
        assert_eq!(names(directory.path()), ["disk.qcow2"]);
    }

    #[test]
    fn two_writers_get_two_names_and_files_of_killed_writers_are_removed() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(LEFT), "left by a killed writer").unwrap();
        fs::create_dir(directory.path().join(format!("{LEFT}.d"))).unwrap();
        let named = || Pending::named(&open(&directory), NAME.as_ref()).unwrap();
        let (first, second) = (named(), named());
        assert_eq!(names(directory.path()).len(), 2);
        assert_ne!(first.part(), second.part());
        Pending::new(&open(&directory), NAME.as_ref()).unwrap().commit().unwrap();
        drop((first, second));
        assert_eq!(names(directory.path()), [NAME]);
    }

    #[test]
    fn a_directory_that_is_not_writable_is_named() {
        let place = tempfile::tempdir().unwrap();
        let directory = Directory::create(&place.path().join("gone")).unwrap();
        fs::remove_dir(place.path().join("gone")).unwrap();
        let error = Pending::new(&directory, NAME.as_ref()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot create `{}`", place.path().join("gone/disk.qcow2").display())
        );
    }
}
