//! Replaces the times and random ids that qemu-img writes by values that depend only on the image.
//!
//! | format | place | value |
//! |---|---|---|
//! | vhd | footer: 24, 64, 68 | seconds since 2000; checksum; UUID |
//! | vmdk | the descriptor's line `CID=`, and its extent's | content id, 8 hex digits; the file's name |
//! | vdi | header: 0x188, 0x198 | UUIDs of the image and of its last snapshot |
//!
//! Source: Microsoft, "Virtual Hard Disk Image Format Specification"; VMware, "Virtual Disk Format
//! 5.0"; QEMU, `block/vdi.c`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::OutputError;
use super::error::io_error;
use super::format::DiskFormat;
use crate::disk::Identity;

const VHD_FOOTER_BYTES: usize = 512;
const VHD_COOKIE: &[u8] = b"conectix";
const VHD_TIME: usize = 24;
const VHD_CHECKSUM: usize = 64;
const VHD_UUID: usize = 68;

/// 2000-01-01T00:00:00Z: times in a VHD are relative to it.
const VHD_EPOCH: i64 = 946_684_800;

const VDI_SIGNATURE: (u64, [u8; 4]) = (0x40, [0x7f, 0x10, 0xda, 0xbe]);
const VDI_IMAGE_UUID: u64 = 0x188;
const VDI_SNAPSHOT_UUID: u64 = 0x198;

/// The descriptor is small and follows the sector of the header.
const VMDK_DESCRIPTOR: u64 = 512;
const VMDK_DESCRIPTOR_BYTES: usize = 2048;

/// The values to write.
#[derive(Debug, Clone)]
pub(super) struct Stamp<'a> {
    pub(super) identity: &'a Identity,
    /// In seconds since 1970.
    pub(super) time: i64,
    /// The final name of the file.
    pub(super) name: &'a str,
}

/// Writes the values of `stamp` to the complete disk `file`. Formats without time and id do not
/// change.
pub(super) fn stamp(file: &File, path: &Path, format: DiskFormat, stamp: &Stamp) -> Result<(), OutputError> {
    let found = match format {
        DiskFormat::Qcow2 | DiskFormat::Raw => Ok(true),
        DiskFormat::Vhd => stamp_vhd(file, stamp),
        DiskFormat::Vmdk => stamp_vmdk(file, stamp),
        DiskFormat::Vdi => stamp_vdi(file, stamp),
    };
    if found.map_err(io_error("stamp", path))? {
        return Ok(());
    }
    let reason = "its signature is missing";
    Err(OutputError::Unexpected { path: path.to_owned(), format: format.extension(), reason })
}

fn stamp_vhd(file: &File, stamp: &Stamp) -> io::Result<bool> {
    let offset = file.metadata()?.len().saturating_sub(VHD_FOOTER_BYTES as u64);
    let mut footer = [0; VHD_FOOTER_BYTES];
    file.read_exact_at(&mut footer, offset)?;
    if !footer.starts_with(VHD_COOKIE) {
        return Ok(false);
    }
    file.write_all_at(&stamped_footer(footer, stamp), offset)?;
    Ok(true)
}

fn stamped_footer(mut footer: [u8; VHD_FOOTER_BYTES], stamp: &Stamp) -> [u8; VHD_FOOTER_BYTES] {
    let time = u32::try_from(stamp.time - VHD_EPOCH).unwrap_or(0);
    footer[VHD_TIME..][..4].copy_from_slice(&time.to_be_bytes());
    footer[VHD_UUID..][..16].copy_from_slice(stamp.identity.uuid("vhd").as_bytes());
    // The checksum is the complement of the sum of all bytes, with the checksum itself as zero.
    footer[VHD_CHECKSUM..][..4].fill(0);
    let sum: u32 = footer.iter().map(|&byte| u32::from(byte)).sum();
    footer[VHD_CHECKSUM..][..4].copy_from_slice(&(!sum).to_be_bytes());
    footer
}

fn stamp_vmdk(file: &File, stamp: &Stamp) -> io::Result<bool> {
    let mut descriptor = [0; VMDK_DESCRIPTOR_BYTES];
    file.read_exact_at(&mut descriptor, VMDK_DESCRIPTOR)?;
    let text =
        String::from_utf8_lossy(descriptor.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned();
    let stamped = stamped_descriptor(&text, stamp);
    if stamped.len() > VMDK_DESCRIPTOR_BYTES || !text.contains("\nCID=") {
        return Ok(false);
    }
    let mut area = [0; VMDK_DESCRIPTOR_BYTES];
    area[..stamped.len()].copy_from_slice(stamped.as_bytes());
    file.write_all_at(&area, VMDK_DESCRIPTOR)?;
    Ok(true)
}

/// Sets the content id, which qemu-img writes with one to eight digits, and the name of the extent,
/// for which qemu-img uses the temporary name of the file.
fn stamped_descriptor(text: &str, stamp: &Stamp) -> String {
    let id = stamp.identity.volume_id("vmdk").0;
    let line = |line: &str| match line.split_once(" SPARSE ") {
        _ if line.starts_with("CID=") => format!("CID={id:08x}\n"),
        Some((extent, _)) => format!("{extent} SPARSE \"{}\"\n", stamp.name),
        None => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

fn stamp_vdi(file: &File, stamp: &Stamp) -> io::Result<bool> {
    let mut signature = [0; 4];
    file.read_exact_at(&mut signature, VDI_SIGNATURE.0)?;
    if signature != VDI_SIGNATURE.1 {
        return Ok(false);
    }
    file.write_all_at(stamp.identity.uuid("vdi").as_bytes(), VDI_IMAGE_UUID)?;
    file.write_all_at(stamp.identity.uuid("vdi snapshot").as_bytes(), VDI_SNAPSHOT_UUID)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_a_footer_is_the_complement_of_its_sum() {
        let identity = Identity::new("builder");
        let footer = stamped_footer(
            [1; VHD_FOOTER_BYTES],
            &Stamp { identity: &identity, time: VHD_EPOCH + 5, name: "x" },
        );
        assert_eq!(footer[VHD_TIME..][..4], [0, 0, 0, 5]);
        let checksum = u32::from_be_bytes(footer[VHD_CHECKSUM..][..4].try_into().unwrap());
        let others = footer[..VHD_CHECKSUM].iter().chain(&footer[VHD_CHECKSUM + 4..]);
        assert_eq!(checksum, !others.map(|&byte| u32::from(byte)).sum::<u32>());
    }

    #[test]
    fn the_content_id_of_a_descriptor_always_has_eight_digits() {
        let identity = Identity::new("builder");
        let stamp = Stamp { identity: &identity, time: 0, name: "disk.vmdk" };
        let of =
            |id: &str, name: &str| format!("# Disk\nCID={id}\nparentCID=ffffffff\nRW 8 SPARSE \"{name}\"\n");
        let stamped = stamped_descriptor(&of("3509b23b", ".disk.vmdk.0.part"), &stamp);
        assert_eq!(stamped, stamped_descriptor(&of("9b23b", ".disk.vmdk.12.part"), &stamp));
        assert_eq!(stamped, of(&format!("{:08x}", identity.volume_id("vmdk").0), "disk.vmdk"));
    }

    #[test]
    fn a_file_of_another_format_is_refused() {
        let (file, identity) = (tempfile::tempfile().unwrap(), Identity::new("builder"));
        file.set_len(1 << 20).unwrap();
        for format in [DiskFormat::Vhd, DiskFormat::Vmdk, DiskFormat::Vdi] {
            let result =
                stamp(&file, Path::new("x"), format, &Stamp { identity: &identity, time: 0, name: "x" });
            assert!(matches!(result, Err(OutputError::Unexpected { .. })));
        }
    }
}
