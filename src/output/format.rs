//! Disk formats and their options.

use crate::image::Qcow2Compression;

/// A format of disk images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DiskFormat {
    /// QEMU's own: sparse, compressed.
    Qcow2,
    /// The disk byte for byte, with holes.
    Raw,
    /// Microsoft's, for Hyper-V, Azure and Xen: dynamic, its size kept exactly.
    Vhd,
    /// VMware's: compressed (`streamOptimized`), as OVF packages hold it.
    Vmdk,
    /// VirtualBox's.
    Vdi,
}

impl DiskFormat {
    /// Every format.
    pub const ALL: [DiskFormat; 5] =
        [DiskFormat::Qcow2, DiskFormat::Raw, DiskFormat::Vhd, DiskFormat::Vmdk, DiskFormat::Vdi];

    /// Returns the name that users say, which is also the file name's extension.
    pub const fn extension(self) -> &'static str {
        match self {
            DiskFormat::Qcow2 => "qcow2",
            DiskFormat::Raw => "raw",
            DiskFormat::Vhd => "vhd",
            DiskFormat::Vmdk => "vmdk",
            DiskFormat::Vdi => "vdi",
        }
    }

    /// Returns the format that goes by this name.
    pub fn from_extension(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.extension() == name)
    }

    /// Returns QEMU's name of it.
    pub const fn qemu_name(self) -> &'static str {
        match self {
            DiskFormat::Vhd => "vpc",
            other => other.extension(),
        }
    }
}

/// How a qcow2 is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Qcow2Options {
    /// How clusters are compressed.
    pub compression: Qcow2Compression,
    /// Who has to be able to read it.
    pub compatibility: Compatibility,
}

impl Default for Qcow2Options {
    /// zlib in version 3: every QEMU since 1.1 reads it, and every cloud takes it.
    fn default() -> Self {
        Self { compression: Qcow2Compression::Zlib, compatibility: Compatibility::V3 }
    }
}

/// Version of a qcow2, in the words of `qemu-img -o compat=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compatibility {
    /// `0.10`: version 2 of the format.
    V2,
    /// `1.1`: version 3.
    V3,
}
