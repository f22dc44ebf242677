//! Directories that other users may write to.
//!
//! Root writes into directories of ordinary users, and everybody writes into `/tmp`. Whoever owns such a directory can put a
//! symbolic link, a hard link or a FIFO where a file is about to be written, or exchange a whole directory while a build runs.
//! A [`Directory`] is safe from this whatever `fs.protected_symlinks` and `fs.protected_hardlinks` say:
//!
//! - It is opened once. Later operations are relative to the open directory, so exchanging its path changes nothing.
//! - A symbolic link on the way is followed only if its owner may decide where it leads (see [`Directory::open`]).
//! - New files have names that nobody can foresee and are created with `O_EXCL`. Final names are given by rename, which replaces
//!   a link and never writes through it.

mod append;
mod walk;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

pub use append::open_to_append;
pub use walk::ForeignLink;

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
    /// [`ForeignLink`], as the inner error, for a symbolic link of another user that could lead this process astray. Links are
    /// followed if they belong to root, to this process' user, to the caller of `sudo`, or to the user who owns the directory
    /// that they lead to. Processes of ordinary users follow all links outside of sticky directories such as `/tmp`.
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
        // `O_PATH` is enough to walk; syncing and listing need more.
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

    /// Creates the directory `name` with mode 0755, less the umask, and opens it. It must not exist.
    pub fn create_directory(&self, name: &OsStr) -> io::Result<Self> {
        rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(0o755))?;
        let fd = rustix::fs::openat(&self.fd, name, SUBDIRECTORY, Mode::empty())?;
        // The owner of the directory around it could have exchanged it since.
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

    /// Creates a file without a name, to read and write; `None` where the file system has no such files.
    pub fn create_unnamed(&self) -> io::Result<Option<File>> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.fd, ".", flags, Mode::from_raw_mode(0o666)) {
            Ok(fd) => Ok(Some(fd.into())),
            // The last is what kernels say that know no such files.
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::ISDIR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the regular file `name` to read: no link, and nothing that blocks or acts when it is opened.
    pub fn open_regular(&self, name: &OsStr) -> io::Result<File> {
        let found = rustix::fs::openat(&self.fd, name, PATH_ONLY, Mode::empty())?;
        reopen_regular(&found, OFlags::RDONLY)
    }

    /// Opens the directory `name`, which is no link.
    pub fn open_directory(&self, name: &OsStr) -> io::Result<Self> {
        let fd = rustix::fs::openat(&self.fd, name, SUBDIRECTORY, Mode::empty())?;
        Ok(Self { fd: Arc::new(fd), path: self.path.join(name) })
    }

    /// Returns the status of `name`; of a link, its own. `None` if nothing has the name.
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

    /// Returns the names in it, in no particular order.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        use std::os::unix::ffi::OsStringExt;
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if !matches!(name.as_slice(), b"." | b"..") {
                names.push(OsString::from_vec(name));
            }
        }
        Ok(names)
    }

    /// Gives an open file the further name `name`, which must be free.
    pub fn link(&self, file: &File, name: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::linkat(CWD, path_of(file), &self.fd, name, AtFlags::SYMLINK_FOLLOW)?)
    }

    /// Renames within it. What has the new name is replaced; a link itself, not what it leads to.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.fd, from, &self.fd, to)?)
    }

    /// Renames within it; if something has the new name, the two change places.
    pub fn exchange(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        let flags = match self.status(to)? {
            Some(_) => RenameFlags::EXCHANGE,
            None => RenameFlags::NOREPLACE,
        };
        Ok(rustix::fs::renameat_with(&self.fd, from, &self.fd, to, flags)?)
    }

    /// Removes `name`, and everything below it if it is a directory. Follows no link; a missing name is fine.
    pub fn remove(&self, name: &OsStr) -> io::Result<()> {
        let removed = match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => self.remove_directory(name),
            result => result.map_err(io::Error::from),
        };
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn remove_directory(&self, name: &OsStr) -> io::Result<()> {
        let inner = self.open_directory(name)?;
        inner.names()?.iter().try_for_each(|name| inner.remove(name))?;
        Ok(rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)?)
    }

    /// Gives `name`, and all that is below it, to another user. Follows no link. A file with several names keeps its owner:
    /// one of the names may be in a directory that is nobody's business here.
    pub fn give(&self, name: &OsStr, uid: u32, gid: u32) -> io::Result<()> {
        let Some(status) = self.status(name)? else { return Ok(()) };
        let kind = FileType::from_raw_mode(status.st_mode);
        if kind == FileType::Directory {
            let inner = self.open_directory(name)?;
            inner.names()?.iter().try_for_each(|name| inner.give(name, uid, gid))?;
            return give(&inner, uid, gid);
        }
        let found = rustix::fs::openat(&self.fd, name, PATH_ONLY, Mode::empty())?;
        match rustix::fs::fstat(&found)?.st_nlink {
            1 => give(&found, uid, gid),
            _ => Ok(()),
        }
    }

    /// Returns its present path, without links.
    pub fn resolve(&self) -> io::Result<PathBuf> {
        std::fs::read_link(path_of(self))
    }

    /// Returns the free space of its file system, in bytes.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let status = rustix::fs::fstatvfs(&self.fd)?;
        Ok(status.f_bavail.saturating_mul(status.f_frsize))
    }

    /// Returns who may write to it beside the users that this process trusts, and their groups.
    pub fn access(&self) -> io::Result<Writers> {
        const EVERYBODY: u32 = 0o002;
        let status = rustix::fs::fstat(&self.fd)?;
        Ok(match status.st_mode & EVERYBODY {
            _ if !walk::trusted_users().contains(&status.st_uid) => Writers::Owner(status.st_uid),
            0 => Writers::Trusted,
            _ => Writers::Everybody,
        })
    }

    /// Makes it this user's, with mode 0755.
    pub fn take_over(&self) -> io::Result<()> {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        give(self, uid, gid)?;
        Ok(rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(0o755))?)
    }

    /// Writes names that were given to the disk.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.fd)?)
    }
}

/// Who may write to a directory.
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

/// How directories below another are opened.
const SUBDIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Finds out what something is without opening it: opening a FIFO blocks, opening a device may act.
const PATH_ONLY: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Returns the directory part of a path, `.` if it has none.
pub fn parent(path: &Path) -> &Path {
    path.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Returns a path by which programs can open the file while this process has it open.
pub fn path_of(file: impl AsFd) -> PathBuf {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_fd().as_raw_fd()).into()
}

/// Returns a name that nobody can foresee: `prefix`, 16 random hexadecimal digits, `suffix`.
pub fn random_name(prefix: &str, suffix: &str) -> io::Result<OsString> {
    let mut bytes = [0; 8];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(format!("{prefix}{:016x}{suffix}", u64::from_ne_bytes(bytes)).into())
}

/// Opens what `found` (opened with `O_PATH`) is, if it is a regular file.
fn reopen_regular(found: &OwnedFd, flags: OFlags) -> io::Result<File> {
    if FileType::from_raw_mode(rustix::fs::fstat(found)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
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
    fn a_path_has_a_directory() {
        for (path, expected) in [("a", "."), ("a/b", "a"), ("/a", "/"), ("./a", ".")] {
            assert_eq!(parent(Path::new(path)), Path::new(expected), "{path}");
        }
    }
}
