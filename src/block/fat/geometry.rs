//! The positions of the parts of a FAT32 file system, and the sectors that describe them.

use std::io;

use super::ROOT_CLUSTER;
use super::record::padded;
use crate::disk::{Extent, SectorSize, VolumeId};

/// The described part of a sector, for all sector sizes.
const DESCRIBED_BYTES: usize = 512;

/// The usual number. Only eight are used.
const RESERVED_SECTORS: u32 = 32;

const FATS: u32 = 2;

/// The first sector of the copies of boot sector and FSInfo.
pub(super) const BACKUP_SECTOR: u32 = 6;

/// Readers treat a file system with fewer clusters as FAT16: only the number of clusters decides.
const LEAST_CLUSTERS: u32 = 65_525;

/// The size of a page.
const MOST_CLUSTER_BYTES: u32 = 4096;

/// Sizes of one file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    sector_bytes: u32,
    first_sector: u64,
    sectors: u32,
    sectors_per_cluster: u32,
    fat_sectors: u32,
    pub(super) clusters: u32,
}

impl Geometry {
    /// Chooses the largest clusters with which there are enough clusters for FAT32.
    pub(super) fn new(extent: Extent, sector: SectorSize) -> io::Result<Self> {
        let most = MOST_CLUSTER_BYTES / sector.bytes() as u32;
        let sizes = std::iter::successors(Some(most), |size| Some(size / 2).filter(|&size| size > 0));
        let mut geometries = sizes.filter_map(|size| Self::with_clusters(extent, sector, size));
        geometries.find(|geometry| geometry.clusters >= LEAST_CLUSTERS).ok_or_else(|| {
            let bytes = extent.bytes;
            let least = if sector == SectorSize::B512 { 33 } else { 257 };
            let reason =
                format!("a FAT32 file system cannot have {bytes} bytes: expected {least} MiB to 2 TiB");
            io::Error::new(io::ErrorKind::InvalidInput, reason)
        })
    }

    fn with_clusters(extent: Extent, sector: SectorSize, sectors_per_cluster: u32) -> Option<Self> {
        let sector_bytes = sector.bytes() as u32;
        let sectors = u32::try_from(extent.bytes / sector.bytes()).ok()?;
        let usable = sectors.checked_sub(RESERVED_SECTORS)?;
        // A cluster has four bytes in the FAT. This is the formula of the specification, which
        // sometimes gives one sector more than needed.
        let fat_sectors = usable.div_ceil((sector_bytes / 2 * sectors_per_cluster + FATS) / 2);
        let clusters = usable.checked_sub(FATS * fat_sectors)? / sectors_per_cluster;
        Some(Self {
            sector_bytes,
            first_sector: extent.offset / sector.bytes(),
            sectors,
            sectors_per_cluster,
            fat_sectors,
            clusters,
        })
    }

    pub(super) fn cluster_bytes(&self) -> u64 {
        self.offset(self.sectors_per_cluster)
    }

    pub(super) fn fat_offsets(&self) -> [u64; 2] {
        [0, self.fat_sectors].map(|sectors| self.offset(RESERVED_SECTORS + sectors))
    }

    pub(super) fn first_cluster_offset(&self) -> u64 {
        self.offset(RESERVED_SECTORS + FATS * self.fat_sectors)
    }

    /// Returns the offset of a sector.
    pub(super) fn offset(&self, sector: u32) -> u64 {
        u64::from(sector) * u64::from(self.sector_bytes)
    }

    pub(super) fn boot_sector(&self, id: VolumeId, label: &str) -> [u8; DESCRIBED_BYTES] {
        let mut sector = [0; DESCRIBED_BYTES];
        let mut put = |offset: usize, bytes: &[u8]| sector[offset..][..bytes.len()].copy_from_slice(bytes);
        put(0, &[0xeb, 0x58, 0x90]);
        put(3, b"plywood ");
        put(11, &(self.sector_bytes as u16).to_le_bytes());
        put(13, &[self.sectors_per_cluster as u8]);
        put(14, &(RESERVED_SECTORS as u16).to_le_bytes());
        put(16, &[FATS as u8]);
        put(21, &[0xf8]);
        // The BIOS geometry, which is unused on FAT32: 63 sectors, 255 heads.
        put(24, &[63, 0, 255, 0]);
        put(28, &(self.first_sector as u32).to_le_bytes());
        put(32, &self.sectors.to_le_bytes());
        put(36, &self.fat_sectors.to_le_bytes());
        put(44, &ROOT_CLUSTER.to_le_bytes());
        put(48, &1u16.to_le_bytes());
        put(50, &(BACKUP_SECTOR as u16).to_le_bytes());
        put(64, &[0x80, 0, 0x29]);
        put(67, &id.0.to_le_bytes());
        put(71, &padded::<11>(label));
        put(82, b"FAT32   ");
        put(510, &[0x55, 0xaa]);
        sector
    }

    /// The FSInfo sector: hints with which readers do not need to read the whole FAT.
    pub(super) fn info_sector(&self, taken_clusters: u32) -> [u8; DESCRIBED_BYTES] {
        let mut sector = [0; DESCRIBED_BYTES];
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
    fn every_size_has_enough_clusters_and_all_parts_fit() {
        let sizes = [33, 34, 64, 128, 256, 260, 512, 1024, 550, 100_000].map(|size| (size, SectorSize::B512));
        let large = [257, 260, 500, 1024, 100_000].map(|size| (size, SectorSize::B4096));
        for (mebibytes, sector) in sizes.into_iter().chain(large) {
            let extent = Extent { offset: 1 << 20, bytes: mebibytes << 20 };
            let geometry = Geometry::new(extent, sector).unwrap();
            assert!(geometry.clusters >= LEAST_CLUSTERS, "{mebibytes}");
            let end =
                geometry.first_cluster_offset() + u64::from(geometry.clusters) * geometry.cluster_bytes();
            assert!(end <= extent.bytes && extent.bytes - end < geometry.cluster_bytes(), "{mebibytes}");
            let described = u64::from(geometry.fat_sectors) * sector.bytes() / 4;
            assert!(described >= u64::from(geometry.clusters) + 2, "{mebibytes}");
        }
    }

    #[test]
    fn sizes_that_fat32_cannot_have_are_refused() {
        let small = [0, 1 << 20, 32 << 20, 3 << 40].map(|bytes| (bytes, SectorSize::B512));
        for (bytes, sector) in small.into_iter().chain([(256 << 20, SectorSize::B4096)]) {
            assert!(Geometry::new(Extent { offset: 0, bytes }, sector).is_err(), "{bytes}");
        }
    }
}
