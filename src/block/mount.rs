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

/// Killed processes are gone in milliseconds; a machine under load takes its time.
const BUSY_LIMIT: Duration = Duration::from_secs(30);

/// `struct fstrim_range`
#[repr(C)]
struct TrimRange {
    start: u64,
    length: u64,
    least: u64,
}

/// What a file system is mounted from.
#[derive(Debug)]
pub(super) enum BlockDevice {
    /// A part of the disk, attached as long as this lives.
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

/// Safety against power cuts is bought with waiting, and worth nothing here: a disk that was
/// interrupted is thrown away. XFS refuses a UUID that is mounted already, and two builds of one
/// image at once have the same one.
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

    /// Returns the node of the device that it is mounted from.
    pub(super) fn device(&self) -> &Path {
        self.device.path()
    }

    /// Punches a hole into the disk wherever the file system has no data: what was written and
    /// removed again would otherwise stay in every image made of the disk.
    pub(super) fn trim(&self) -> Result<(), DiskError> {
        let root = File::open(&self.target).map_err(failed("open", &self.target))?;
        // Blocks that were freed can be trimmed only after the journal has committed that.
        rustix::fs::syncfs(&root).map_err(failed("sync", &self.target))?;
        let mut range = TrimRange { start: 0, length: u64::MAX, least: 0 };
        // SAFETY: FITRIM reads and writes a `struct fstrim_range`, which `TrimRange` is.
        unsafe { ioctl::ioctl(&root, ioctl::Updater::<FITRIM, TrimRange>::new(&mut range)) }
            .map_err(failed("trim", &self.target))
    }

    /// Unmounts it, and waits until it is written and released. The device stays attached while the
    /// result lives.
    pub(super) fn unmount(mut self) -> Result<ReleasedDevice, DiskError> {
        self.open = false;
        // Lazily, as the wait is for the last user anyway: a child that another thread has just
        // forked has each file open that this process has, until it executes its program.
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

/// A device whose file system is complete and not mounted any more.
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
            // Lazily: on this way out something may be wrong, and nothing below may be deleted by
            // anyone.
            let _ = unmount(&self.target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        }
    }
}

/// A directory to mount at. Dropping it removes it if it is empty, and so never what is mounted
/// there.
#[derive(Debug)]
pub(super) struct MountDirectory(PathBuf);

impl MountDirectory {
    /// Makes `path` and its parents.
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
