//! Types of file systems, by name.

use uuid::Uuid;

use crate::disk::{ExtVersion, FsKind, Identity, SectorSize};

/// A type of file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FsType {
    Ext(ExtVersion),
    Xfs,
    Btrfs,
    Vfat,
    Swap,
}

impl FsType {
    pub(super) const EXT4: Self = FsType::Ext(ExtVersion::Ext4);

    /// All names, for messages.
    pub(super) const NAMES: &str = "ext2, ext3, ext4, xfs, btrfs, vfat or swap";

    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "ext2" => FsType::Ext(ExtVersion::Ext2),
            "ext3" => FsType::Ext(ExtVersion::Ext3),
            "ext4" => FsType::EXT4,
            "xfs" => FsType::Xfs,
            "btrfs" => FsType::Btrfs,
            "vfat" | "fat" => FsType::Vfat,
            "swap" => FsType::Swap,
            _ => return None,
        })
    }

    /// Returns how many characters a label may have.
    pub(super) const fn label_limit(self) -> usize {
        match self {
            FsType::Ext(_) | FsType::Swap => 16,
            FsType::Xfs => 12,
            FsType::Btrfs => 255,
            FsType::Vfat => 11,
        }
    }

    /// Returns diskimage-builder's label of the root file system.
    pub(super) const fn root_label(self) -> &'static str {
        match self {
            FsType::Xfs => "img-rootfs",
            _ => "cloudimg-rootfs",
        }
    }

    /// Returns the smallest possible size.
    pub(super) const fn least_bytes(self, sector: SectorSize) -> u64 {
        match (self, sector) {
            // FAT32 has at least 65,525 clusters, and a cluster has at least one sector.
            (FsType::Vfat, SectorSize::B512) => 33 << 20,
            (FsType::Vfat, SectorSize::B4096) => 257 << 20,
            _ => 0,
        }
    }

    /// Returns the size from which the file system is too large: ext2 and ext3 number blocks of 4
    /// KiB in 32 bits, unless they have ext4's feature `64bit`.
    pub(super) fn limit_bytes(self, options: &[String]) -> Option<u64> {
        // One word may list several features (`-Oextents,64bit`), and `^` turns one off.
        let mut features = options.iter().flat_map(|word| word.split(','));
        let has_wide_numbers =
            features.any(|feature| feature.ends_with("64bit") && !feature.ends_with("^64bit"));
        match self {
            FsType::Ext(ExtVersion::Ext2 | ExtVersion::Ext3) if !has_wide_numbers => Some(16 << 40),
            _ => None,
        }
    }

    /// Returns the smallest sensible size of a root: XFS refuses less than 300 MiB, Btrfs less than
    /// 109 MiB.
    pub(super) const fn least_root_bytes(self) -> u64 {
        match self {
            FsType::Xfs => 320 << 20,
            FsType::Btrfs => 128 << 20,
            FsType::Ext(_) | FsType::Vfat | FsType::Swap => 64 << 20,
        }
    }

    /// Returns the file system `name` with derived ids, which tools would otherwise draw at random.
    pub(super) fn identified(self, name: &str, given: Option<Uuid>, identity: &Identity) -> FsKind {
        let role = format!("file system {name}");
        let uuid = given.unwrap_or_else(|| identity.uuid(&role));
        match self {
            FsType::Ext(version) => FsKind::Ext { version, uuid, hash_seed: Identity::hash_seed(name) },
            FsType::Xfs => FsKind::Xfs(uuid),
            FsType::Btrfs => FsKind::Btrfs(uuid),
            FsType::Vfat => FsKind::Vfat(identity.volume_id(&role)),
            FsType::Swap => FsKind::Swap(uuid),
        }
    }

    /// Returns the kernel's name of the type.
    pub(super) const fn name(self) -> &'static str {
        match self {
            FsType::Ext(version) => version.name(),
            FsType::Xfs => "xfs",
            FsType::Btrfs => "btrfs",
            FsType::Vfat => "vfat",
            FsType::Swap => "swap",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_feature_64bit_lifts_the_limit_of_ext2_and_ext3() {
        let limit = |kind: &str, words: &[&str]| {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            FsType::parse(kind).unwrap().limit_bytes(&words)
        };
        let limited = Some(16 << 40);
        for (kind, words, expected) in [
            ("ext3", &[][..], limited),
            ("ext3", &["-O", "64bit"], None),
            ("ext2", &["-Oextents,64bit"], None),
            ("ext3", &["-O", "^64bit"], limited),
            ("ext2", &["-Oextents,^64bit"], limited),
            ("ext4", &[], None),
            ("xfs", &[], None),
        ] {
            assert_eq!(limit(kind, words), expected, "{kind} {words:?}");
        }
    }
}
