//! Replaces `grub-probe`: answers for the running system.
//!
//! `grub-mkconfig` calls `grub-probe` for devices, file systems and UUIDs. During a build,
//! `grub-probe` would inspect the disks of the build host, or fail. The answers here come from the
//! layout.
//!
//! Source: GRUB 2.06, `util/grub-mkconfig.in`, `util/grub-mkconfig_lib.in`.

use std::fmt::Write as _;

use super::{FileSystem, FsKind, Layout, Place, Table};

/// Parses the arguments: the requested value, and the path or device.
const HEAD: &str = "\
#!/bin/sh
# Answers for grub-mkconfig while the image is built.
target=device place=/
while [ $# -gt 0 ]; do
    case $1 in
    --target=*) target=${1#*=} ;;
    -t | --target) target=$2; shift ;;
    -d | --device) ;;
    --device=*) place=${1#*=} ;;
    -*) ;;
    *) place=$1 ;;
    esac
    shift
done
case $place in
";

/// Other requests, such as hints and encryption, get no answer.
const TAIL: &str = "\
esac
case $target in
device) echo \"$device\" ;;
fs) echo \"$fs\" ;;
fs_uuid) echo \"$uuid\" ;;
fs_label) echo \"$label\" ;;
partuuid) echo \"$partuuid\" ;;
partmap) echo \"$partmap\" ;;
abstraction) echo \"$abstraction\" ;;
esac
";

/// Returns a script that replaces `grub-probe` for a system on `layout`. A path outside the other
/// mounted file systems belongs to the root.
pub fn probe_answers(layout: &Layout) -> String {
    let mut text = HEAD.to_owned();
    for file_system in layout.mounts().into_iter().rev() {
        if matches!(file_system.kind, FsKind::Swap(_)) {
            continue;
        }
        let device = device(file_system);
        let path = file_system.mount_path().unwrap_or_default();
        let pattern = match path {
            "/" => "*".to_owned(),
            path => format!("{path} | {path}/* | {device}"),
        };
        let _ = writeln!(text, "{pattern}) {} ;;", answers(layout, file_system, &device));
    }
    text + TAIL
}

fn device(file_system: &FileSystem) -> String {
    match &file_system.place {
        Place::Extent(_) => format!("/dev/disk/by-uuid/{}", file_system.kind.uuid()),
        Place::Volume(volume) => volume.device(),
    }
}

fn answers(layout: &Layout, file_system: &FileSystem, device: &str) -> String {
    let fs = match file_system.kind {
        FsKind::Ext { .. } => "ext2",
        FsKind::Vfat(_) => "fat",
        kind => kind.name(),
    };
    let partition = layout.partition_of(file_system).map(|partition| layout.partition_uuid(partition));
    let partmap = match layout.table {
        Table::None => "",
        Table::Mbr { .. } => "msdos",
        Table::Gpt { .. } => "gpt",
    };
    let abstraction = if matches!(file_system.place, Place::Volume(_)) { "lvm" } else { "" };
    let (uuid, label) = (file_system.kind.uuid(), file_system.label.replace('\'', "'\\''"));
    format!(
        "device={device} fs={fs} uuid={uuid} label='{label}' partuuid={} partmap={partmap} abstraction={abstraction}",
        partition.unwrap_or_default()
    )
}
