//! The mounts of a process, as the kernel lists them.
//!
//! Source: proc_pid_mountinfo(5).

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// The mount id of statx(2).
    pub(super) id: u64,
    /// Major and minor number.
    pub(super) device: String,
    /// The mounted directory or file, absolute within its file system.
    pub(super) root: PathBuf,
    pub(super) place: PathBuf,
    /// Options of the mount, separated by commas.
    pub(super) options: String,
}

impl Line {
    /// Parses the content of a file `mountinfo`. Paths in it may have any bytes. Skips malformed
    /// lines.
    pub(super) fn all(mountinfo: &[u8]) -> impl Iterator<Item = Self> {
        mountinfo.split(|byte| *byte == b'\n').filter_map(Self::parse)
    }

    /// Returns the mounts of this process.
    pub(super) fn of_process() -> io::Result<Vec<Self>> {
        Ok(Self::all(&fs::read("/proc/self/mountinfo")?).collect())
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let fields: Vec<_> = line.split(|byte| *byte == b' ').collect();
        let [id, _, device, root, place, options, ..] = fields.as_slice() else { return None };
        let text = |field: &[u8]| Some(std::str::from_utf8(field).ok()?.to_owned());
        Some(Self {
            id: text(id)?.parse().ok()?,
            device: text(device)?,
            root: unescaped(root),
            place: unescaped(place),
            options: text(options)?,
        })
    }
}

/// Replaces the kernel's escapes for white space and backslashes: a backslash and three octal
/// digits.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut path = Vec::new();
    let mut rest = field;
    // In one pass: the backslash that `\134040` stands for must not begin another escape.
    while let [first, after @ ..] = rest {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let escaped = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        path.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[3..] } else { after };
    }
    OsString::from_vec(path).into()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn mount_points_may_have_any_bytes() {
        let mountinfo = b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
            2 1 0:5 /a\\040b /x\xff\\011\\012y rw - tmpfs none rw\n\
            3 1 0:5 / /c\\134040d\\9 rw - tmpfs \xe9 rw\n";
        let places: Vec<_> = Line::all(mountinfo).map(|line| (line.root, line.place)).collect();
        let expected = [(b"/" as &[u8], b"/" as &[u8]), (b"/a b", b"/x\xff\t\ny"), (b"/", b"/c\\040d\\9")];
        assert_eq!(places, expected.map(|(a, b)| (OsStr::from_bytes(a).into(), OsStr::from_bytes(b).into())));
    }
}
