//! `/etc/fstab`.

use super::{FileSystem, FsName, Layout};

/// Returns the text of `/etc/fstab`: one line a file system, parents first.
///
/// Source: fstab(5).
pub fn fstab(layout: &Layout) -> String {
    let lines: String = layout.mounts().into_iter().map(line).collect();
    format!("# <file system> <mount point> <type> <options> <dump> <pass>\n{lines}")
}

fn line(file_system: &FileSystem) -> String {
    let FileSystem { kind, label, mount, .. } = file_system;
    let name = match mount.by {
        FsName::Uuid => format!("UUID={}", kind.uuid()),
        FsName::Label => format!("LABEL={label}"),
    };
    format!("{name} {} {} {} 0 {}\n", mount.path, kind.name(), mount.options, mount.check)
}
