//! A file system mounted from a loop device.

use std::ffi::CStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::ioctl;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tracing::debug;

use super::error::failed;
use super::loop_device::{LoopDevice, wait_until_unused};
use crate::disk::{ExtVersion, FsKind};
use crate::port::DiskError;

/// `_IOWR('X', 121, struct fstrim_range)`
const FITRIM: ioctl::Opcode = 0xc018_5879;

/// The kernel needs milliseconds to end killed processes, and longer under load.
const BUSY_LIMIT: Duration = Duration::from_secs(30);

/// `struct fstrim_range`
#[repr(C)]
struct TrimRange {
    start: u64,
    length: u64,
    least: u64,
}

/// The device of a mounted file system.
#[derive(Debug)]
pub(super) enum BlockDevice {
    /// A part of the disk, attached until this is dropped.
    Loop(LoopDevice),
    Volume(PathBuf),
}

impl BlockDevice {
    /// Returns the device node.
    pub(super) fn path(&self) -> &Path {
        match self {
            BlockDevice::Loop(device) => device.path(),
            BlockDevice::Volume(path) => path,
        }
    }
}

/// A mounted file system. Dropping it unmounts it, but loses the error.
#[derive(Debug)]
pub(super) struct Mounted {
    target: PathBuf,
    device: BlockDevice,
    open: bool,
}

/// Returns mount options for speed: write barriers protect against power failures, but an
/// interrupted disk is discarded anyway. XFS refuses a UUID that is mounted already, and two builds
/// of one image at the same time have the same UUID.
fn options(kind: FsKind) -> &'static CStr {
    match kind {
        FsKind::Ext { version: ExtVersion::Ext2, .. } => c"",
        FsKind::Ext { version: ExtVersion::Ext3, .. } => c"barrier=0",
        FsKind::Ext { version: ExtVersion::Ext4, .. } => c"barrier=0,noauto_da_alloc,noinit_itable",
        FsKind::Xfs(_) => c"nouuid",
        FsKind::Btrfs(_) => c"nobarrier",
        FsKind::Vfat(_) | FsKind::Swap(_) => c"",
    }
}

impl Mounted {
    /// Mounts `device` at the directory `target`.
    pub(super) fn new(device: BlockDevice, kind: FsKind, target: PathBuf) -> Result<Self, DiskError> {
        let mounted = mount(device.path(), &target, kind.name(), MountFlags::NOATIME, options(kind));
        debug!(
            device = %device.path().display(),
            at = %target.display(),
            kind = kind.name(),
            options = ?options(kind),
            ?mounted,
            "mounts a file system"
        );
        mounted.map_err(failed("mount a file system at", &target))?;
        Ok(Self { target, device, open: true })
    }

    /// Returns the device node.
    pub(super) fn device(&self) -> &Path {
        self.device.path()
    }

    /// Punches holes into the disk where the file system has no data. Otherwise the content of
    /// removed files would stay in every image of the disk.
    pub(super) fn trim(&self) -> Result<(), DiskError> {
        let root = File::open(&self.target).map_err(failed("open", &self.target))?;
        // The kernel trims freed blocks only after the journal has committed that they are free.
        rustix::fs::syncfs(&root).map_err(failed("sync", &self.target))?;
        let mut range = TrimRange { start: 0, length: u64::MAX, least: 0 };
        // SAFETY: FITRIM reads and writes a `struct fstrim_range`, and `TrimRange` has the same
        // fields.
        unsafe { ioctl::ioctl(&root, ioctl::Updater::<FITRIM, TrimRange>::new(&mut range)) }
            .map_err(failed("trim", &self.target))
    }

    /// Unmounts the file system, and waits until it is written and released. The device stays
    /// attached until the result is dropped.
    pub(super) fn unmount(mut self) -> Result<ReleasedDevice, DiskError> {
        self.open = false;
        // Lazily, because the function waits for the last user anyway. A child that another thread
        // has just forked keeps all files of this process open until it executes its program.
        let unmounted = unmount(&self.target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        debug!(at = %self.target.display(), ?unmounted, "unmounts a file system");
        unmounted.map_err(failed("unmount", &self.target))?;
        let path = self.device.path().to_owned();
        match wait_until_unused(&path, BUSY_LIMIT).map_err(failed("open", &path))? {
            true => Ok(ReleasedDevice(path, self)),
            false => Err(DiskError::Busy { path, seconds: BUSY_LIMIT.as_secs() }),
        }
    }
}

/// A device whose file system is complete and unmounted.
pub(super) struct ReleasedDevice(PathBuf, #[expect(dead_code, reason = "keeps the device attached")] Mounted);

impl ReleasedDevice {
    /// Returns the device node.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.open {
            // Lazily, because this runs after a failure, when the file system may still be in use.
            // A file system that stays mounted could be emptied by a later removal of its
            // directory.
            let _ = unmount(&self.target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        }
    }
}

/// A directory for a mount. Dropping it removes the directory only if it is empty, so it never
/// removes files of a mounted file system.
#[derive(Debug)]
pub(super) struct MountDirectory(PathBuf);

impl MountDirectory {
    /// Creates `path` and its parents.
    pub(super) fn new(path: PathBuf) -> Result<Self, DiskError> {
        fs::create_dir_all(&path).map_err(failed("create", &path))?;
        Ok(Self(path))
    }

    /// Returns the directory.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for MountDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
