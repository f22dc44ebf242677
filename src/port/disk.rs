//! The port through which the build writes disks.

use std::path::{Path, PathBuf};

use super::{Exit, IoError};
use crate::disk::{BootCodeError, Content, Layout};

/// Creates raw disks.
pub trait DiskWriter {
    /// Returns the size of everything below `source` (a merged root file system), to plan a disk
    /// for it.
    fn measure(&self, source: &Path) -> Result<Content, DiskError>;

    /// Fails if the file system of `raw` lacks space for a disk with this content.
    fn ask_for_space(&self, content: Content, raw: &Path) -> Result<(), DiskError>;

    /// Creates the disk `raw` (which must not exist) with the partitions and file systems of
    /// `layout`, and mounts all of them below one directory, visible to this process and its
    /// children only. Only the file outlives the process. It also stays after an error, here or
    /// later: the caller removes it.
    fn create(&self, layout: &Layout, raw: &Path) -> Result<Box<dyn OpenDisk>, DiskError>;
}

/// A disk whose file systems are mounted.
pub trait OpenDisk {
    /// Returns the mount point of the root file system, with the others below.
    fn root(&self) -> &Path;

    /// Copies everything below `source` (a merged root file system) onto the disk: content, owners,
    /// modes, times, extended attributes, hard links, devices.
    fn fill(&mut self, source: &Path) -> Result<(), DiskError>;

    /// Returns the devices of the disk, for hooks that access it below its file systems: the whole
    /// disk, then its partitions and logical volumes, with their names in the layout. Attaches
    /// missing devices.
    fn devices(&mut self) -> Result<Vec<DiskDevice>, DiskError>;

    /// Moves the content of the EFI system partition's mount point into its file system, unmounts
    /// everything, writes the boot images, and checks the file systems. After success the raw file
    /// is complete. It is not synced, because most raw files are converted and then removed.
    fn finish(self: Box<Self>, boot: &BootImages) -> Result<(), DiskError>;
}

/// A device of an open disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskDevice {
    /// The name in the layout.
    pub name: String,
    pub path: PathBuf,
}

/// Boot code outside of file systems.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BootImages {
    /// GRUB's `boot.img` and `core.img` for the BIOS, if the disk boots from it. The first goes
    /// into the disk's first sector, the second into the BIOS boot partition of a GPT or the gap
    /// behind an MBR.
    pub bios: Option<(Vec<u8>, Vec<u8>)>,
}

/// A disk that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error(transparent)]
    Io(#[from] IoError),
    #[error("program `{program}` not found (it is in the Debian package `{package}`)")]
    ToolMissing {
        program: String,
        /// The Debian package that contains it.
        package: &'static str,
    },
    #[error("`{command}` failed with {exit}: {stderr}")]
    ToolFailed {
        /// The command line.
        command: String,
        exit: Exit,
        /// The end of its standard error.
        stderr: String,
    },
    #[error(
        "the content does not fit on a disk of {given_bytes} bytes: at least {needed_bytes} bytes are needed"
    )]
    TooSmall { given_bytes: u64, needed_bytes: u64 },
    #[error("`{}` has {free_bytes} bytes of free space, and the disk takes {needed_bytes} there while it is made", path.display())]
    NoRoom {
        /// A directory of that file system.
        path: PathBuf,
        free_bytes: u64,
        /// A lower bound.
        needed_bytes: u64,
    },
    #[error("boot code cannot be installed")]
    BootCode(#[from] BootCodeError),
    #[error("cannot write the partition table of `{}`", path.display())]
    PartitionTable { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("`{}` is still in use {seconds} s after it was unmounted", path.display())]
    Busy { path: PathBuf, seconds: u64 },
    #[error("the disk has logical volumes, and this kernel has no device mapper to make them with")]
    NoDeviceMapper,
    #[error("interrupted")]
    Interrupted,
}
