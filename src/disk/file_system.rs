//! File systems and their mount points.

use uuid::Uuid;

use super::{Extent, VolumeId, VolumeName};

/// A file system, or swap space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    pub kind: FsKind,
    /// Empty for no label.
    pub label: String,
    pub place: Place,
    /// Further arguments for the program that makes it. They override plywood's own.
    pub options: Vec<String>,
    /// The mount in the running system, if any.
    pub mount: Option<MountPoint>,
}

impl FileSystem {
    /// Returns the mount point in the running system.
    pub fn mount_path(&self) -> Option<&str> {
        self.mount.as_ref().map(|mount| mount.path.as_str())
    }

    /// Returns its name for `/etc/fstab` and the kernel: `UUID=…` or `LABEL=…`.
    pub fn name(&self) -> String {
        match self.mount.as_ref().and_then(|mount| mount.fstab.as_ref()).map(|entry| entry.by) {
            Some(FsName::Label) => format!("LABEL={}", self.label),
            Some(FsName::Uuid) | None => format!("UUID={}", self.kind.uuid()),
        }
    }
}

/// The place of a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A partition, or the whole disk.
    Extent(Extent),
    Volume(VolumeName),
}

impl Place {
    /// Returns the range of the disk. `None` for a logical volume, whose range LVM chooses when it
    /// makes the volume.
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
        version: ExtVersion,
        uuid: Uuid,
        /// The seed of directory hashes.
        hash_seed: Uuid,
    },
    /// XFS with this UUID.
    Xfs(Uuid),
    /// Btrfs with this UUID.
    Btrfs(Uuid),
    /// FAT32 with this volume id.
    Vfat(VolumeId),
    /// Swap space with this UUID.
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
    /// An absolute path, such as `/boot/efi`; [`MountPoint::NONE`] for swap space.
    pub path: String,
    /// Its line in `/etc/fstab`, if any.
    pub fstab: Option<FstabEntry>,
}

impl MountPoint {
    /// The text instead of a path for swap space. It sorts after every path.
    pub const NONE: &str = "none";
}

/// A line of `/etc/fstab` without its first three fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FstabEntry {
    /// The form of the first field.
    pub by: FsName,
    /// Fourth field.
    pub options: String,
    /// Fifth field, for dump(8).
    pub dump: u8,
    /// Sixth field, the order of the check at boot: 0 never, 1 first, 2 later.
    pub check: u8,
}

/// The name of a file system in `/etc/fstab` and for the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FsName {
    /// `UUID=…`
    Uuid,
    /// `LABEL=…`
    Label,
}
