//! The amount of content of a disk, and the file system size that it needs.

const MIB: u64 = 1 << 20;

/// The amount of content of a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Content {
    /// The size of all regular files without their holes. A hard-linked file counts once.
    pub bytes: u64,
    /// Files, directories, links and devices.
    pub entries: u64,
    /// Blocks of 4 KiB that files and directories occupy, as `du` counts them.
    pub blocks: u64,
    /// Inodes of these entries. A hard-linked file counts once.
    pub inodes: u64,
}

impl Content {
    /// Returns the size that `du` reports, in KiB.
    pub(super) const fn used_kibibytes(self) -> u64 {
        self.blocks.saturating_mul(4)
    }

    /// Returns an upper bound of the bytes that it occupies on a file system: each entry may waste
    /// most of a 4 KiB block.
    const fn allocated_bytes(self) -> u64 {
        self.bytes.saturating_add(self.entries.saturating_mul(4096))
    }

    /// Returns the size of a root file system for it that leaves a quarter free, and 256 MiB at
    /// least.
    ///
    /// Besides the content, it has 5 % for inode tables, bitmaps and the reserve of root, and 64
    /// MiB for the journal. A first boot writes logs, package lists and keys into the free quarter
    /// before the root grows.
    pub(super) const fn root_bytes(self, inodes: Inodes) -> u64 {
        let needed = self.minimum_bytes(inodes);
        let free = needed / 4;
        needed.saturating_add(if free < 256 * MIB { 256 * MIB } else { free })
    }

    /// Returns the size of the smallest root file system on which it fits.
    pub(super) const fn minimum_bytes(self, inodes: Inodes) -> u64 {
        let allocated = self.allocated_bytes();
        let bytes = allocated.saturating_add(allocated / 20).saturating_add(64 * MIB);
        let for_inodes = inodes.file_system_bytes(self.inodes);
        if bytes > for_inodes { bytes } else { for_inodes }
    }
}

/// The number of inodes of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::disk) enum Inodes {
    /// One for this number of bytes, fixed when the file system is made.
    OnePer(u64),
    /// As many as fit into the free space.
    Any,
}

impl Inodes {
    /// The inodes of ext2, ext3 and ext4 as plywood makes them: see the arguments of `mke2fs`.
    pub(in crate::disk) const EXT: Self = Self::OnePer(16384);

    /// Returns the smallest size of a file system for this number of inodes. The file system uses
    /// the first eleven itself, and an incomplete group of blocks at its end may have no inodes.
    pub(in crate::disk) const fn file_system_bytes(self, inodes: u64) -> u64 {
        match self {
            Self::OnePer(bytes) => {
                inodes.saturating_add(inodes / 50).saturating_add(64).saturating_mul(bytes)
            }
            Self::Any => 0,
        }
    }
}
