//! Arguments for the programs that make and check file systems.
//!
//! All features are listed, and the configuration of the build host does not matter. A newer mke2fs
//! or mkfs.xfs enables features that GRUB or the kernel in an older image cannot read, and disks
//! from two machines would differ.

use std::path::Path;

use super::{ExtVersion, FileSystem, FsKind};

/// The features of ext2 in e2fsprogs 1.47.
const EXT2_FEATURES: &str = "none,ext_attr,resize_inode,dir_index,filetype,sparse_super,large_file";

const EXT3_FEATURES: &str =
    "none,has_journal,ext_attr,resize_inode,dir_index,filetype,sparse_super,large_file";

/// The features of ext4 that Linux 4.4 and GRUB 2.02 can read. These are the defaults of e2fsprogs
/// 1.47 without `metadata_csum_seed` and `orphan_file`.
const EXT4_FEATURES: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,\
                             sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum";

/// The features of XFS that Linux 5.10 and the GRUB of Debian 12 can read.
const XFS_METADATA: &str = "crc=1,finobt=1,bigtime=1,inobtcount=1,reflink=1,rmapbt=0";

/// The programs for a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// mke2fs and e2fsck of e2fsprogs.
    Ext,
    /// mkfs.xfs and xfs_repair of xfsprogs.
    Xfs,
    /// mkfs.btrfs and btrfs of btrfs-progs.
    Btrfs,
    /// mkswap of util-linux.
    Swap,
    /// plywood itself.
    Own,
}

impl From<FsKind> for Maker {
    fn from(kind: FsKind) -> Self {
        match kind {
            FsKind::Ext { .. } => Maker::Ext,
            FsKind::Xfs(_) => Maker::Xfs,
            FsKind::Btrfs(_) => Maker::Btrfs,
            FsKind::Swap(_) => Maker::Swap,
            FsKind::Vfat(_) => Maker::Own,
        }
    }
}

impl Maker {
    /// Returns the program that makes the file system, and its Debian package; `None` for plywood
    /// itself.
    pub const fn program(self) -> Option<(&'static str, &'static str)> {
        match self {
            Maker::Ext => Some(("mke2fs", "e2fsprogs")),
            Maker::Xfs => Some(("mkfs.xfs", "xfsprogs")),
            Maker::Btrfs => Some(("mkfs.btrfs", "btrfs-progs")),
            Maker::Swap => Some(("mkswap", "util-linux")),
            Maker::Own => None,
        }
    }

    /// Returns the program that checks the file system, and its Debian package; `None` without a
    /// check.
    pub const fn checker(self) -> Option<(&'static str, &'static str)> {
        match self {
            Maker::Ext => Some(("e2fsck", "e2fsprogs")),
            Maker::Xfs => Some(("xfs_repair", "xfsprogs")),
            Maker::Btrfs => Some(("btrfs", "btrfs-progs")),
            Maker::Swap | Maker::Own => None,
        }
    }
}

/// Returns the arguments that make `file_system` on `device`, which must contain only zeros. Empty
/// if plywood makes it itself.
pub fn make_arguments(file_system: &FileSystem, device: &Path) -> Vec<String> {
    let words = match file_system.kind {
        FsKind::Ext { version, hash_seed, .. } => {
            let features = match version {
                ExtVersion::Ext2 => EXT2_FEATURES,
                ExtVersion::Ext3 => EXT3_FEATURES,
                ExtVersion::Ext4 => EXT4_FEATURES,
            };
            let name = file_system.kind.name();
            // Everything is initialized now and not at first boot.
            let extended = format!("hash_seed={hash_seed},lazy_itable_init=0,lazy_journal_init=0,nodiscard");
            format!("-q -F -t {name} -b 4096 -I 256 -i 16384 -O {features} -E {extended}")
        }
        FsKind::Xfs(uuid) => format!("-q -f -K -m uuid={uuid},{XFS_METADATA} -i sparse=1,nrext64=0"),
        FsKind::Btrfs(_) => "-q -f -K".to_owned(),
        FsKind::Swap(_) => "-f -p 4096".to_owned(),
        FsKind::Vfat(_) => return Vec::new(),
    };
    let own = words.split(' ').map(str::to_owned).collect();
    let identity = match file_system.kind {
        FsKind::Xfs(_) => Vec::new(),
        kind => vec!["-U".to_owned(), kind.uuid()],
    };
    let label = ["-L".to_owned(), file_system.label.clone(), device.display().to_string()];
    overridden(own, &file_system.options).into_iter().chain(identity).chain(label).collect()
}

/// The setting with which mke2fs does not write zeros over inode tables and the journal, which would
/// take space of a sparse file: 62 GB for a disk of 1000 GiB. Older versions than 1.47 do not have
/// it. The file system is the same.
///
/// Source: mke2fs(8), "EXTENDED OPTIONS".
pub const PREZEROED: &str = "assume_storage_prezeroed";

/// Returns these arguments of mke2fs with [`PREZEROED`]; `None` if they are those of another program.
pub fn prezeroed(arguments: &[String]) -> Option<Vec<String>> {
    let settings = arguments.iter().position(|word| word == "-E")? + 1;
    let mut arguments = arguments.to_vec();
    let value = arguments.get_mut(settings)?;
    *value = joined(value, &format!("{PREZEROED}=1"));
    Some(arguments)
}

/// Adds the user's options. A flag with a list of settings may appear only once, so the lists are
/// joined, and the user's settings override plywood's. Of other flags, the last one counts.
fn overridden(mut words: Vec<String>, user: &[String]) -> Vec<String> {
    let mut user = user.iter();
    while let Some(word) = user.next() {
        let value = words.iter().position(|own| own == word).map(|flag| flag + 1);
        let settings = value.filter(|&value| words[value].contains([',', '=']));
        match (settings, user.as_slice().first()) {
            (Some(value), Some(settings)) => {
                words[value] = joined(&words[value], settings);
                user.next();
            }
            _ => words.push(word.clone()),
        }
    }
    words
}

fn joined(own: &str, user: &str) -> String {
    let name = |setting: &str| {
        let name = setting.split('=').next().unwrap_or(setting);
        name.trim_start_matches('^').to_owned()
    };
    let kept = own.split(',').filter(|own| user.split(',').all(|user| name(user) != name(own)));
    kept.chain(user.split(',')).collect::<Vec<_>>().join(",")
}

/// Returns the arguments that check the unmounted `file_system` on `device` without changing it.
pub fn check_arguments(file_system: &FileSystem, device: &Path) -> Vec<String> {
    let flags: &[&str] = match Maker::from(file_system.kind) {
        Maker::Ext => &["-fn"],
        Maker::Xfs => &["-n"],
        Maker::Btrfs => &["check", "--readonly"],
        Maker::Swap | Maker::Own => return Vec::new(),
    };
    flags.iter().map(|&flag| flag.to_owned()).chain([device.display().to_string()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_options_override_plywoods() {
        let own = "-q -i 16384 -O none,has_journal,metadata_csum -E hash_seed=1,nodiscard";
        let own: Vec<_> = own.split(' ').map(str::to_owned).collect();
        for (user, expected) in [
            ("", "-q -i 16384 -O none,has_journal,metadata_csum -E hash_seed=1,nodiscard"),
            (
                "-i 4096 -J size=64",
                "-q -i 16384 -O none,has_journal,metadata_csum -E hash_seed=1,nodiscard -i 4096 -J size=64",
            ),
            (
                "-O ^metadata_csum -E resize=9,nodiscard",
                "-q -i 16384 -O none,has_journal,^metadata_csum -E hash_seed=1,resize=9,nodiscard",
            ),
            ("-E", "-q -i 16384 -O none,has_journal,metadata_csum -E hash_seed=1,nodiscard -E"),
        ] {
            let user: Vec<_> = user.split_whitespace().map(str::to_owned).collect();
            assert_eq!(overridden(own.clone(), &user).join(" "), expected);
        }
    }
}
