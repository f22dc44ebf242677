//! Metadata and extended attributes.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{self, AtFlags, Gid, Mode, Stat, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::kind;
use crate::layer::{Clamp, Kind, Meta, Xattrs, is_content};

/// A reference to a file of any type. It borrows the handle, because the path in `/proc` is valid
/// only while the handle is open.
#[derive(Debug, Clone, Copy)]
pub enum FileRef<'a> {
    /// An open file or directory.
    Open(BorrowedFd<'a>),
    /// A name in an open directory, for files that must not be opened: symbolic links, devices,
    /// pipes. `.` is the directory itself.
    Named(BorrowedFd<'a>, &'a [u8]),
}

/// The size of the first buffer for a list of names or a value. Larger ones take a second system
/// call.
const SMALL_BYTES: usize = 1024;

/// The kernel's limit of a list of names, and of a value: `XATTR_LIST_MAX`, `XATTR_SIZE_MAX`.
const LARGEST_BYTES: usize = 64 << 10;

impl<'a> FileRef<'a> {
    /// Returns the status; for a link, the status of the link itself.
    pub fn status(self) -> Result<Stat, Errno> {
        match self {
            FileRef::Open(file) => fs::fstat(file),
            FileRef::Named(directory, name) => fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    /// Returns kind and metadata. The kind is `None` for a socket.
    pub fn describe(self) -> Result<(Option<Kind>, Meta), Errno> {
        let stat = self.status()?;
        let (directory, name) = match self {
            FileRef::Open(file) => (file, &b""[..]),
            FileRef::Named(directory, name) => (directory, name),
        };
        Ok((
            kind(directory, name, &stat)?,
            Meta { xattrs: self.content()?, ..super::meta(&stat, &Clamp::none()) },
        ))
    }

    /// Returns the names of all extended attributes. Empty if the file system does not support
    /// them.
    pub fn attributes(self) -> Result<Vec<Vec<u8>>, Errno> {
        let listed = match self {
            FileRef::Open(file) => read(|buffer| fs::flistxattr(file, buffer)),
            FileRef::Named(directory, name) => {
                let path = proc_path(directory, name);
                read(|buffer| fs::llistxattr(path.as_slice(), buffer))
            }
        };
        let names = match listed {
            Err(Errno::NOTSUP) => Vec::new(),
            listed => listed?,
        };
        Ok(names.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
    }

    /// Returns the value of an extended attribute, or `None` if the file does not have it.
    pub fn attribute(self, key: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
        let value = match self {
            FileRef::Open(file) => read(|buffer| fs::fgetxattr(file, key, buffer)),
            FileRef::Named(directory, name) => {
                let path = proc_path(directory, name);
                read(|buffer| fs::lgetxattr(path.as_slice(), key, buffer))
            }
        };
        match value {
            Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
            value => value.map(Some),
        }
    }

    /// Returns the extended attributes that belong to content.
    pub fn content(self) -> Result<Xattrs, Errno> {
        let mut content = Xattrs::new();
        for key in self.attributes()?.into_iter().filter(|key| is_content(key)) {
            if let Some(value) = self.attribute(&key)? {
                content.insert(key, value);
            }
        }
        Ok(content)
    }

    /// Sets an extended attribute.
    pub fn set_attribute(self, key: &[u8], value: &[u8]) -> Result<(), Errno> {
        let flags = XattrFlags::empty();
        match self {
            FileRef::Open(file) => fs::fsetxattr(file, key, value, flags),
            FileRef::Named(directory, name) => {
                fs::lsetxattr(proc_path(directory, name).as_slice(), key, value, flags)
            }
        }
    }

    /// Removes an extended attribute.
    pub fn remove_attribute(self, key: &[u8]) -> Result<(), Errno> {
        match self {
            FileRef::Open(file) => fs::fremovexattr(file, key),
            FileRef::Named(directory, name) => fs::lremovexattr(proc_path(directory, name).as_slice(), key),
        }
    }

    /// Sets the owner, mode and attributes of `meta`, and these times, on a file of this kind.
    /// Keeps other attributes of the file.
    ///
    /// # Errors
    /// An error about an attribute names it: the kernel refuses some attributes on links, and
    /// malformed values.
    pub fn set_meta(self, kind: &Kind, meta: &Meta, times: &Timestamps) -> io::Result<()> {
        // The order matters: a change of owner clears setuid bits and file capabilities, and each
        // of these calls may change times.
        self.set_owner(meta)?;
        // Symbolic links have no mode of their own.
        if !matches!(kind, Kind::Symlink(_)) {
            self.set_mode(Mode::from_raw_mode(meta.mode))?;
        }
        for (key, value) in &meta.xattrs {
            self.set_attribute(key, value).map_err(|error| refused(key, error))?;
        }
        Ok(self.set_times(times)?)
    }

    fn set_owner(self, meta: &Meta) -> Result<(), Errno> {
        let (uid, gid) = (Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)));
        match self {
            FileRef::Open(file) => fs::fchown(file, uid, gid),
            FileRef::Named(directory, name) => {
                fs::chownat(directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            }
        }
    }

    fn set_mode(self, mode: Mode) -> Result<(), Errno> {
        match self {
            FileRef::Open(file) => fs::fchmod(file, mode),
            // Kernels before 6.6 have no flag against following a link here. `set_meta` does not
            // call this for links.
            FileRef::Named(directory, name) => fs::chmodat(directory, name, mode, AtFlags::empty()),
        }
    }

    /// Sets the times; for a link, the times of the link itself.
    pub fn set_times(self, times: &Timestamps) -> Result<(), Errno> {
        match self {
            FileRef::Open(file) => fs::futimens(file, times),
            FileRef::Named(directory, name) => {
                fs::utimensat(directory, name, times, AtFlags::SYMLINK_NOFOLLOW)
            }
        }
    }
}

/// Returns a path of `name` in `directory` for calls on extended attributes. Before Linux 6.13,
/// these calls accept no directory handle; the link in `/proc` leads to the open directory itself.
fn proc_path(directory: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

/// Reads a list or value. Makes a second call only if it is large.
fn read(call: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0; SMALL_BYTES];
    match call(&mut small) {
        Err(Errno::RANGE) => {}
        count => return Ok(small[..count?].to_vec()),
    }
    let mut large = vec![0; LARGEST_BYTES];
    let count = call(&mut large)?;
    large.truncate(count);
    Ok(large)
}

fn refused(key: &[u8], error: Errno) -> io::Error {
    let error = io::Error::from(error);
    let message = format!("cannot set the extended attribute `{}`: {error}", key.escape_ascii());
    io::Error::new(error.kind(), message)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    /// Uses attributes that fit into 4 KiB with their values, because ext4 has no more space for
    /// them.
    #[test]
    fn lists_of_any_length_are_read_whole() {
        for bytes in [0, 1, SMALL_BYTES, SMALL_BYTES + 1, 4097, LARGEST_BYTES] {
            let list = vec![b'x'; bytes];
            let kernel = |buffer: &mut [u8]| match buffer.get_mut(..bytes) {
                Some(room) => {
                    room.copy_from_slice(&list);
                    Ok(bytes)
                }
                None => Err(Errno::RANGE),
            };
            assert!(read(kernel).unwrap() == list, "{bytes}");
        }
    }

    #[test]
    fn attributes_are_the_same_by_handle_and_by_name() {
        let place = tempfile::tempdir().unwrap();
        let directory = super::super::open_directory(fs::CWD, place.path()).unwrap();
        let name = b"a\xffb\n";
        let path = super::super::dir::join(place.path(), name);
        let file = std::fs::File::create(&path).unwrap();
        let refs = [FileRef::Named(directory.as_fd(), name), FileRef::Open(file.as_fd())];
        refs[0].set_attribute(b"user.a", &[1; 3000]).unwrap();
        refs[1].set_attribute(b"user.\xfe", b"").unwrap();
        refs[1].set_attribute(b"user.overlay.opaque", b"y").unwrap();
        for file in refs {
            let content = [(b"user.a".to_vec(), vec![1; 3000]), (b"user.\xfe".to_vec(), vec![])];
            assert_eq!(file.content().unwrap(), content.into());
            assert_eq!(file.attributes().unwrap().len(), 3);
            assert_eq!(file.attribute(b"user.b").unwrap(), None);
        }
        refs[1].remove_attribute(b"user.a").unwrap();
        assert_eq!(refs[0].attribute(b"user.a").unwrap(), None);
        let error = refs[0].set_meta(
            &Kind::File(0),
            &Meta { xattrs: [(b"nonsense".to_vec(), vec![])].into(), ..own_meta() },
            &super::super::timestamps(1),
        );
        assert!(error.unwrap_err().to_string().contains("attribute `nonsense`"));
    }

    /// Metadata that a user without capabilities can set.
    fn own_meta() -> Meta {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        Meta { mode: 0o4751, uid, gid, mtime: 7, xattrs: Xattrs::new() }
    }

    #[test]
    fn a_link_gets_metadata_of_its_own() {
        let place = tempfile::tempdir().unwrap();
        let directory = super::super::open_directory(fs::CWD, place.path()).unwrap();
        std::fs::write(place.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink("file", place.path().join("link")).unwrap();
        let at = |name: &'static str| FileRef::Named(directory.as_fd(), name.as_bytes());
        let before = at("file").status().unwrap();
        let time = fs::Timespec { tv_sec: 1000, tv_nsec: 5 };
        let times = Timestamps { last_access: time, last_modification: time };
        at("link").set_meta(&Kind::Symlink(b"file".to_vec()), &own_meta(), &times).unwrap();
        let (link, file) = (at("link").status().unwrap(), at("file").status().unwrap());
        assert_eq!((link.st_mtime, link.st_mtime_nsec), (1000, 5));
        assert_eq!((file.st_mtime, file.st_mode), (before.st_mtime, before.st_mode));
        at("file").set_meta(&Kind::File(0), &own_meta(), &times).unwrap();
        assert_eq!(at("file").status().unwrap().st_mode & 0o7777, 0o4751);
        assert_eq!(at("link").describe().unwrap().0, Some(Kind::Symlink(b"file".to_vec())));
    }
}
