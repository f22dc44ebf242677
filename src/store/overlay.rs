//! Marks of overlayfs on single files: opaque directories, removals, metadata.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, Mode, makedev, mknodat};
use rustix::io::Errno;

use crate::layer::{Kind, Meta};
use crate::tree::{FileRef, timestamps};

/// The attributes with which overlayfs marks an opaque directory. Unprivileged mounts use the
/// second one.
pub(super) const OPAQUE: [&[u8]; 2] = [b"trusted.overlay.opaque", b"user.overlay.opaque"];

/// Returns true if overlayfs hides lower directories of this name.
pub(super) fn is_opaque(file: FileRef<'_>) -> Result<bool, Errno> {
    for key in OPAQUE {
        if file.attribute(key)?.as_deref() == Some(b"y") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes a directory opaque: overlayfs hides lower directories of its name.
pub(super) fn set_opaque(file: FileRef<'_>) -> Result<(), Errno> {
    // Ordinary users cannot set `trusted` attributes. Their overlays read the `user` attribute.
    match file.set_attribute(OPAQUE[0], b"y") {
        Err(Errno::PERM) => file.set_attribute(OPAQUE[1], b"y"),
        result => result,
    }
}

/// Creates the device that marks a removal for overlayfs.
pub(super) fn make_whiteout(directory: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    mknodat(directory, name, FileType::CharacterDevice, Mode::empty(), makedev(0, 0))
}

/// Sets owner, mode, attributes and times of the entry `name`.
pub(super) fn apply_meta(parent: BorrowedFd<'_>, name: &[u8], kind: &Kind, meta: &Meta) -> io::Result<()> {
    FileRef::Named(parent, name).set_meta(kind, meta, &timestamps(meta.mtime))
}
