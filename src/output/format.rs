//! Disk formats and their options.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::image::Qcow2Compression;

/// A format of disk images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DiskFormat {
    /// The format of QEMU: sparse and compressed.
    Qcow2,
    /// The disk byte for byte, with holes.
    Raw,
    /// The format of Microsoft, for Azure, Hyper-V and Xen. Its size is fixed, because Azure
    /// requires it; the file is sparse.
    Vhd,
    /// The format of VMware: compressed (`streamOptimized`), as in OVF packages.
    Vmdk,
    /// The format of VirtualBox.
    Vdi,
}

impl DiskFormat {
    /// All formats.
    pub const ALL: [DiskFormat; 5] =
        [DiskFormat::Qcow2, DiskFormat::Raw, DiskFormat::Vhd, DiskFormat::Vmdk, DiskFormat::Vdi];

    /// Returns the name of the format, which is also the extension of file names.
    pub const fn extension(self) -> &'static str {
        match self {
            DiskFormat::Qcow2 => "qcow2",
            DiskFormat::Raw => "raw",
            DiskFormat::Vhd => "vhd",
            DiskFormat::Vmdk => "vmdk",
            DiskFormat::Vdi => "vdi",
        }
    }

    /// Returns the format with this name.
    pub fn from_extension(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.extension() == name)
    }

    /// Returns the format of a file by its signature. A file without a signature is raw.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn of_file(file: &File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let sector = length.min(512) as usize;
        let (mut start, mut end) = ([0; 512], [0; 512]);
        file.read_exact_at(&mut start[..sector], 0)?;
        file.read_exact_at(&mut end[..sector], length - sector as u64)?;
        let signatures = [
            (&start[..], &b"QFI\xfb"[..], DiskFormat::Qcow2),
            (&start[..], b"KDMV", DiskFormat::Vmdk),
            (&start[0x40..], b"\x7f\x10\xda\xbe", DiskFormat::Vdi),
            (&end[..], b"conectix", DiskFormat::Vhd),
        ];
        let found = signatures.into_iter().find(|(bytes, signature, _)| bytes.starts_with(signature));
        Ok(found.map_or(DiskFormat::Raw, |(_, _, format)| format))
    }

    /// Returns QEMU's name of the format.
    pub const fn qemu_name(self) -> &'static str {
        match self {
            DiskFormat::Vhd => "vpc",
            other => other.extension(),
        }
    }
}

/// Options of a qcow2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Qcow2Options {
    pub compression: Qcow2Compression,
    /// The version of the format.
    pub compatibility: Compatibility,
}

impl Default for Qcow2Options {
    /// zlib in version 3: QEMU since 1.1 and all clouds support it.
    fn default() -> Self {
        Self { compression: Qcow2Compression::Zlib, compatibility: Compatibility::V3 }
    }
}

impl Qcow2Options {
    /// Applies options in the syntax of `qemu-img -o` (`compat=0.10`). Returns `None` for an option
    /// that only qemu-img supports.
    pub fn changed(self, options: &str) -> Option<Self> {
        options.split(',').try_fold(self, |changed, option| match option.split_once('=')? {
            ("compat", "0.10" | "v2") => Some(Self { compatibility: Compatibility::V2, ..changed }),
            ("compat", "1.1" | "v3") => Some(Self { compatibility: Compatibility::V3, ..changed }),
            ("compression_type", "zlib") => Some(Self { compression: Qcow2Compression::Zlib, ..changed }),
            ("compression_type", "zstd") => Some(Self { compression: Qcow2Compression::Zstd, ..changed }),
            _ => None,
        })
    }
}

/// The version of a qcow2, as in `qemu-img -o compat=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compatibility {
    /// `0.10`: version 2 of the format.
    V2,
    /// `1.1`: version 3.
    V3,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_qemu_img_are_applied_or_left_to_it() {
        use Compatibility::{V2, V3};
        use Qcow2Compression::{Zlib, Zstd};
        let table = [
            ("compat=0.10", Some((Zlib, V2))),
            ("compat=1.1", Some((Zlib, V3))),
            ("compat=v3,compression_type=zstd", Some((Zstd, V3))),
            ("compat=0.10,cluster_size=2M", None),
            ("lazy_refcounts", None),
            ("", None),
        ];
        for (options, expected) in table {
            let changed = Qcow2Options::default().changed(options);
            assert_eq!(changed.map(|it| (it.compression, it.compatibility)), expected, "{options}");
        }
    }
}
