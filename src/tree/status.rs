//! Translates the status of a file into the types of layers.

use std::os::fd::AsFd;

use rustix::fs::{FileType, Stat, Timespec, Timestamps, major, minor, readlinkat};
use rustix::io::Errno;

use crate::layer::{Clamp, FileId, Kind, Meta, Xattrs};

/// Returns the kind of the file `name`, or `None` for a socket. `name` serves to read the target of
/// a link.
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

/// Returns true for the device with which overlayfs marks a removal.
pub fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Returns mode, owner and clamped time of a file, without attributes.
pub fn meta(stat: &Stat, clamp: &Clamp) -> Meta {
    Meta {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: clamped_time(stat, clamp),
        xattrs: Xattrs::new(),
    }
}

/// Returns the clamped modification time of a file.
pub fn clamped_time(stat: &Stat, clamp: &Clamp) -> i64 {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => clamp.file(stat.st_mtime),
        _ => clamp.other(stat.st_mtime),
    }
}

/// Returns the identity that all names of a regular file share. `None` for a file with one name,
/// and for other types: layers and disks hold links, devices and pipes once for each name.
pub fn file_id(stat: &Stat) -> Option<FileId> {
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    (stat.st_nlink > 1 && is_file).then_some(FileId { device: stat.st_dev, inode: stat.st_ino })
}

/// Returns timestamps for a modification time in whole seconds.
pub fn timestamps(mtime: i64) -> Timestamps {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}
