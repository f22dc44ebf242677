//! How much has to go onto a disk, and the file system that it takes.

const MIB: u64 = 1 << 20;

/// How much has to go onto a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Content {
    /// Of all regular files together without their holes, each hard-linked file once.
    pub bytes: u64,
    /// Files, directories, links and devices.
    pub entries: u64,
    /// Blocks of 4 KiB that files and directories take: what `du` counts.
    pub blocks: u64,
    /// The inodes that they take: entries, with each hard-linked file once.
    pub inodes: u64,
}

impl Content {
    /// Returns what `du` says of it, in KiB.
    pub(super) const fn used_kibibytes(self) -> u64 {
        self.blocks.saturating_mul(4)
    }

    /// Returns the bytes it takes on a file system at most: every entry may waste most of a 4 KiB
    /// block.
    const fn allocated_bytes(self) -> u64 {
        self.bytes.saturating_add(self.entries.saturating_mul(4096))
    }

    /// Returns the size of a root file system for it that leaves a quarter free, and 256 MiB at
    /// least.
    ///
    /// On top of the content: 5 % for inode tables, bitmaps and the reserve of root, 64 MiB for the
    /// journal. The free part is what a first boot needs before the root is grown: logs, package
    /// lists, keys.
    pub(super) const fn root_bytes(self, inodes: Inodes) -> u64 {
        let needed = self.minimum_bytes(inodes);
        let free = needed / 4;
        needed.saturating_add(if free < 256 * MIB { 256 * MIB } else { free })
    }

    /// Returns the least root file system that it fits on.
    pub(super) const fn minimum_bytes(self, inodes: Inodes) -> u64 {
        let allocated = self.allocated_bytes();
        let bytes = allocated.saturating_add(allocated / 20).saturating_add(64 * MIB);
        let for_inodes = inodes.file_system_bytes(self.inodes);
        if bytes > for_inodes { bytes } else { for_inodes }
    }
}

/// How many inodes a file system has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::disk) enum Inodes {
    /// One for so many bytes, from the first moment on.
    OnePer(u64),
    /// As many as there is free space for.
    Any,
}

impl Inodes {
    /// Of ext2, ext3 and ext4 as plywood makes them: see the arguments of `mke2fs`.
    pub(in crate::disk) const EXT: Self = Self::OnePer(16384);

    /// Returns the least size of a file system for so many inodes: the first eleven are its own,
    /// and what is left of a group of blocks at the end may have none.
    pub(in crate::disk) const fn file_system_bytes(self, inodes: u64) -> u64 {
        match self {
            Self::OnePer(bytes) => {
                inodes.saturating_add(inodes / 50).saturating_add(64).saturating_mul(bytes)
            }
            Self::Any => 0,
        }
    }
}
