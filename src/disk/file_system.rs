//! File systems, and where the running system mounts them.

use uuid::Uuid;

use super::{Extent, VolumeId, VolumeName};

/// A file system, or swap space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// Which one, with what its kind needs.
    pub kind: FsKind,
    /// Its label; empty for none.
    pub label: String,
    /// Where it lies.
    pub place: Place,
    /// Further arguments of the program that makes it. They outweigh those that plywood gives.
    pub options: Vec<String>,
    /// Where it is mounted in the running system, if it is.
    pub mount: Option<MountPoint>,
}

impl FileSystem {
    /// Returns where it is mounted in the running system.
    pub fn mount_path(&self) -> Option<&str> {
        self.mount.as_ref().map(|mount| mount.path.as_str())
    }

    /// Returns what names it in `/etc/fstab` and to the kernel: `UUID=…` or `LABEL=…`.
    pub fn name(&self) -> String {
        match self.mount.as_ref().and_then(|mount| mount.fstab.as_ref()).map(|entry| entry.by) {
            Some(FsName::Label) => format!("LABEL={}", self.label),
            Some(FsName::Uuid) | None => format!("UUID={}", self.kind.uuid()),
        }
    }
}

/// What a file system lies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A partition, or the whole disk.
    Extent(Extent),
    Volume(VolumeName),
}

impl Place {
    /// Returns its range of the disk; a logical volume has none that could be known before it is
    /// made.
    pub const fn extent(&self) -> Option<Extent> {
        match self {
            Place::Extent(extent) => Some(*extent),
            Place::Volume(_) => None,
        }
    }
}

/// The kinds of file systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FsKind {
    /// ext2, ext3 or ext4.
    Ext {
        /// Which of them.
        version: ExtVersion,
        uuid: Uuid,
        /// The seed of its directory hashes.
        hash_seed: Uuid,
    },
    /// XFS, of this UUID.
    Xfs(Uuid),
    /// Btrfs, of this UUID.
    Btrfs(Uuid),
    /// FAT32, of this volume id.
    Vfat(VolumeId),
    /// Swap space, of this UUID.
    Swap(Uuid),
}

/// A member of the ext family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtVersion {
    /// Without a journal.
    Ext2,
    /// With a journal.
    Ext3,
    /// With a journal, extents and checksums.
    Ext4,
}

impl ExtVersion {
    /// Returns the kernel's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            ExtVersion::Ext2 => "ext2",
            ExtVersion::Ext3 => "ext3",
            ExtVersion::Ext4 => "ext4",
        }
    }
}

impl FsKind {
    /// Returns the kernel's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            FsKind::Ext { version, .. } => version.name(),
            FsKind::Xfs(_) => "xfs",
            FsKind::Btrfs(_) => "btrfs",
            FsKind::Vfat(_) => "vfat",
            FsKind::Swap(_) => "swap",
        }
    }

    /// Returns the UUID as `blkid`, `fstab` and GRUB write it.
    pub fn uuid(self) -> String {
        match self {
            FsKind::Ext { uuid, .. } | FsKind::Xfs(uuid) | FsKind::Btrfs(uuid) | FsKind::Swap(uuid) => {
                uuid.to_string()
            }
            FsKind::Vfat(id) => id.to_string(),
        }
    }
}

/// A mount of the running system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPoint {
    /// Absolute: `/`, `/boot/efi`; [`MountPoint::NONE`] for swap space.
    pub path: String,
    /// What `/etc/fstab` says of it; `None` for no line.
    pub fstab: Option<FstabEntry>,
}

impl MountPoint {
    /// What stands in place of a path for swap space. Sorts behind every path.
    pub const NONE: &str = "none";
}

/// A line of `/etc/fstab`, beside its first three fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FstabEntry {
    /// What it names the file system by.
    pub by: FsName,
    /// The fourth field.
    pub options: String,
    /// The fifth field, for dump(8).
    pub dump: u8,
    /// Order of the check at boot, the sixth field: 0 never, 1 first, 2 later.
    pub check: u8,
}

/// What names a file system in `/etc/fstab`, and to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FsName {
    /// `UUID=…`
    Uuid,
    /// `LABEL=…`
    Label,
}
