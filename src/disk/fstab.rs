//! `/etc/fstab`.

use super::{FileSystem, FstabEntry, Layout, MountPoint};

/// Returns the text of `/etc/fstab`: one line for each file system, parents first.
///
/// Source: fstab(5).
pub fn fstab(layout: &Layout) -> String {
    let lines: String = layout.mounts().into_iter().filter_map(line).collect();
    format!("# <file system> <mount point> <type> <options> <dump> <pass>\n{lines}")
}

fn line(file_system: &FileSystem) -> Option<String> {
    let MountPoint { path, fstab } = file_system.mount.as_ref()?;
    let FstabEntry { options, dump, check, .. } = fstab.as_ref()?;
    // Escaped, because a space ends a field.
    let name = file_system.name().replace(' ', "\\040");
    Some(format!("{name} {path} {} {options} {dump} {check}\n", file_system.kind.name()))
}
