//! An element for images that are built only to be looked at, or to start as virtual machines.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The element of [`write_small_initramfs`].
pub(crate) const SMALL_INITRAMFS: &str = "small-initramfs";

/// Writes an element that limits initramfs images to the modules that start a virtual machine. An
/// image with all modules costs ten times as much, and hooks of diskimage-builder make up to seven
/// in one build.
pub(crate) fn write_small_initramfs(directory: &Path) {
    let element = directory.join(SMALL_INITRAMFS);
    let hook = element.join("pre-install.d/00-small-initramfs");
    fs::create_dir_all(hook.parent().unwrap()).unwrap();
    fs::write(&hook, include_str!("small_initramfs.sh")).unwrap();
    fs::set_permissions(&hook, Permissions::from_mode(0o755)).unwrap();
    // All other elements find the settings.
    fs::write(element.join("plywood-slots"), "pre-install.d prepare\n").unwrap();
}
