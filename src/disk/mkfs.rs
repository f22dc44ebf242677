//! Arguments of the programs that make and check file systems.
//!
//! Features are written out and not left to the machine's configuration: a newer mke2fs or mkfs.xfs switches on
//! what the GRUB or the kernel inside an older image cannot read, and two machines would give different disks.

use std::path::Path;

use super::{FileSystem, FsKind};

/// What ext4 of Linux 4.4 and GRUB 2.02 read; also e2fsprogs 1.47's default less `metadata_csum_seed` and `orphan_file`.
const EXT4_FEATURES: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,\
                             sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum";

/// What XFS of Linux 5.10 and Debian 12's GRUB read.
const XFS_METADATA: &str = "crc=1,finobt=1,bigtime=1,inobtcount=1,reflink=1,rmapbt=0";

/// The program that makes a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// e2fsprogs' mke2fs and e2fsck.
    Ext4,
    /// xfsprogs' mkfs.xfs and xfs_repair.
    Xfs,
    /// plywood itself.
    Own,
}

impl From<FsKind> for Maker {
    fn from(kind: FsKind) -> Self {
        match kind {
            FsKind::Ext4(..) => Maker::Ext4,
            FsKind::Xfs(_) => Maker::Xfs,
            FsKind::Vfat(_) => Maker::Own,
        }
    }
}

/// Returns the arguments that make `file_system` on `device`, which must read as zeros; none if plywood makes it itself.
pub fn make_arguments(file_system: &FileSystem, device: &Path) -> Vec<String> {
    let device = device.display().to_string();
    let label = file_system.label.as_str();
    let words: Vec<String> = match file_system.kind {
        FsKind::Ext4(uuid, hash_seed) => {
            // Nothing is left for the first boot to initialise: on a sparse file that costs nothing.
            let extended = format!("hash_seed={hash_seed},lazy_itable_init=0,lazy_journal_init=0,nodiscard");
            let words =
                format!("-q -F -t ext4 -b 4096 -I 256 -i 16384 -O {EXT4_FEATURES} -E {extended} -U {uuid}");
            words.split(' ').map(str::to_owned).chain(["-L".to_owned(), label.to_owned()]).collect()
        }
        FsKind::Xfs(uuid) => {
            let words = format!("-q -f -K -m uuid={uuid},{XFS_METADATA} -i sparse=1,nrext64=0");
            words.split(' ').map(str::to_owned).chain(["-L".to_owned(), label.to_owned()]).collect()
        }
        FsKind::Vfat(_) => return Vec::new(),
    };
    words.into_iter().chain([device]).collect()
}

/// Returns the arguments that check the unmounted `file_system` on `device` and change nothing.
pub fn check_arguments(file_system: &FileSystem, device: &Path) -> Vec<String> {
    let flags = match Maker::from(file_system.kind) {
        Maker::Ext4 => "-fn",
        Maker::Xfs => "-n",
        Maker::Own => return Vec::new(),
    };
    vec![flags.to_owned(), device.display().to_string()]
}
