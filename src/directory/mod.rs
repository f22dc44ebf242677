//! Safe access to directories that other users may write to.
//!
//! Root writes into directories of ordinary users, and all users write into `/tmp`. The owner of
//! such a directory can put a symbolic link, a hard link or a FIFO where a file is about to be
//! written, or exchange a whole directory while a build runs. A [`Directory`] is safe from this
//! with every setting of `fs.protected_symlinks` and `fs.protected_hardlinks`:
//!
//! - It is opened once. Later operations are relative to the open directory, so exchanging its path
//!   has no effect.
//! - A symbolic link on the way is followed only if its owner may decide where it leads (see
//!   [`Directory::open`]).
//! - New files have random names and are created with `O_EXCL`. They get their final names by
//!   rename, which replaces a link and never writes through it.

mod append;
mod document;
mod verified;
mod walk;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat, openat2};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

pub use append::open_to_append;
pub use document::{MAX_DOCUMENT_BYTES, as_text, open_regular, read_document, read_text};
pub use verified::{FileState, Verified};
pub use walk::ForeignLink;

use crate::tree::{names, open_directory, remove_tree, retry};

/// An open directory. Clones share it.
#[derive(Debug, Clone)]
pub struct Directory {
    fd: Arc<OwnedFd>,
    path: PathBuf,
}

impl Directory {
    /// Opens the directory at `path`.
    ///
    /// # Errors
    /// [`ForeignLink`], as the inner error, for a symbolic link of another user that could lead to
    /// a directory of a third one. Links are followed if they belong to root, to this process'
    /// user, to the caller of `sudo`, or to the owner of the directory that they lead to. Processes
    /// of ordinary users follow all links outside of sticky directories such as `/tmp`.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::walk(path, walk::Missing::Fail)
    }

    /// Opens the directory at `path`; makes it, and those above it, if it is missing.
    ///
    /// # Errors
    /// As [`Directory::open`].
    pub fn create(path: &Path) -> io::Result<Self> {
        Self::walk(path, walk::Missing::Make)
    }

    fn walk(path: &Path, missing: walk::Missing) -> io::Result<Self> {
        let found = walk::walk(path, missing)?;
        // The walk opens with `O_PATH`, which needs no read permission. Syncing and listing need
        // it.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&found, ".", flags, Mode::empty())?;
        Ok(Self { fd: Arc::new(fd), path: path.to_owned() })
    }

    /// Opens the directory that `path` is in. Returns it with the last component of `path`.
    ///
    /// # Errors
    /// As [`Directory::open`]; [`io::ErrorKind::InvalidInput`] for a path without a last component.
    pub fn of_file(path: &Path) -> io::Result<(Self, OsString)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((Self::open(parent(path))?, name.to_owned()))
    }

    /// Returns the path that it was opened by, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the directory `name` with mode 0755, less the umask, and opens it. It must not
    /// exist.
    pub fn create_directory(&self, name: &OsStr) -> io::Result<Self> {
        rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o755))?;
        let fd = open_directory(&self.fd, name)?;
        // Between the two calls, the owner of the directory around it may have put another
        // directory in its place.
        if rustix::fs::fstat(&fd)?.st_uid != rustix::process::geteuid().as_raw() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(Self { fd: Arc::new(fd), path: self.path.join(name) })
    }

    /// Creates the file `name`, which must not exist, to read and write.
    pub fn create_file(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.fd, name, flags, Mode::from_raw_mode(mode))?.into())
    }

    /// Creates a file without a name, to read and write; `None` if the file system does not support
    /// that.
    pub fn create_unnamed(&self) -> io::Result<Option<File>> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.fd, ".", flags, Mode::from_raw_mode(0o666)) {
            Ok(fd) => Ok(Some(fd.into())),
            // The file system does not support it; kernels before 3.11 ignore the flag and answer
            // ISDIR.
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::ISDIR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the regular file `name` to read. Refuses links, and special files, whose opening may
    /// block or have effects.
    pub fn open_regular(&self, name: &OsStr) -> io::Result<File> {
        let found = rustix::fs::openat(&self.fd, name, PATH_ONLY, Mode::empty())?;
        reopen_regular(&found, OFlags::RDONLY)
    }

    /// Opens the directory `name`. Refuses links.
    pub fn open_directory(&self, name: &OsStr) -> io::Result<Self> {
        let fd = open_directory(&self.fd, name)?;
        Ok(Self { fd: Arc::new(fd), path: self.path.join(name) })
    }

    /// Returns the status of `name`, without following a link; `None` if the name is free.
    pub fn status(&self, name: &OsStr) -> io::Result<Option<Stat>> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(status) => Ok(Some(status)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns true if `name` is a regular file.
    pub fn has_file(&self, name: &OsStr) -> io::Result<bool> {
        let status = self.status(name)?;
        Ok(status.is_some_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::RegularFile))
    }

    /// Returns the names in the directory, in no particular order.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        Ok(names(&self.fd)?.into_iter().map(OsString::from_vec).collect())
    }

    /// Gives an open file the further name `name`, which must be free.
    pub fn link(&self, file: &File, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::linkat(CWD, path_of(file), &self.fd, name, AtFlags::SYMLINK_FOLLOW)?)
    }

    /// Renames within the directory. Replaces an entry of the new name; if it is a link, then the
    /// link and not its target.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.fd, from, &self.fd, to)?)
    }

    /// Renames within the directory. An entry of the new name gets the old name.
    pub fn exchange(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        // If the name is taken or becomes free between the two calls, the second one fails. It
        // never replaces an entry.
        let flags = match self.status(to)? {
            Some(_) => RenameFlags::EXCHANGE,
            None => RenameFlags::NOREPLACE,
        };
        Ok(rustix::fs::renameat_with(&self.fd, from, &self.fd, to, flags)?)
    }

    /// Removes `name`, and everything below it if it is a directory. Follows no link, and fails
    /// where something is mounted. Succeeds if the name is missing.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(remove_tree(self.as_fd(), name.as_bytes())?)
    }

    /// Gives `name`, and everything below it, to another user. Follows no link. A file with several
    /// names keeps its owner: the other names may be in directories of other users.
    pub fn give(&self, name: &OsStr, uid: u32, gid: u32) -> io::Result<()> {
        let Some(status) = self.status(name)? else { return Ok(()) };
        let kind = FileType::from_raw_mode(status.st_mode);
        if kind == FileType::Directory {
            let inner = self.open_directory(name)?;
            inner.names()?.iter().try_for_each(|name| inner.give(name, uid, gid))?;
            return give(&inner, uid, gid);
        }
        // Through a descriptor: between counting the names and changing the owner, the name must
        // not become that of another file.
        let found = rustix::fs::openat(&self.fd, name, PATH_ONLY, Mode::empty())?;
        match rustix::fs::fstat(&found)?.st_nlink {
            1 => give(&found, uid, gid),
            _ => Ok(()),
        }
    }

    /// Returns the current path of the directory, without links.
    pub fn resolve(&self) -> io::Result<PathBuf> {
        std::fs::read_link(path_of(self))
    }

    /// Returns the free space of its file system, in bytes.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let status = rustix::fs::fstatvfs(&self.fd)?;
        Ok(status.f_bavail.saturating_mul(status.f_frsize))
    }

    /// Returns the users other than the trusted ones (root, this process' user, the caller of
    /// `sudo`) who may write to the directory. Ignores groups.
    pub fn access(&self) -> io::Result<Writers> {
        const EVERYBODY: u32 = 0o002;
        let status = rustix::fs::fstat(&self.fd)?;
        Ok(match status.st_mode & EVERYBODY {
            _ if !walk::trusted_users().contains(&status.st_uid) => Writers::Owner(status.st_uid),
            0 => Writers::Trusted,
            _ => Writers::Everybody,
        })
    }

    /// Makes the directory this user's, with mode 0755 and without access lists.
    pub fn take_over(&self) -> io::Result<()> {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        // The owner first: from then on, the old owner can no longer set an access list.
        give(self, uid, gid)?;
        // A default list of the old owner would let that user write to every directory that is made
        // here.
        for list in ["system.posix_acl_access", "system.posix_acl_default"] {
            match rustix::fs::fremovexattr(&self.fd, list) {
                Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(0o755))?)
    }

    /// Syncs the names of the directory to the disk. A new file is safe from a crash only after
    /// this and a sync of the file.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.fd)?)
    }
}

/// The users who may write to a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// Root, this process' user or the caller of `sudo`, and the directory's group.
    Trusted,
    /// This user.
    Owner(u32),
    /// Every user.
    Everybody,
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Flags that examine a name without opening the file: opening a FIFO blocks, and opening a device
/// may have effects.
const PATH_ONLY: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Returns the directory part of a path; `.` if it has none.
pub fn parent(path: &Path) -> &Path {
    path.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Returns a path of an open file, by which other programs can open it while this process has it
/// open.
pub fn path_of(file: impl AsFd) -> PathBuf {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_fd().as_raw_fd()).into()
}

/// Returns `prefix`, 16 random hexadecimal digits, and `suffix`. Other users cannot guess the name,
/// and so cannot occupy it.
pub fn random_name(prefix: &str, suffix: &str) -> io::Result<OsString> {
    let mut bytes = [0; 8];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(format!("{prefix}{:016x}{suffix}", u64::from_ne_bytes(bytes)).into())
}

/// Opens `path` as a program would whose root directory is `root`: no symbolic link leads out of
/// it.
pub fn open_in_root(root: impl AsFd, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    retry(|| openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve))
}

/// Opens the regular file `found`, a descriptor of `O_PATH`.
pub fn reopen_regular(found: &OwnedFd, flags: OFlags) -> io::Result<File> {
    if FileType::from_raw_mode(rustix::fs::fstat(found)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    // By the descriptor: the name may belong to another file by now.
    Ok(rustix::fs::open(path_of(found), flags | OFlags::CLOEXEC, Mode::empty())?.into())
}

fn give(what: impl AsFd, uid: u32, gid: u32) -> io::Result<()> {
    use rustix::fs::{Gid, Uid, chownat};
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    Ok(chownat(what, "", uid, gid, AtFlags::EMPTY_PATH)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn an_exchanged_path_does_not_move_an_open_directory() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let directory = Directory::create(&at("a/b")).unwrap();
        fs::rename(at("a/b"), at("kept")).unwrap();
        fs::create_dir(at("other")).unwrap();
        symlink(at("other"), at("a/b")).unwrap();
        directory.create_file("x".as_ref(), 0o666).unwrap();
        let inner = directory.create_directory("d".as_ref()).unwrap();
        inner.create_file("y".as_ref(), 0o666).unwrap();
        assert!(at("kept/x").is_file() && at("kept/d/y").is_file());
        assert_eq!(fs::read_dir(at("other")).unwrap().count(), 0);
    }

    #[test]
    fn no_operation_follows_a_link() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::create_dir_all(at("outside/kept")).unwrap();
        fs::write(at("outside/file"), "kept").unwrap();
        fs::create_dir(at("d")).unwrap();
        symlink("../outside", at("d/link")).unwrap();
        symlink("../outside/file", at("d/file")).unwrap();
        symlink("../nowhere", at("d/dangling")).unwrap();
        let directory = Directory::open(&at("d")).unwrap();
        for name in ["link", "file", "dangling"].map(OsStr::new) {
            assert!(directory.create_file(name, 0o666).is_err());
            assert!(directory.create_directory(name).is_err());
            assert!(directory.open_regular(name).is_err());
            assert!(directory.open_directory(name).is_err());
            assert!(!directory.has_file(name).unwrap());
        }
        directory.give("link".as_ref(), 12, 34).unwrap();
        assert_eq!(fs::metadata(at("outside")).unwrap().uid(), fs::metadata(at("d")).unwrap().uid());
        directory.create_file("new".as_ref(), 0o666).unwrap();
        directory.rename("new".as_ref(), "file".as_ref()).unwrap();
        ["link", "dangling"].iter().for_each(|name| directory.remove(name.as_ref()).unwrap());
        assert_eq!(directory.names().unwrap(), ["file"]);
        assert_eq!(fs::read(at("outside/file")).unwrap(), b"kept");
        assert!(at("outside/kept").is_dir() && !at("nowhere").exists());
    }

    #[test]
    fn taking_over_a_directory_removes_access_lists() {
        const DEFAULT: &str = "system.posix_acl_default";
        let place = tempfile::tempdir().unwrap();
        let (own, nobody) = (rustix::process::geteuid().as_raw(), u32::MAX);
        // Owner, one user, group, mask, others. Source: acl(5); Linux,
        // `include/uapi/linux/posix_acl_xattr.h`.
        let entries = [
            (0x01u16, 7u16, nobody),
            (0x02, 7, own),
            (0x04, 5, nobody),
            (0x10, 7, nobody),
            (0x20, 5, nobody),
        ];
        let mut list = 2u32.to_le_bytes().to_vec();
        for (tag, rights, id) in entries {
            list.extend([tag, rights].map(u16::to_le_bytes).as_flattened());
            list.extend(id.to_le_bytes());
        }
        rustix::fs::setxattr(place.path(), DEFAULT, &list, rustix::fs::XattrFlags::empty()).unwrap();
        Directory::open(place.path()).unwrap().take_over().unwrap();
        let left = rustix::fs::getxattr(place.path(), DEFAULT, &mut [0u8; 256]);
        assert_eq!(left.unwrap_err(), Errno::NODATA);
        assert_eq!(fs::metadata(place.path()).unwrap().mode() & 0o7777, 0o755);
    }

    #[test]
    fn a_path_has_a_directory() {
        for (path, expected) in [("a", "."), ("a/b", "a"), ("/a", "/"), ("./a", ".")] {
            assert_eq!(parent(Path::new(path)), Path::new(expected), "{path}");
        }
    }
}
