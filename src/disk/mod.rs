//! Disks as values: partitions, file systems, mount points and boot code.
//!
//! ```text
//! Request + Content -> Layout -> fstab, mkfs arguments, GRUB configuration, QEMU arguments
//! ```
//!
//! This module uses no devices. Ids that tools would draw at random (GUIDs, UUIDs, volume ids) are
//! derived from the name of the image and their role on the disk ([`Identity`]). Hash seeds are
//! derived from the role alone. The same request therefore gives the same layout, byte for byte.
//!
//! The standard layout is a GPT with the parts of this that the firmware needs:
//!
//! ```text
//! 0        1 MiB        2 MiB                   130 MiB                         end - 1 MiB
//! | MBR,   | BIOS boot  | EFI system partition  | root: ext4 or xfs             | GPT |
//! | GPT    | GRUB core  | FAT32, /boot/efi      | grows with the disk: is last  | copy|
//! ```

mod bios;
mod block_device;
mod content;
mod extent;
mod file_system;
mod firmware;
mod fstab;
mod grub;
mod identity;
mod kernel;
mod layout;
mod lvm;
mod machine;
mod mkfs;
mod partition;
mod probe;
mod request;
mod secure_boot;
mod size;
mod standard;

#[cfg(test)]
mod golden_tests;

pub use bios::{BiosBoot, BootCodeError};
pub use block_device::{
    Allowance, BlockDeviceError, BlockDevices, DiskSource, ParameterError, Problem, RootParameters,
    SizeError, implied_block_device,
};
pub use content::Content;
use content::Inodes;
pub use extent::{Extent, SectorSize};
pub use file_system::{ExtVersion, FileSystem, FsKind, FsName, FstabEntry, MountPoint, Place};
pub use firmware::Firmware;
pub use fstab::fstab;
pub use grub::{Boot, GrubTarget, early_config};
pub use identity::{Identity, VolumeId};
pub use kernel::Kernel;
pub use layout::{Layout, Table};
pub use lvm::{
    LogicalVolume, Lvm, LvmCommand, PhysicalVolume, VolumeGroup, VolumeKind, VolumeName, VolumeSize,
};
pub use machine::{Accelerator, Console, Forward, Machine, Writes, boot_command};
pub use mkfs::{Maker, PREZEROED, check_arguments, make_arguments, prezeroed};
pub use partition::{BootFlag, Partition, PartitionEntry, PartitionKind};
pub use probe::probe_answers;
pub use request::DiskRequest;
pub use secure_boot::{Signed, SignedChain, SignedFile, signed_config};
pub use size::{ByteSize, ByteSizeError, LARGEST_DISK};
pub use standard::{DiskSize, LayoutError, Request, RootFs};
