//! What a file is besides its bytes: owner, mode, extended attributes, times.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::buffer::spare_capacity;
use rustix::fs::{self, AtFlags, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::layer::is_content;

/// A file system object, named in one of two ways.
#[derive(Debug, Clone, Copy)]
pub(super) enum Node<'a> {
    /// An open file or directory.
    Open(BorrowedFd<'a>),
    /// A name in an open directory, for what cannot be opened: symbolic links, devices, pipes.
    Named(BorrowedFd<'a>, &'a CStr),
}

/// The kernel's limit of a list of names, and of a value: `XATTR_LIST_MAX`, `XATTR_SIZE_MAX`.
const XATTR_LIMIT_BYTES: usize = 64 << 10;

impl Node<'_> {
    /// Gives it the owner, mode, attributes and times of `source`, whose status is `stat`.
    ///
    /// In this order: a change of owner clears setuid bits and file capabilities, and everything changes times.
    pub(super) fn copy_metadata(self, source: Node, stat: &Stat) -> Result<(), Errno> {
        self.set_owner(stat)?;
        if fs::FileType::from_raw_mode(stat.st_mode) != fs::FileType::Symlink {
            self.set_mode(Mode::from_raw_mode(stat.st_mode))?;
        }
        self.copy_xattrs(source)?;
        self.set_times(stat)
    }

    fn set_owner(self, stat: &Stat) -> Result<(), Errno> {
        let (uid, gid) = (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)));
        match self {
            Node::Open(fd) => fs::fchown(fd, uid, gid),
            Node::Named(fd, name) => fs::chownat(fd, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    fn set_mode(self, mode: Mode) -> Result<(), Errno> {
        match self {
            Node::Open(fd) => fs::fchmod(fd, mode),
            // Safe without a no-follow flag: we have just made the node, and not as a link.
            Node::Named(fd, name) => fs::chmodat(fd, name, mode, AtFlags::empty()),
        }
    }

    fn set_times(self, stat: &Stat) -> Result<(), Errno> {
        let modified = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as i64 };
        let times = Timestamps { last_access: modified, last_modification: modified };
        match self {
            Node::Open(fd) => fs::futimens(fd, &times),
            Node::Named(fd, name) => fs::utimensat(fd, name, &times, AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    fn copy_xattrs(self, source: Node) -> Result<(), Errno> {
        let names = source.list_xattrs()?;
        for name in names.split(|&byte| byte == 0).filter(|name| is_content(name)) {
            let name = CString::new(name).expect("names are split at NUL");
            self.set_xattr(&name, &source.get_xattr(&name)?)?;
        }
        Ok(())
    }

    /// Returns the names, each ended by a NUL.
    fn list_xattrs(self) -> Result<Vec<u8>, Errno> {
        let mut list = Vec::with_capacity(XATTR_LIMIT_BYTES);
        let listed = match self {
            Node::Open(fd) => fs::flistxattr(fd, spare_capacity(&mut list)),
            Node::Named(fd, name) => fs::llistxattr(proc_path(fd, name), spare_capacity(&mut list)),
        };
        match listed {
            // A file system without attributes has none to copy.
            Ok(_) | Err(Errno::OPNOTSUPP) => Ok(list),
            Err(errno) => Err(errno),
        }
    }

    fn get_xattr(self, attribute: &CStr) -> Result<Vec<u8>, Errno> {
        let mut value = Vec::with_capacity(XATTR_LIMIT_BYTES);
        match self {
            Node::Open(fd) => fs::fgetxattr(fd, attribute, spare_capacity(&mut value)),
            Node::Named(fd, name) => {
                fs::lgetxattr(proc_path(fd, name), attribute, spare_capacity(&mut value))
            }
        }?;
        Ok(value)
    }

    fn set_xattr(self, attribute: &CStr, value: &[u8]) -> Result<(), Errno> {
        match self {
            Node::Open(fd) => fs::fsetxattr(fd, attribute, value, XattrFlags::empty()),
            Node::Named(fd, name) => {
                fs::lsetxattr(proc_path(fd, name), attribute, value, XattrFlags::empty())
            }
        }
    }
}

/// There are no system calls for attributes of a name in an open directory.
fn proc_path(directory: BorrowedFd, name: &CStr) -> CString {
    let prefix = format!("/proc/self/fd/{}/", directory.as_raw_fd());
    CString::new([prefix.as_bytes(), name.to_bytes()].concat()).expect("names have no NUL")
}
