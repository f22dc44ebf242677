//! The directory of a store.

use std::fs;
use std::io;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, StatVfsMountFlags, XattrFlags, mknodat, statfs, statvfs};

use super::machine::try_action;
use crate::host::{FileSystem, StoreFacts, Trial};

/// Measures the store at `path`, and tries the operations of unpacking a layer in its empty
/// directory `scratch`. Without root, only writing is tried, because an ordinary user unpacks
/// nothing.
///
/// # Errors
/// If the file system cannot be examined.
pub fn store(path: &Path, scratch: &Path, is_root: bool) -> io::Result<StoreFacts> {
    let (kind, room) = (statfs(path)?, statvfs(path)?);
    // Btrfs creates inodes on demand, and reports 0 of 0.
    let free_inodes = (room.f_files > 0).then_some(room.f_favail);
    Ok(StoreFacts {
        path: path.display().to_string(),
        file_system: FileSystem(kind.f_type as u64),
        unpacking: match unpack(scratch, is_root) {
            Trial::Works if is_root => run_jobs(path, room.f_flag),
            trial => trial,
        },
        free_bytes: room.f_bavail.saturating_mul(room.f_frsize),
        free_inodes,
    })
}

/// Checks that hooks on the build host can run: they are executed from the store, and get its path
/// as text.
fn run_jobs(path: &Path, flags: StatVfsMountFlags) -> Trial {
    // Reading the mount flags is cheaper than running a file from there, which would need a program
    // and start a process for each command.
    let refused = |reason: &str| Err(io::Error::other(reason));
    let execute = try_action("execute hooks", || match flags.contains(StatVfsMountFlags::NOEXEC) {
        true => refused("it is mounted `noexec`"),
        false => Ok(()),
    });
    match execute {
        Trial::Works => try_action("tell hooks its path", || match path.to_str() {
            None => refused("it is not UTF-8 text"),
            Some(_) => Ok(()),
        }),
        fails => fails,
    }
}

fn unpack(scratch: &Path, is_root: bool) -> Trial {
    let (file, link, device) = (scratch.join("file"), scratch.join("link"), scratch.join("device"));
    let write = try_action("write a file", || fs::write(&file, b"plywood"));
    // Without root each of these fails, whatever the file system supports.
    if !is_root || write != Trial::Works {
        return write;
    }
    let trials: [(&str, &dyn Fn() -> io::Result<()>); 5] = [
        ("give a file to another user", &|| chown(&file, Some(1), Some(1))),
        ("make a symlink", &|| symlink("file", &link)),
        ("make a hard link", &|| fs::hard_link(&file, scratch.join("second"))),
        // Layers use such devices for removals, and this attribute for opaque directories.
        ("make a device that marks a removal", &|| {
            Ok(mknodat(CWD, &device, FileType::CharacterDevice, Mode::empty(), 0)?)
        }),
        ("set an extended attribute `trusted.*`", &|| {
            Ok(rustix::fs::setxattr(scratch, "trusted.plywood", b"y", XattrFlags::empty())?)
        }),
    ];
    let mut trials = trials.into_iter().map(|(action, tried)| try_action(action, tried));
    trials.find(|trial| *trial != Trial::Works).unwrap_or(Trial::Works)
}
