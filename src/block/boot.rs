//! Boot code outside of file systems.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::error::failed;
use crate::disk::{BiosBoot, BootCodeError, Layout};
use crate::port::{BootImages, DiskError};

/// Writes the boot code of `boot` to its places on `disk`. Other bytes do not change.
pub(super) fn write_boot_code(
    layout: &Layout,
    boot: &BootImages,
    disk: &File,
    raw: &Path,
) -> Result<(), DiskError> {
    let Some((boot_image, core_image)) = &boot.bios else { return Ok(()) };
    let place = layout.bios_boot().ok_or(BootCodeError::NoPartition)?;
    let code = BiosBoot::new(boot_image, core_image, place)?;
    let write =
        |bytes: &[u8], offset| disk.write_all_at(bytes, offset).map_err(failed("write boot code to", raw));
    write(&code.boot, 0)?;
    write(&code.core, place.offset)
}
