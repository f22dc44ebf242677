//! Where the parts of a FAT32 file system lie, and the sectors that say so.

use std::io;

use super::ROOT_CLUSTER;
use super::record::padded;
use crate::disk::{Extent, VolumeId};

pub(super) const SECTOR: u64 = 512;

/// The usual number; only eight are used.
const RESERVED_SECTORS: u32 = 32;

const FATS: u32 = 2;

/// Where the copies of boot sector and FSInfo begin.
pub(super) const BACKUP_SECTOR: u16 = 6;

/// With fewer clusters readers take the file system for FAT16: the number is all they go by.
const LEAST_CLUSTERS: u32 = 65_525;

/// 4 KiB: a page.
const MOST_SECTORS_PER_CLUSTER: u32 = 8;

/// Sizes of one file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    first_sector: u64,
    sectors: u32,
    sectors_per_cluster: u32,
    fat_sectors: u32,
    pub(super) clusters: u32,
}

impl Geometry {
    /// Chooses the largest clusters that leave enough of them for FAT32.
    pub(super) fn new(extent: Extent) -> io::Result<Self> {
        let sizes = std::iter::successors(Some(MOST_SECTORS_PER_CLUSTER), |size| {
            Some(size / 2).filter(|&size| size > 0)
        });
        let mut geometries = sizes.filter_map(|size| Self::with_clusters(extent, size));
        geometries.find(|geometry| geometry.clusters >= LEAST_CLUSTERS).ok_or_else(|| {
            let bytes = extent.bytes;
            let reason = format!("{bytes} bytes are no size for FAT32, which takes 33 MiB to 2 TiB");
            io::Error::new(io::ErrorKind::InvalidInput, reason)
        })
    }

    fn with_clusters(extent: Extent, sectors_per_cluster: u32) -> Option<Self> {
        let sectors = u32::try_from(extent.bytes / SECTOR).ok()?;
        let usable = sectors.checked_sub(RESERVED_SECTORS)?;
        // A sector of the FAT describes 128 clusters. The specification's formula, at times a sector more than needed.
        let fat_sectors = usable.div_ceil((256 * sectors_per_cluster + FATS) / 2);
        let clusters = usable.checked_sub(FATS * fat_sectors)? / sectors_per_cluster;
        Some(Self {
            first_sector: extent.offset / SECTOR,
            sectors,
            sectors_per_cluster,
            fat_sectors,
            clusters,
        })
    }

    pub(super) fn cluster_bytes(&self) -> u64 {
        u64::from(self.sectors_per_cluster) * SECTOR
    }

    pub(super) fn fat_offsets(&self) -> [u64; 2] {
        [0, self.fat_sectors].map(|sectors| u64::from(RESERVED_SECTORS + sectors) * SECTOR)
    }

    pub(super) fn first_cluster_offset(&self) -> u64 {
        u64::from(RESERVED_SECTORS + FATS * self.fat_sectors) * SECTOR
    }

    pub(super) fn boot_sector(&self, id: VolumeId, label: &str) -> [u8; SECTOR as usize] {
        let mut sector = [0; SECTOR as usize];
        let mut put = |offset: usize, bytes: &[u8]| sector[offset..][..bytes.len()].copy_from_slice(bytes);
        put(0, &[0xeb, 0x58, 0x90]);
        put(3, b"plywood ");
        put(11, &(SECTOR as u16).to_le_bytes());
        put(13, &[self.sectors_per_cluster as u8]);
        put(14, &(RESERVED_SECTORS as u16).to_le_bytes());
        put(16, &[FATS as u8]);
        put(21, &[0xf8]);
        // A BIOS' geometry, which nobody uses for FAT32: 63 sectors, 255 heads.
        put(24, &[63, 0, 255, 0]);
        put(28, &(self.first_sector as u32).to_le_bytes());
        put(32, &self.sectors.to_le_bytes());
        put(36, &self.fat_sectors.to_le_bytes());
        put(44, &ROOT_CLUSTER.to_le_bytes());
        put(48, &1u16.to_le_bytes());
        put(50, &BACKUP_SECTOR.to_le_bytes());
        put(64, &[0x80, 0, 0x29]);
        put(67, &id.0.to_le_bytes());
        put(71, &padded::<11>(label));
        put(82, b"FAT32   ");
        put(510, &[0x55, 0xaa]);
        sector
    }

    /// The FSInfo sector: hints that spare readers a walk through the FAT.
    pub(super) fn info_sector(&self, taken_clusters: u32) -> [u8; SECTOR as usize] {
        let mut sector = [0; SECTOR as usize];
        let mut put = |offset: usize, bytes: &[u8]| sector[offset..][..bytes.len()].copy_from_slice(bytes);
        put(0, b"RRaA");
        put(484, b"rrAa");
        put(488, &(self.clusters - taken_clusters).to_le_bytes());
        put(492, &(ROOT_CLUSTER + taken_clusters).to_le_bytes());
        put(510, &[0x55, 0xaa]);
        sector
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_always_enough_clusters_and_everything_fits() {
        for mebibytes in [33, 34, 64, 128, 256, 260, 512, 1024, 550, 100_000] {
            let extent = Extent { offset: 1 << 20, bytes: mebibytes << 20 };
            let geometry = Geometry::new(extent).unwrap();
            assert!(geometry.clusters >= LEAST_CLUSTERS, "{mebibytes}");
            let end =
                geometry.first_cluster_offset() + u64::from(geometry.clusters) * geometry.cluster_bytes();
            assert!(end <= extent.bytes && extent.bytes - end < geometry.cluster_bytes(), "{mebibytes}");
            assert!(u64::from(geometry.fat_sectors) * 128 >= u64::from(geometry.clusters) + 2, "{mebibytes}");
        }
    }

    #[test]
    fn sizes_that_fat32_cannot_have_are_refused() {
        for bytes in [0, 1 << 20, 32 << 20, 3 << 40] {
            assert!(Geometry::new(Extent { offset: 0, bytes }).is_err(), "{bytes}");
        }
    }
}
