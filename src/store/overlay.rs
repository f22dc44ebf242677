//! What overlayfs and unpacked layers need of a single file.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Mode, makedev, mknodat};
use rustix::io::Errno;

use crate::layer::{Kind, Meta};
use crate::tree::{FileRef, timestamps};

/// What overlayfs writes on a directory whose lower content is gone. The second form is of
/// unprivileged mounts.
pub(super) const OPAQUE: [&[u8]; 2] = [b"trusted.overlay.opaque", b"user.overlay.opaque"];

/// Returns true if overlayfs hides the lower directories of this name.
pub(super) fn is_opaque(file: FileRef<'_>) -> Result<bool, Errno> {
    for key in OPAQUE {
        if file.attribute(key)?.as_deref() == Some(b"y") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes a directory opaque: overlayfs hides the lower directories of its name.
pub(super) fn set_opaque(file: FileRef<'_>) -> Result<(), Errno> {
    // An ordinary user cannot set attributes of the `trusted` class, and mounts overlays that read
    // the other one.
    match file.set_attribute(OPAQUE[0], b"y") {
        Err(Errno::PERM) => file.set_attribute(OPAQUE[1], b"y"),
        result => result,
    }
}

/// Makes the device that overlayfs takes for a removal.
pub(super) fn make_whiteout(directory: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    mknodat(directory, name, FileType::CharacterDevice, Mode::empty(), makedev(0, 0))
}

/// Gives the entry `name` owner, mode, attributes and times.
pub(super) fn apply_meta(parent: BorrowedFd<'_>, name: &[u8], kind: &Kind, meta: &Meta) -> io::Result<()> {
    FileRef::Named(parent, name).set_meta(kind, meta, &timestamps(meta.mtime))
}
