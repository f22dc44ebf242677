//! Ranges of a disk, and its sector size.

/// A range of the disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// From the start of the disk.
    pub offset: u64,
    pub bytes: u64,
}

/// The unit in which a disk is addressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SectorSize {
    /// 512 bytes.
    #[default]
    B512,
    /// 4096 bytes: "4k native". The BIOS cannot boot from such disks.
    B4096,
}

impl SectorSize {
    /// Reads `512` or `4096`.
    pub fn parse(text: &str) -> Option<Self> {
        [SectorSize::B512, SectorSize::B4096].into_iter().find(|size| size.bytes().to_string() == text.trim())
    }

    /// Returns the number of bytes.
    pub const fn bytes(self) -> u64 {
        match self {
            SectorSize::B512 => 512,
            SectorSize::B4096 => 4096,
        }
    }
}
