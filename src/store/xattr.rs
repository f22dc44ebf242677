//! Extended attributes of a name in an open directory.
//!
//! The kernel has no `*at` calls for them before 6.13; the name is reached through the directory's entry in `/proc`, which
//! resolves to that very directory, and links at the end are not followed. All functions borrow the directory: the path is
//! good only while its handle is open.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lremovexattr, lsetxattr};
use rustix::io::Errno;

use crate::layer::{Xattrs, is_content};

/// What overlayfs writes on a directory whose lower content is gone. The second form is of unprivileged mounts.
pub(super) const OPAQUE: [&[u8]; 2] = [b"trusted.overlay.opaque", b"user.overlay.opaque"];

/// Where `name` in `directory` can be reached by path. `.` is the directory itself.
fn path(directory: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

/// Returns the names of all extended attributes. None where the file system knows none.
pub(super) fn list(directory: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
    let path = path(directory, name);
    let mut buffer = [0u8; 1024];
    let bytes = match llistxattr(path.as_slice(), &mut buffer) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Ok(count) => buffer[..count].to_vec(),
        Err(Errno::RANGE) => read_large(|buffer| llistxattr(path.as_slice(), buffer))?,
        Err(error) => return Err(error),
    };
    Ok(bytes.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

/// Returns the value of an extended attribute, or `None` if there is none of that name.
pub(super) fn get(directory: BorrowedFd<'_>, name: &[u8], key: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    let path = path(directory, name);
    let mut buffer = [0u8; 256];
    match lgetxattr(path.as_slice(), key, &mut buffer) {
        Ok(count) => Ok(Some(buffer[..count].to_vec())),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(Errno::RANGE) => read_large(|buffer| lgetxattr(path.as_slice(), key, buffer)).map(Some),
        Err(error) => Err(error),
    }
}

/// Returns the extended attributes that belong to content.
pub(super) fn content(directory: BorrowedFd<'_>, name: &[u8]) -> Result<Xattrs, Errno> {
    let mut xattrs = Xattrs::new();
    for key in list(directory, name)?.into_iter().filter(|key| is_content(key)) {
        if let Some(value) = get(directory, name, &key)? {
            xattrs.insert(key, value);
        }
    }
    Ok(xattrs)
}

/// Sets extended attributes, beside those that are there. An error names the attribute: the kernel refuses some on links, and
/// values that are malformed.
pub(super) fn set_all(directory: BorrowedFd<'_>, name: &[u8], xattrs: &Xattrs) -> io::Result<()> {
    let path = path(directory, name);
    xattrs.iter().try_for_each(|(key, value)| {
        lsetxattr(path.as_slice(), key, value, XattrFlags::empty())
            .map_err(|error| refused(key, error.into()))
    })
}

fn refused(key: &[u8], error: io::Error) -> io::Error {
    let message = format!("cannot set the extended attribute `{}`: {error}", key.escape_ascii());
    io::Error::new(error.kind(), message)
}

/// Removes an extended attribute.
pub(super) fn remove(directory: BorrowedFd<'_>, name: &[u8], key: &[u8]) -> Result<(), Errno> {
    lremovexattr(path(directory, name).as_slice(), key)
}

/// Returns true if overlayfs hides the lower directories of this name.
pub(super) fn is_opaque(directory: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Errno> {
    for key in OPAQUE {
        if get(directory, name, key)?.as_deref() == Some(b"y") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes a directory opaque: overlayfs hides the lower directories of its name.
pub(super) fn set_opaque(directory: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    let path = path(directory, name);
    let set = |key: &[u8]| lsetxattr(path.as_slice(), key, b"y", XattrFlags::empty());
    // An ordinary user cannot set attributes of the `trusted` class, and mounts overlays that read the other one.
    match set(OPAQUE[0]) {
        Err(Errno::PERM) => set(OPAQUE[1]),
        result => result,
    }
}

/// Reads with a buffer as large as any attribute or list of names may be.
fn read_large(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    const LIMIT_BYTES: usize = 64 * 1024;
    let mut buffer = vec![0; LIMIT_BYTES];
    let count = read(&mut buffer)?;
    buffer.truncate(count);
    Ok(buffer)
}
