//! The layout of a disk.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::{
    Content, Extent, FileSystem, Firmware, FsKind, Inodes, Lvm, Partition, PartitionEntry, PartitionKind,
    SectorSize,
};

/// A disk with its partitions and file systems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The size of the disk, a multiple of the sector size.
    pub bytes: u64,
    pub sector: SectorSize,
    pub table: Table,
    /// In the order of the table.
    pub partitions: Vec<Partition>,
    /// Logical volumes on partitions.
    pub lvm: Lvm,
    /// In the order in which they are made. They do not overlap.
    pub file_systems: Vec<FileSystem>,
    /// The time for all tools, in seconds since 1970.
    pub source_date_epoch: i64,
}

/// The kind of partition table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// No table: one file system fills the disk.
    None,
    /// A master boot record.
    Mbr {
        /// The disk signature. The kernel derives the UUIDs of partitions from it.
        id: u32,
    },
    /// A GUID partition table.
    Gpt { guid: Uuid },
}

impl Layout {
    /// Returns the file systems that the running system mounts, sorted by path: parents first, swap
    /// space last.
    pub fn mounts(&self) -> Vec<&FileSystem> {
        let mut mounts: Vec<_> = self.file_systems.iter().filter(|fs| fs.mount.is_some()).collect();
        mounts.sort_by_key(|file_system| file_system.mount_path());
        mounts
    }

    /// Returns the file system of the absolute `path`, and the path within it.
    pub fn locate<'a>(&self, path: &'a str) -> Option<(&FileSystem, &'a str)> {
        let within = |file_system: &FileSystem| {
            let mount = file_system.mount_path()?.trim_end_matches('/');
            path.strip_prefix(mount).filter(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.mounts().into_iter().rev().find_map(|file_system| Some((file_system, within(file_system)?)))
    }

    /// Returns the partition of a file system.
    pub fn partition_of(&self, file_system: &FileSystem) -> Option<&Partition> {
        self.partitions.iter().find(|partition| Some(partition.extent) == file_system.place.extent())
    }

    /// Returns the value for `PARTUUID=…`, by which the kernel finds a partition without reading
    /// its content.
    pub fn partition_uuid(&self, partition: &Partition) -> String {
        match (self.table, partition.entry) {
            (_, PartitionEntry::Gpt { guid, .. }) => guid.to_string(),
            (Table::Mbr { id }, _) => format!("{id:08x}-{:02x}", partition.number),
            _ => String::new(),
        }
    }

    /// Returns the smallest size of this disk for `content`.
    pub fn needed_bytes(&self, content: Content) -> u64 {
        let root = self.locate("/").map(|(root, _)| root);
        let inodes = match root {
            Some(root) if matches!(root.kind, FsKind::Ext { .. }) && root.options.is_empty() => Inodes::EXT,
            // The user's options may set any number of inodes.
            _ => Inodes::Any,
        };
        let bytes = root.and_then(|root| root.place.extent()).map_or(0, |extent| extent.bytes);
        (self.bytes - bytes).saturating_add(content.minimum_bytes(inodes))
    }

    /// Returns the firmware that can boot this disk: the BIOS if there is space for its boot code,
    /// and UEFI if there is an EFI system partition.
    pub fn bootable_by(&self) -> BTreeSet<Firmware> {
        let bios = self.bios_boot().map(|_| Firmware::Bios);
        let uefi = self.locate("/boot/efi/EFI").filter(|(fs, _)| matches!(fs.kind, FsKind::Vfat(_)));
        bios.into_iter().chain(uefi.map(|_| Firmware::Uefi)).collect()
    }

    /// Returns the place for boot code for the BIOS: the BIOS boot partition of a GPT, or the space
    /// between an MBR and the first partition. The BIOS cannot read disks with large sectors.
    pub fn bios_boot(&self) -> Option<Extent> {
        let first = self.partitions.iter().map(|partition| partition.extent.offset).min();
        match self.table {
            _ if self.sector != SectorSize::B512 => None,
            Table::None => None,
            Table::Mbr { .. } => {
                let offset = self.sector.bytes();
                first.map(|end| Extent { offset, bytes: end.saturating_sub(offset) })
            }
            Table::Gpt { .. } => {
                let is_bios_boot = |partition: &&Partition| partition.is(PartitionKind::BIOS_BOOT);
                self.partitions.iter().find(is_bios_boot).map(|partition| partition.extent)
            }
        }
    }
}
