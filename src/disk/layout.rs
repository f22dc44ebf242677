//! Where things lie on a disk.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::{
    Content, Extent, FileSystem, Firmware, FsKind, Inodes, Lvm, Partition, PartitionEntry, PartitionKind,
    SectorSize,
};

/// A disk: partitions, and file systems on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Of the whole disk, a multiple of the sector.
    pub bytes: u64,
    /// The unit that the disk is addressed by.
    pub sector: SectorSize,
    /// What says where the partitions are.
    pub table: Table,
    /// In the order of the table.
    pub partitions: Vec<Partition>,
    /// Volumes on partitions; mostly none.
    pub lvm: Lvm,
    /// In the order in which they are made. None of them overlaps another.
    pub file_systems: Vec<FileSystem>,
    /// The time that tools are told to write, in seconds since 1970.
    pub source_date_epoch: i64,
}

/// The kind of partition table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// None: one file system has the whole disk.
    None,
    /// A PC's master boot record.
    Mbr {
        /// The disk's signature. The kernel makes partitions' UUIDs of it.
        id: u32,
    },
    /// A GUID partition table.
    Gpt {
        /// The disk's GUID.
        guid: Uuid,
    },
}

impl Layout {
    /// Returns the file systems that are mounted in the running system, by their paths, parents
    /// first; swap space last.
    pub fn mounts(&self) -> Vec<&FileSystem> {
        let mut mounts: Vec<_> = self.file_systems.iter().filter(|fs| fs.mount.is_some()).collect();
        mounts.sort_by_key(|file_system| file_system.mount_path());
        mounts
    }

    /// Returns the file system that holds the absolute `path`, and the path within it.
    pub fn locate<'a>(&self, path: &'a str) -> Option<(&FileSystem, &'a str)> {
        let within = |file_system: &FileSystem| {
            let mount = file_system.mount_path()?.trim_end_matches('/');
            path.strip_prefix(mount).filter(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.mounts().into_iter().rev().find_map(|file_system| Some((file_system, within(file_system)?)))
    }

    /// Returns the partition that a file system fills.
    pub fn partition_of(&self, file_system: &FileSystem) -> Option<&Partition> {
        self.partitions.iter().find(|partition| Some(partition.extent) == file_system.place.extent())
    }

    /// Returns what the kernel calls a partition without knowing what is on it: `PARTUUID=…` takes
    /// it.
    pub fn partition_uuid(&self, partition: &Partition) -> String {
        match (self.table, partition.entry) {
            (_, PartitionEntry::Gpt { guid, .. }) => guid.to_string(),
            (Table::Mbr { id }, _) => format!("{id:08x}-{:02x}", partition.number),
            _ => String::new(),
        }
    }

    /// Returns the least size of this disk that `content` fits on.
    pub fn needed_bytes(&self, content: Content) -> u64 {
        let root = self.locate("/").map(|(root, _)| root);
        let inodes = match root {
            Some(root) if matches!(root.kind, FsKind::Ext { .. }) && root.options.is_empty() => Inodes::EXT,
            // The options may give it any number.
            _ => Inodes::Any,
        };
        let bytes = root.and_then(|root| root.place.extent()).map_or(0, |extent| extent.bytes);
        (self.bytes - bytes).saturating_add(content.minimum_bytes(inodes))
    }

    /// Returns what could boot this disk: a BIOS if its boot code has a place, UEFI if it finds a
    /// partition of its own.
    pub fn bootable_by(&self) -> BTreeSet<Firmware> {
        let bios = self.bios_boot().map(|_| Firmware::Bios);
        let uefi = self.locate("/boot/efi/EFI").filter(|(fs, _)| matches!(fs.kind, FsKind::Vfat(_)));
        bios.into_iter().chain(uefi.map(|_| Firmware::Uefi)).collect()
    }

    /// Returns where boot code for the BIOS can lie outside of file systems: in a GPT's BIOS boot
    /// partition, or behind an MBR, before the first partition. No BIOS reads disks of large
    /// sectors.
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
