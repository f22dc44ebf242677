//! What overlayfs and unpacked layers need of a single file.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid, chmodat, chownat, makedev, mknodat, utimensat};
use rustix::io::Errno;

use super::scan::timestamps;
use super::xattr;
use crate::layer::{Kind, Meta};

/// Makes the device that overlayfs takes for a removal.
pub(super) fn make_whiteout(directory: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    mknodat(directory, name, FileType::CharacterDevice, Mode::empty(), makedev(0, 0))
}

/// Gives the entry `name` owner, mode, attributes and times, in this order.
pub(super) fn apply_meta(parent: BorrowedFd<'_>, name: &[u8], kind: &Kind, meta: &Meta) -> io::Result<()> {
    let Meta { mode, uid, gid, mtime, xattrs } = meta;
    let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
    chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    // Symbolic links have no mode of their own. The name was made here and is no link: nothing is followed.
    if !matches!(kind, Kind::Symlink(_)) {
        chmodat(parent, name, Mode::from_raw_mode(*mode), AtFlags::empty())?;
    }
    xattr::set_all(parent, name, xattrs)?;
    Ok(utimensat(parent, name, &timestamps(*mtime), AtFlags::SYMLINK_NOFOLLOW)?)
}
