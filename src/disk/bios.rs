//! Boot code for the BIOS. plywood patches it for its position on the disk.
//!
//! ```text
//! sector 0       the first 440 bytes of boot.img; the partition table uses the rest of the sector
//! BIOS boot      core.img: its first sector loads the others
//! partition
//! ```
//!
//! The firmware loads sector 0. Its code loads the first sector of core.img, by the number at
//! [`KERNEL_SECTOR`]. That sector loads the rest, by the block list at [`BLOCK_LIST`].
//! `grub-install` also writes only these numbers. In addition, it probes the machine for the disk,
//! which plywood does not need.
//!
//! Source: GRUB manual, "BIOS installation"; GRUB's `boot/i386/pc/boot.S`, `diskboot.S`,
//! `include/grub/i386/pc/boot.h`.

use super::Extent;

const SECTOR: usize = 512;

/// The size of the boot code in sector 0. The disk signature and the table of the MBR follow.
const BOOT_CODE_BYTES: usize = 440;

/// Offset in boot.img of the 64-bit number of core.img's first sector:
/// `GRUB_BOOT_MACHINE_KERNEL_SECTOR`.
const KERNEL_SECTOR: usize = 0x5c;

/// Offset in boot.img of a jump over the check of the drive number:
/// `GRUB_BOOT_MACHINE_DRIVE_CHECK`. Two NOPs in its place enable the check, because some BIOSes
/// pass a wrong drive number.
const DRIVE_CHECK: usize = 0x66;

/// Offset in core.img of its last block list entry: 64-bit start, 16-bit count, 16-bit segment.
const BLOCK_LIST: usize = 0x1f4;

/// The segment to which the rest of core.img is loaded: `GRUB_BOOT_MACHINE_KERNEL_SEG` and the 0x20
/// paragraphs of the first sector.
const KERNEL_SEGMENT: u16 = 0x820;

const NOP: u8 = 0x90;

/// Boot code that is patched for its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BiosBoot {
    /// The first bytes of the disk.
    pub boot: [u8; 440],
    /// The start of the BIOS boot partition, in whole sectors.
    pub core: Vec<u8>,
}

/// Boot code that cannot be installed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BootCodeError {
    #[error(
        "`boot.img` is not GRUB's: expected one sector of 512 bytes that ends with 55 aa, found {bytes} bytes"
    )]
    NotBootImage { bytes: usize },
    #[error("the disk has no BIOS boot partition (try: `bios` among the firmware of the disk)")]
    NoPartition,
    #[error("`core.img` of {bytes} bytes is too short: it has at least two sectors")]
    ShortCore { bytes: usize },
    #[error("`core.img` has {bytes} bytes, the BIOS boot partition only {room}")]
    LargeCore {
        bytes: usize,
        /// The size of the partition.
        room: u64,
    },
}

impl BiosBoot {
    /// Patches GRUB's two images for a core image at the start of `place`.
    ///
    /// # Errors
    /// If one of them is not an image of GRUB, or if `core.img` is larger than `place` or than a
    /// block list allows.
    pub fn new(boot_image: &[u8], core_image: &[u8], place: Extent) -> Result<Self, BootCodeError> {
        if boot_image.len() != SECTOR || !boot_image.ends_with(&[0x55, 0xaa]) {
            return Err(BootCodeError::NotBootImage { bytes: boot_image.len() });
        }
        let sector = place.offset / SECTOR as u64;
        let mut boot = [0; BOOT_CODE_BYTES];
        boot.copy_from_slice(&boot_image[..BOOT_CODE_BYTES]);
        boot[KERNEL_SECTOR..][..8].copy_from_slice(&sector.to_le_bytes());
        boot[DRIVE_CHECK..][..2].fill(NOP);
        Ok(Self { boot, core: core(core_image, sector, place.bytes)? })
    }
}

fn core(image: &[u8], sector: u64, room: u64) -> Result<Vec<u8>, BootCodeError> {
    if image.len() <= SECTOR {
        return Err(BootCodeError::ShortCore { bytes: image.len() });
    }
    let sectors = image.len().div_ceil(SECTOR);
    let too_large = || BootCodeError::LargeCore { bytes: image.len(), room };
    let rest = u16::try_from(sectors - 1).map_err(|_| too_large())?;
    if (sectors * SECTOR) as u64 > room {
        return Err(too_large());
    }
    let mut core = image.to_vec();
    core.resize(sectors * SECTOR, 0);
    core[BLOCK_LIST..][..8].copy_from_slice(&(sector + 1).to_le_bytes());
    core[BLOCK_LIST + 8..][..2].copy_from_slice(&rest.to_le_bytes());
    core[BLOCK_LIST + 10..][..2].copy_from_slice(&KERNEL_SEGMENT.to_le_bytes());
    Ok(core)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Extent = Extent { offset: 1 << 20, bytes: 1 << 20 };

    fn boot_image() -> Vec<u8> {
        let mut image = vec![0xeb; SECTOR];
        image[510..].copy_from_slice(&[0x55, 0xaa]);
        image
    }

    #[test]
    fn only_the_three_places_are_patched() {
        let patched = BiosBoot::new(&boot_image(), &[0xcc; 1300], PLACE).unwrap();
        assert_eq!(patched.boot[0x5c..0x64], 2048u64.to_le_bytes());
        assert_eq!(patched.boot[0x66..0x68], [NOP, NOP]);
        assert_eq!(patched.boot.iter().filter(|&&byte| byte != 0xeb).count(), 10);
        assert_eq!(patched.core.len(), 3 * SECTOR);
        assert_eq!(patched.core[0x1f4..0x200], *b"\x01\x08\0\0\0\0\0\0\x02\0\x20\x08");
        assert!(patched.core[..0x1f4].iter().chain(&patched.core[0x200..1300]).all(|&byte| byte == 0xcc));
    }

    #[test]
    fn wrong_images_are_refused() {
        let small = Extent { bytes: 1024, ..PLACE };
        for (boot, core, place) in [
            (vec![0; 512], vec![0; 2000], PLACE),
            (boot_image()[1..].to_vec(), vec![0; 2000], PLACE),
            (boot_image(), vec![0; 512], PLACE),
            (boot_image(), vec![0; 1025], small),
            (boot_image(), vec![0; (1 << 20) + 1], PLACE),
        ] {
            assert!(BiosBoot::new(&boot, &core, place).is_err());
        }
    }
}
