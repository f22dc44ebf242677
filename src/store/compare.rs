//! Compares files and trees on disk.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Mode, OFlags, openat, statat};

use super::overlay::is_opaque;
use crate::layer::Kind;
use crate::tree::{FileRef, kind, open_directory, sorted_names};

/// Returns true if two readers return the same bytes.
pub(super) fn equal_bytes(mut a: impl Read, mut b: impl Read) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; 128 * 1024], vec![0; 128 * 1024]);
    loop {
        let count = a.read(&mut left)?;
        if count == 0 {
            return Ok(b.read(&mut right)? == 0);
        }
        match b.read_exact(&mut right[..count]) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            result => result?,
        }
        if left[..count] != right[..count] {
            return Ok(false);
        }
    }
}

/// Returns true if two unpacked layers are equal in names, content and metadata.
pub(super) fn equal_trees(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> io::Result<bool> {
    let left = sorted_names(a)?;
    if left != sorted_names(b)? || !equal_nodes(a, b, b".")? {
        return Ok(false);
    }
    for name in left {
        if !equal_entries(a, b, &name)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn equal_entries(a: BorrowedFd<'_>, b: BorrowedFd<'_>, name: &[u8]) -> io::Result<bool> {
    if !equal_nodes(a, b, name)? {
        return Ok(false);
    }
    let stat = statat(a, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match kind(a, name, &stat)? {
        Some(Kind::Directory) => {
            let open = |parent| open_directory(parent, name);
            equal_trees(open(a)?.as_fd(), open(b)?.as_fd())
        }
        Some(Kind::File(_)) => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let open = |parent| openat(parent, name, flags, Mode::empty()).map(File::from);
            equal_bytes(open(a)?, open(b)?)
        }
        _ => Ok(true),
    }
}

fn equal_nodes(a: BorrowedFd<'_>, b: BorrowedFd<'_>, name: &[u8]) -> io::Result<bool> {
    let describe = |parent| -> io::Result<_> {
        let file = FileRef::Named(parent, name);
        Ok(match file.describe()? {
            // A removal has no metadata.
            (Some(Kind::Whiteout), _) => None,
            described => Some((described, is_opaque(file)?)),
        })
    };
    Ok(describe(a)? == describe(b)?)
}
