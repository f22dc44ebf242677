//! The command that writes GRUB's menu as diskimage-builder's element `bootloader` does.

use crate::disk::{FileSystem, Layout, probe_answers};

/// The element's work, without the boot code.
const MENU: &str = include_str!("boot-loader.sh");

/// Returns the command that writes the settings and the menu of the element `bootloader` for this
/// disk.
pub(super) fn menu_argv(layout: &Layout) -> Vec<String> {
    let name = |path: &str| {
        layout.mounts().into_iter().find(|fs| fs.mount_path() == Some(path)).map(FileSystem::name)
    };
    let [root, boot] = ["/", "/boot"].map(|path| name(path).unwrap_or_default());
    let words = ["bash".to_owned(), "-c".to_owned(), MENU.to_owned(), "boot-loader".to_owned()];
    words.into_iter().chain([root, boot, probe_answers(layout)]).collect()
}
