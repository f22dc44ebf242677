//! Where things lie on a disk.

use uuid::Uuid;

use super::{Content, VolumeId};

/// A disk: partitions, and file systems on them.
///
/// Partitions are in the order of the table; file systems in the order in which they are made. A disk without
/// partitions has no table: its one file system spans it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Of the whole disk, a multiple of 1 MiB.
    pub bytes: u64,
    /// The GPT's disk GUID.
    pub guid: Uuid,
    /// Numbered from 1 in this order.
    pub partitions: Vec<Partition>,
    /// None of them overlaps another.
    pub file_systems: Vec<FileSystem>,
    /// The time that tools are told to write, in seconds since 1970.
    pub source_date_epoch: i64,
}

/// A range of the disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// From the start of the disk.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
}

/// An entry of the partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// The GPT's partition name.
    pub name: String,
    /// What it is for.
    pub kind: PartitionKind,
    /// The partition's own GUID.
    pub guid: Uuid,
    /// Where it lies.
    pub extent: Extent,
}

/// What a partition is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartitionKind {
    /// Holds GRUB's core image for the BIOS, without a file system.
    BiosBoot,
    /// What UEFI firmware reads.
    EfiSystem,
    /// A file system of Linux.
    Linux,
}

impl PartitionKind {
    /// Returns the type GUID.
    ///
    /// Source: UEFI 2.10, 5.3.3, table 5.7; GRUB manual, "BIOS installation"; Discoverable Partitions Specification.
    pub const fn type_guid(self) -> Uuid {
        Uuid::from_u128(match self {
            PartitionKind::BiosBoot => 0x21686148_6449_6e6f_744e_656564454649,
            PartitionKind::EfiSystem => 0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b,
            PartitionKind::Linux => 0x0fc63daf_8483_4772_8e79_3d69d8477de4,
        })
    }
}

/// A file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// Which one, with what its kind needs.
    pub kind: FsKind,
    /// Its label; empty for none.
    pub label: String,
    /// Where it lies.
    pub extent: Extent,
    /// Where it is mounted in the running system.
    pub mount: MountPoint,
}

/// The kinds of file systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FsKind {
    /// ext4, of this UUID, with this seed of its directory hashes.
    Ext4(Uuid, Uuid),
    /// XFS, of this UUID.
    Xfs(Uuid),
    /// FAT32, of this volume id.
    Vfat(VolumeId),
}

impl FsKind {
    /// Returns the kernel's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            FsKind::Ext4(..) => "ext4",
            FsKind::Xfs(_) => "xfs",
            FsKind::Vfat(_) => "vfat",
        }
    }

    /// Returns the UUID as `blkid`, `fstab` and GRUB write it.
    pub fn uuid(self) -> String {
        match self {
            FsKind::Ext4(uuid, _) | FsKind::Xfs(uuid) => uuid.to_string(),
            FsKind::Vfat(id) => id.to_string(),
        }
    }
}

/// A mount of the running system: a line of `/etc/fstab`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPoint {
    /// Absolute: `/`, `/boot/efi`.
    pub path: String,
    /// As in the fourth field of fstab.
    pub options: String,
    /// Order of the check at boot, the sixth field: 0 never, 1 first, 2 later.
    pub check: u8,
    /// What the line names the file system by.
    pub by: FsName,
}

/// What names a file system in `/etc/fstab`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FsName {
    /// `UUID=…`
    Uuid,
    /// `LABEL=…`
    Label,
}

impl Layout {
    /// Returns the file systems by the paths they are mounted at, parents first.
    pub fn mounts(&self) -> Vec<&FileSystem> {
        let mut mounts: Vec<_> = self.file_systems.iter().collect();
        mounts.sort_by_key(|file_system| file_system.mount.path.as_str());
        mounts
    }

    /// Returns the file system that holds the absolute `path`, and the path within it.
    pub fn locate<'a>(&self, path: &'a str) -> Option<(&FileSystem, &'a str)> {
        let within = |file_system: &FileSystem| {
            let mount = file_system.mount.path.trim_end_matches('/');
            path.strip_prefix(mount).filter(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.mounts().into_iter().rev().find_map(|file_system| Some((file_system, within(file_system)?)))
    }

    /// Returns the partition that a file system fills.
    pub fn partition_of(&self, file_system: &FileSystem) -> Option<&Partition> {
        self.partitions.iter().find(|partition| partition.extent == file_system.extent)
    }

    /// Returns the least size of this disk that `content` fits on.
    pub fn needed_bytes(&self, content: Content) -> u64 {
        let root = self.locate("/").map_or(0, |(root, _)| root.extent.bytes);
        (self.bytes - root).saturating_add(content.minimum_bytes())
    }

    /// Returns where the BIOS boot partition lies, if there is one.
    pub fn bios_boot(&self) -> Option<Extent> {
        let bios = self.partitions.iter().find(|partition| partition.kind == PartitionKind::BiosBoot);
        bios.map(|partition| partition.extent)
    }
}
