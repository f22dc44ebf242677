//! Writing a disk, as the build sees it.

use std::path::{Path, PathBuf};

use super::IoError;
use crate::disk::{BootCodeError, Content, Layout};

/// Makes raw disks.
pub trait DiskWriter {
    /// Returns how much is below `source` (a merged root file system), to plan a disk for it.
    fn measure(&self, source: &Path) -> Result<Content, DiskError>;

    /// Fails if there is no space for a disk with this content beside `raw`.
    fn ask_for_space(&self, content: Content, raw: &Path) -> Result<(), DiskError>;

    /// Makes the disk `raw` (which must not exist) by `layout`: partitions, file systems, and all of them mounted at
    /// one directory, seen by this process and its children only. Nothing of it outlives the process but the file, which
    /// stays also after an error, here or later: the caller removes it.
    fn create(&self, layout: &Layout, raw: &Path) -> Result<Box<dyn OpenDisk>, DiskError>;
}

/// A disk whose file systems are mounted.
pub trait OpenDisk {
    /// Where its root file system is mounted, with the others below.
    fn root(&self) -> &Path;

    /// Copies everything below `source` (a merged root file system) onto the disk: content, owners, modes, times,
    /// extended attributes, hard links, devices.
    fn fill(&mut self, source: &Path) -> Result<(), DiskError>;

    /// Returns the devices of the disk, for hooks that reach it past its file systems: the whole disk, then its partitions and
    /// logical volumes, by their names in the layout. Attaches those that are not attached yet.
    fn devices(&mut self) -> Result<Vec<DiskDevice>, DiskError>;

    /// Moves the content of the EFI system partition's mount point into its file system, unmounts everything, writes the
    /// boot images, and checks the file systems. After success the raw file is complete; it is not synced: most are
    /// converted and thrown away.
    fn finish(self: Box<Self>, boot: &BootImages) -> Result<(), DiskError>;
}

/// A device of an open disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskDevice {
    /// The layout's name of what it shows.
    pub name: String,
    /// The device node.
    pub path: PathBuf,
}

/// Boot code that is not in a file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BootImages {
    /// GRUB's `boot.img` and `core.img` for the BIOS, if the disk is to boot by it: the first for the disk's first sector, the other
    /// for the BIOS boot partition of a GPT or the gap behind an MBR.
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
        /// The Debian package that has it.
        package: &'static str,
    },
    #[error("`{command}` failed with {exit}: {stderr}")]
    ToolFailed {
        /// The command line.
        command: String,
        exit: String,
        /// The end of its standard error.
        stderr: String,
    },
    #[error(
        "the content does not fit on a disk of {given_bytes} bytes: at least {needed_bytes} bytes are needed"
    )]
    TooSmall {
        /// Of the disk.
        given_bytes: u64,
        /// For the content.
        needed_bytes: u64,
    },
    #[error("`{}` has {free_bytes} bytes of free space, and the disk takes {needed_bytes} there while it is made", path.display())]
    NoRoom {
        /// A directory of that file system.
        path: PathBuf,
        free_bytes: u64,
        /// What the content takes at least.
        needed_bytes: u64,
    },
    #[error("boot code cannot be installed")]
    BootCode(#[from] BootCodeError),
    #[error("cannot write the partition table of `{}`", path.display())]
    PartitionTable { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    /// A file system is still in use though everything that used it should have ended.
    #[error("`{}` is still in use {seconds} s after it was unmounted", path.display())]
    Busy {
        path: PathBuf,
        /// How long it was waited for.
        seconds: u64,
    },
    #[error("the disk has logical volumes, and this kernel has no device mapper to make them with")]
    NoDeviceMapper,
    #[error("interrupted")]
    Interrupted,
}
