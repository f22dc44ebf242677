//! The status of a file in the words of layers.

use std::os::fd::AsFd;

use rustix::fs::{FileType, Stat, Timespec, Timestamps, major, minor, readlinkat};
use rustix::io::Errno;

use crate::layer::{FileId, Kind, Meta, Xattrs};

/// Returns the kind of the file `name`, or `None` for a socket. The name is needed for the target
/// of a link.
pub fn kind(directory: impl AsFd, name: &[u8], stat: &Stat) -> Result<Option<Kind>, Errno> {
    let (major, minor) = (major(stat.st_rdev), minor(stat.st_rdev));
    Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Kind::Directory,
        FileType::RegularFile => Kind::File(stat.st_size as u64),
        FileType::Symlink => Kind::Symlink(readlinkat(directory, name, Vec::new())?.into_bytes()),
        FileType::CharacterDevice if is_whiteout(stat) => Kind::Whiteout,
        FileType::CharacterDevice => Kind::CharDevice(major, minor),
        FileType::BlockDevice => Kind::BlockDevice(major, minor),
        FileType::Fifo => Kind::Fifo,
        _ => return Ok(None),
    }))
}

/// Returns true for the device by which overlayfs notes a removal.
pub fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Returns mode, owner and time of a file, without attributes; the time is not after `latest`, in
/// seconds since 1970.
pub fn meta(stat: &Stat, latest: i64) -> Meta {
    Meta {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: stat.st_mtime.min(latest),
        xattrs: Xattrs::new(),
    }
}

/// Returns what all names of a file share, or `None` if it has one name or is no regular file:
/// layers and disks hold links, devices and pipes once for each name.
pub fn file_id(stat: &Stat) -> Option<FileId> {
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    (stat.st_nlink > 1 && is_file).then_some(FileId { device: stat.st_dev, inode: stat.st_ino })
}

/// Times with this modification time, in whole seconds.
pub fn timestamps(mtime: i64) -> Timestamps {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}
