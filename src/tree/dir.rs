//! Directories and their entries.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, openat};

use super::{FileRef, open_directory, sorted_names};
use crate::layer::{Kind, Xattrs};
use crate::port::IoError;

/// The most levels of directories below the root of a tree. Readers of trees are recursive and have
/// a directory open for each level: a tree of a hostile layer could exhaust their stack.
pub const MAX_LEVELS: usize = 1000;

/// Returns the path of `name` below `directory`.
pub(super) fn join(directory: &Path, name: &[u8]) -> PathBuf {
    directory.join(OsStr::from_bytes(name))
}

/// An open directory of a tree.
#[derive(Debug)]
pub struct Dir<'r> {
    handle: OwnedFd,
    root: &'r Path,
    path: Vec<u8>,
}

impl<'r> Dir<'r> {
    /// Opens the root of a tree. Fails if it is a symbolic link.
    pub fn open(root: &'r Path) -> Result<Self, IoError> {
        let handle = open_directory(CWD, root).map_err(IoError::new("open directory", root))?;
        Ok(Self { handle, root, path: Vec::new() })
    }

    /// Returns the path from the root of the tree; empty for the root.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Returns its path for messages. It may be too long to open.
    pub fn location(&self) -> PathBuf {
        if self.path.is_empty() { self.root.to_owned() } else { join(self.root, &self.path) }
    }

    /// Returns the current status.
    pub fn status(&self) -> Result<Stat, IoError> {
        self.file().status().map_err(|error| self.failed("inspect")(error.into()))
    }

    /// Returns it as a file.
    pub fn file(&self) -> FileRef<'_> {
        FileRef::Open(self.as_fd())
    }

    /// Returns the names in it, in byte order.
    pub fn names(&self) -> Result<Vec<Vec<u8>>, IoError> {
        sorted_names(self).map_err(|error| self.failed("read directory")(error.into()))
    }

    /// Returns the entries in byte order of the names. The iterator inspects an entry when it
    /// reaches it; an entry that was removed before is an error of kind
    /// [`io::ErrorKind::NotFound`].
    pub fn entries(&self) -> Result<impl Iterator<Item = Result<Entry<'_>, IoError>>, IoError> {
        Ok(self.names()?.into_iter().map(|name| self.entry(name)))
    }

    /// Returns the entry `name`.
    pub fn entry(&self, name: Vec<u8>) -> Result<Entry<'_>, IoError> {
        let stat = FileRef::Named(self.as_fd(), &name).status();
        let failed = |error| {
            let directory = self.location();
            IoError::new("inspect", &join(&directory, &name))(error)
        };
        let stat = stat.map_err(failed)?;
        let path = if self.path.is_empty() { name.clone() } else { [&self.path, &name[..]].join(&b'/') };
        Ok(Entry { directory: self, name, path, stat })
    }

    /// Returns the directory itself as an entry with the name `.`.
    pub fn itself(&self) -> Result<Entry<'_>, IoError> {
        Ok(Entry { directory: self, name: b".".to_vec(), path: self.path.clone(), stat: self.status()? })
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(io::Error) -> IoError {
        let location = self.location();
        move |error| IoError::new(action, &location)(error)
    }
}

impl AsFd for Dir<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// A name in a directory, and the status that it had when it was inspected.
#[derive(Debug)]
pub struct Entry<'d> {
    directory: &'d Dir<'d>,
    pub name: Vec<u8>,
    /// Path from the root of the tree.
    pub path: Vec<u8>,
    /// For a symbolic link, the status of the link itself.
    pub stat: Stat,
}

impl<'d> Entry<'d> {
    /// Returns the handle of the directory that holds the entry.
    pub fn directory(&self) -> BorrowedFd<'d> {
        self.directory.as_fd()
    }

    /// Returns the kind of file, without its details.
    pub fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Returns true if the entry is a directory.
    pub fn is_directory(&self) -> bool {
        self.file_type() == FileType::Directory
    }

    /// Returns the kind, with the target of a link; `None` for a socket.
    pub fn kind(&self) -> Result<Option<Kind>, IoError> {
        super::kind(self.directory, &self.name, &self.stat).map_err(self.failed("read link"))
    }

    /// Returns a reference for metadata and attributes. It resolves the name again at each use.
    pub fn file(&self) -> FileRef<'_> {
        FileRef::Named(self.directory.as_fd(), &self.name)
    }

    /// Returns the extended attributes that belong to content.
    pub fn xattrs(&self) -> Result<Xattrs, IoError> {
        self.file().content().map_err(self.failed("read the attributes of"))
    }

    /// Opens a regular file for reading.
    pub fn open(&self) -> Result<File, IoError> {
        // NONBLOCK has no effect on regular files. If a FIFO has taken the name since, opening it
        // would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = openat(self.directory, &*self.name, flags, Mode::empty());
        opened.map(File::from).map_err(self.failed("open"))
    }

    /// Opens the directory.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] for a directory more than [`MAX_LEVELS`] below the root.
    pub fn enter(&self) -> Result<Dir<'d>, IoError> {
        if self.path.iter().filter(|byte| **byte == b'/').count() >= MAX_LEVELS {
            let reason = format!("it is more than {MAX_LEVELS} directories below the root of the tree");
            return Err(self.failed("open directory")(io::Error::new(io::ErrorKind::InvalidInput, reason)));
        }
        let handle = open_directory(self.directory, &*self.name).map_err(self.failed("open directory"))?;
        Ok(Dir { handle, root: self.directory.root, path: self.path.clone() })
    }

    /// Returns its path for messages. It may be too long to open.
    pub fn location(&self) -> PathBuf {
        if self.path.is_empty() { self.directory.location() } else { join(self.directory.root, &self.path) }
    }

    /// Returns a function that adds `action` and the path of the entry to an error.
    pub fn failed<E: Into<io::Error>>(&self, action: &'static str) -> impl FnOnce(E) -> IoError {
        move |error| IoError::new(action, &self.location())(error)
    }
}

/// Calls `visit` for every entry below a directory, in byte order of the names. A directory comes
/// before its entries.
pub fn walk<E: From<IoError>>(
    directory: &Dir<'_>,
    visit: &mut impl FnMut(&Entry<'_>) -> Result<(), E>,
) -> Result<(), E> {
    for entry in directory.entries()? {
        let entry = entry?;
        visit(&entry)?;
        if entry.is_directory() {
            walk(&entry.enter()?, visit)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    use rustix::fs::mkdirat;
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

    use super::*;
    use crate::tree::Links;

    fn paths(root: &Path) -> Result<Vec<Vec<u8>>, IoError> {
        let mut paths = Vec::new();
        walk(&Dir::open(root)?, &mut |entry| {
            paths.push(entry.path.clone());
            Ok::<_, IoError>(())
        })?;
        Ok(paths)
    }

    #[test]
    fn names_are_bytes_in_byte_order_and_links_are_not_entered() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        let names: [&[u8]; 7] = [b"\x01\n", b" ", b"-a", b"a b", b"a\\", b"\xc3\xa9", b"\xff\xfe"];
        for name in names {
            fs::create_dir_all(join(&root, name)).unwrap();
            fs::write(join(&join(&root, name), name), "").unwrap();
        }
        symlink("..", root.join("zz")).unwrap();
        let mut expected: Vec<_> =
            names.iter().flat_map(|name| [name.to_vec(), [*name, *name].join(&b'/')]).collect();
        expected.insert(10, b"zz".to_vec());
        assert_eq!(paths(&root).unwrap(), expected);
        symlink("root", place.path().join("link")).unwrap();
        assert!(Dir::open(&place.path().join("link")).is_err());
    }

    #[test]
    fn entries_have_kinds_and_hard_links_share_an_identity() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::write(at("a"), "12345").unwrap();
        fs::hard_link(at("a"), at("b")).unwrap();
        fs::write(at("c"), "").unwrap();
        fs::create_dir_all(at("d/inner")).unwrap();
        symlink("nowhere", at("e")).unwrap();
        fs::hard_link(at("e"), at("f")).unwrap();
        let _socket = UnixListener::bind(at("g")).unwrap();
        let root = Dir::open(place.path()).unwrap();
        let (mut kinds, mut links) = (Vec::new(), Links::default());
        for entry in root.entries().unwrap() {
            let entry = entry.unwrap();
            let first = links.first(&entry.stat, || entry.name.clone()).cloned();
            kinds.push((entry.kind().unwrap(), first));
        }
        let link = || Some(Kind::Symlink(b"nowhere".to_vec()));
        let expected = [
            (Some(Kind::File(5)), None),
            (Some(Kind::File(5)), Some(b"a".to_vec())),
            (Some(Kind::File(0)), None),
            (Some(Kind::Directory), None),
            (link(), None),
            (link(), None),
            (None, None),
        ];
        assert_eq!(kinds, expected);
    }

    #[test]
    fn a_name_that_vanishes_is_an_error_that_names_it() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("sub")).unwrap();
        for name in ["a", "b"] {
            fs::write(place.path().join("sub").join(name), "").unwrap();
        }
        let root = Dir::open(place.path()).unwrap();
        let error = walk(&root, &mut |entry| {
            if entry.name == b"a" {
                fs::remove_file(place.path().join("sub/b")).unwrap();
            }
            Ok::<_, IoError>(())
        })
        .unwrap_err();
        let path = place.path().join("sub/b");
        assert_eq!(error.to_string(), format!("cannot inspect `{}`", path.display()));
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_directory_that_is_replaced_by_a_link_is_not_entered() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::create_dir_all(at("root/sub")).unwrap();
        fs::create_dir(at("outside")).unwrap();
        fs::write(at("outside/secret"), "").unwrap();
        let (root, mut seen) = (at("root"), 0);
        let error = walk(&Dir::open(&root).unwrap(), &mut |_| {
            seen += 1;
            fs::remove_dir(at("root/sub")).unwrap();
            symlink("../outside", at("root/sub")).unwrap();
            Ok::<_, IoError>(())
        })
        .unwrap_err();
        assert_eq!(
            (error.to_string(), seen),
            (format!("cannot open directory `{}`", at("root/sub").display()), 1)
        );
    }

    /// Root may read every directory. The test drops the capability in a thread of its own, because
    /// capabilities belong to threads.
    #[test]
    fn a_directory_that_may_not_be_read_is_named() {
        let place = tempfile::tempdir().unwrap();
        let closed = place.path().join("sub/closed");
        fs::create_dir_all(&closed).unwrap();
        fs::set_permissions(&closed, Permissions::from_mode(0o000)).unwrap();
        let walked = std::thread::scope(|scope| {
            let walk = || {
                let mut sets = capabilities(None).unwrap();
                sets.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
                set_capabilities(None, sets).unwrap();
                paths(place.path())
            };
            scope.spawn(walk).join().unwrap()
        });
        let error = walked.unwrap_err();
        assert_eq!(error.to_string(), format!("cannot open directory `{}`", closed.display()));
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    /// Its path is longer than a system call accepts.
    #[test]
    fn a_tree_of_300_levels_is_read_to_the_end() {
        const NAME: &str = "a-name-of-some-length";
        let place = tempfile::tempdir().unwrap();
        let mut handle = open_directory(CWD, place.path()).unwrap();
        for _ in 0..300 {
            mkdirat(&handle, NAME, Mode::RWXU).unwrap();
            handle = open_directory(&handle, NAME).unwrap();
        }
        let file = openat(&handle, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap();
        FileRef::Open(file.as_fd()).set_attribute(b"user.deep", b"1").unwrap();
        let mut deepest = None;
        walk(&Dir::open(place.path()).unwrap(), &mut |entry| {
            if entry.name == b"file" {
                assert!(entry.open().is_ok());
                deepest = Some((entry.path.len(), entry.xattrs()?.len()));
            }
            Ok::<_, IoError>(())
        })
        .unwrap();
        assert_eq!(deepest, Some((300 * (NAME.len() + 1) + 4, 1)));
    }
}
