//! The destination of a complete file, and of its checksum files.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use md5::{Digest as _, Md5};
use rustix::fs::FileType;

use super::error::{OutputError, io_error};
use super::pending::{Pending, write_file};
use crate::directory::Directory;
use crate::image::Checksum;
use crate::oci::{Digest, Hasher};

/// The size of a read.
const BUFFER_BYTES: usize = 1 << 20;

/// A written file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub path: PathBuf,
    pub bytes: u64,
    pub digest: Digest,
}

/// The destination of an output.
#[derive(Debug, Clone)]
pub struct Destination {
    pub directory: Directory,
    /// The final name of the file in the directory.
    pub file: OsString,
    /// The checksum files to write beside the file.
    pub checksums: BTreeSet<Checksum>,
    /// The name of the file in the checksum files.
    pub name: String,
    /// The new name of an existing file and its checksum files. If this is `None`, they are
    /// replaced.
    pub old: Option<OsString>,
}

impl Destination {
    /// Returns the destination that plywood's own commands use: with a SHA-256 file, and replacing
    /// an existing file.
    pub fn new(directory: &Directory, file: &OsStr) -> Self {
        Self {
            directory: directory.clone(),
            file: file.to_owned(),
            checksums: [Checksum::Sha256].into(),
            name: file.to_string_lossy().into_owned(),
            old: None,
        }
    }

    /// Returns the destination for a path, as [`Destination::new`] does.
    ///
    /// # Errors
    /// [`OutputError::Io`] if its directory cannot be opened.
    pub fn at(path: &Path) -> Result<Self, OutputError> {
        let (directory, file) = Directory::of_file(path).map_err(io_error("open the directory of", path))?;
        Ok(Self::new(&directory, &file))
    }

    /// Fails if a file cannot be written here. A build checks this before it starts, so that it
    /// does not fail after an hour.
    ///
    /// # Errors
    /// [`OutputError::Directory`], [`OutputError::Io`] if no file can be created in the directory.
    pub fn check(&self) -> Result<(), OutputError> {
        let status = self.directory.status(&self.file).map_err(io_error("examine", &self.path()))?;
        if status.is_some_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::Directory) {
            return Err(OutputError::Directory { path: self.path() });
        }
        // Creates a file without a name and drops it. Only an attempt shows a read-only file system
        // or a quota.
        self.pending().map(drop)
    }

    /// Returns the path for messages.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join(&self.file)
    }

    /// Fails if the file system has less free space than this.
    pub(super) fn ask_for_space(&self, needed_bytes: u64) -> Result<(), OutputError> {
        let free_bytes = self.directory.free_bytes().map_err(io_error("measure", self.directory.path()))?;
        match free_bytes < needed_bytes {
            true => Err(OutputError::NoRoom { path: self.path(), needed_bytes, free_bytes }),
            false => Ok(()),
        }
    }

    /// Creates the temporary file.
    pub(super) fn pending(&self) -> Result<Pending, OutputError> {
        Pending::new(&self.directory, &self.file)
    }

    /// Gives a complete file its name, and writes its checksum files. Old checksum files are
    /// removed before the file appears, so that none ever belongs to another file.
    pub(super) fn publish(&self, pending: Pending) -> Result<Written, OutputError> {
        let sums = Sums::of(pending.file(), self.checksums.contains(&Checksum::Md5));
        let sums = sums.map_err(io_error("read", pending.target()))?;
        self.make_room()?;
        pending.commit()?;
        for checksum in &self.checksums {
            let line = Checksum::line(&sums.hex(*checksum), &self.name);
            write_file(&self.directory, &beside(&self.file, *checksum), line.as_bytes())?;
        }
        Ok(Written { path: self.path(), bytes: sums.bytes, digest: sums.sha256 })
    }

    /// Renames an existing file and its checksum files to the name `old`. Without `old`, removes
    /// the checksum files.
    fn make_room(&self) -> Result<(), OutputError> {
        let failed = |action, name: &OsStr| io_error(action, &self.directory.path().join(name));
        let is_there = self.directory.has_file(&self.file).map_err(failed("examine", &self.file))?;
        let old = self.old.as_ref().filter(|_| is_there);
        if let Some(old) = old {
            self.directory.rename(&self.file, old).map_err(failed("rename", &self.file))?;
        }
        for checksum in Checksum::ALL {
            let name = beside(&self.file, checksum);
            let moved = match old {
                Some(old) => self.directory.rename(&name, &beside(old, checksum)),
                None => self.directory.remove(&name),
            };
            match moved {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", &name)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn beside(file: &OsStr, checksum: Checksum) -> OsString {
    [file, OsStr::new("."), OsStr::new(checksum.extension())].into_iter().collect()
}

/// The sums of a file, read once.
pub(super) struct Sums {
    pub(super) sha256: Digest,
    pub(super) bytes: u64,
    md5: Option<String>,
}

impl Sums {
    pub(super) fn of(file: &File, with_md5: bool) -> io::Result<Self> {
        let (mut sha256, mut md5) = (Hasher::default(), with_md5.then(Md5::new));
        let (mut buffer, mut bytes) = (vec![0; BUFFER_BYTES], 0);
        loop {
            let count = file.read_at(&mut buffer, bytes)?;
            if count == 0 {
                break;
            }
            sha256.update(&buffer[..count]);
            if let Some(md5) = &mut md5 {
                md5.update(&buffer[..count]);
            }
            bytes += count as u64;
        }
        let md5 = md5.map(|md5| md5.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        Ok(Self { sha256: sha256.finish(), bytes, md5 })
    }

    fn hex(&self, checksum: Checksum) -> String {
        match checksum {
            Checksum::Md5 => self.md5.clone().unwrap_or_default(),
            Checksum::Sha256 => self.sha256.hex(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;

    fn publish(destination: &Destination, content: &str) -> Written {
        let pending = destination.pending().unwrap();
        pending.file().write_all(content.as_bytes()).unwrap();
        destination.publish(pending).unwrap()
    }

    fn files(directory: &Path) -> Vec<(String, String)> {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries
            .map(|path| {
                let name = path.file_name().unwrap().to_str().unwrap().to_owned();
                (name, fs::read_to_string(path).unwrap())
            })
            .collect();
        files.sort();
        files
    }

    fn expected(files: &[(&str, &str)]) -> Vec<(String, String)> {
        files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    /// Sums as md5sum and sha256sum of coreutils print them.
    const A: (&str, &str) = (
        "0cc175b9c0f1b6a831c399e269772661",
        "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
    );

    #[test]
    fn checksum_files_are_written_and_renamed_with_their_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.raw");
        let destination = Destination {
            checksums: Checksum::ALL.into(),
            name: "out/x.raw".to_owned(),
            old: Some("x-old.raw".into()),
            ..Destination::at(&path).unwrap()
        };
        let written = publish(&destination, "a");
        assert_eq!((written.bytes, written.digest), (1, Digest::of("a")));
        let sums = (format!("{}  out/x.raw\n", A.0), format!("{}  out/x.raw\n", A.1));
        let first = [("x.raw", "a"), ("x.raw.md5", &sums.0), ("x.raw.sha256", &sums.1)];
        assert_eq!(files(directory.path()), expected(&first));
        publish(&Destination { checksums: BTreeSet::new(), ..destination }, "b");
        let second =
            [("x-old.raw", "a"), ("x-old.raw.md5", &sums.0), ("x-old.raw.sha256", &sums.1), ("x.raw", "b")];
        assert_eq!(files(directory.path()), expected(&second));
    }

    #[test]
    fn free_space_is_compared_with_the_needed_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let destination = Destination::at(&directory.path().join("x.raw")).unwrap();
        destination.ask_for_space(1).unwrap();
        let error = destination.ask_for_space(1 << 60).unwrap_err();
        assert!(matches!(error, OutputError::NoRoom { needed_bytes, .. } if needed_bytes == 1 << 60));
    }

    #[test]
    fn destinations_are_checked_before_a_file_exists() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.raw");
        Destination::at(&path).unwrap().check().unwrap();
        assert_eq!(files(directory.path()), expected(&[]));
        fs::create_dir(&path).unwrap();
        let error = Destination::at(&path).unwrap().check().unwrap_err();
        assert!(matches!(error, OutputError::Directory { path: found } if found == path));
    }

    #[test]
    fn a_replaced_file_loses_its_checksum_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.raw");
        publish(&Destination { checksums: Checksum::ALL.into(), ..Destination::at(&path).unwrap() }, "a");
        publish(&Destination { checksums: [Checksum::Md5].into(), ..Destination::at(&path).unwrap() }, "a");
        let md5 = format!("{}  x.raw\n", A.0);
        assert_eq!(files(directory.path()), expected(&[("x.raw", "a"), ("x.raw.md5", &md5)]));
    }
}
