//! The file system of the store.

use super::trial::{EACCES, EINVAL, ENODEV, EPERM, refused};
use super::{Finding, Rights, Trial};

/// The minimum that a build needs, and the amounts below which `plywood doctor` warns.
const LITTLE_BYTES: u64 = 10_000_000_000;
const TOO_LITTLE_BYTES: u64 = 500_000_000;
const FEW_INODES: u64 = 200_000;
const TOO_FEW_INODES: u64 = 10_000;

/// Known file systems, by their number in statfs(2).
///
/// Source: Linux, `include/uapi/linux/magic.h`, and statfs(2).
const KNOWN: [(u64, &str, Fitness); 17] = [
    (0xef53, "ext4", Fitness::Fit),
    (0x5846_5342, "xfs", Fitness::Fit),
    (0x9123_683e, "btrfs", Fitness::Fit),
    (0xf2f5_2010, "f2fs", Fitness::Fit),
    (0xca45_1a4e, "bcachefs", Fitness::Fit),
    (0x2fc1_2fc1, "zfs", Fitness::Fit),
    (0x0102_1994, "tmpfs", Fitness::Memory),
    (0x794c_7630, "overlayfs", Fitness::Unfit),
    (0x6969, "nfs", Fitness::Unfit),
    (0xff53_4d42, "cifs", Fitness::Unfit),
    (0xfe53_4d42, "smb2", Fitness::Unfit),
    (0x0102_1997, "9p", Fitness::Unfit),
    (0x6573_5546, "fuse", Fitness::Unfit),
    (0x4d44, "vfat", Fitness::Unfit),
    (0x2011_bab0, "exfat", Fitness::Unfit),
    (0xf15f, "ecryptfs", Fitness::Unfit),
    (0x7371_7368, "squashfs", Fitness::Unfit),
];

/// How well a file system usually suits a store. The trial decides; this only explains the trial's
/// result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fitness {
    Fit,
    Memory,
    Unfit,
}

/// A file system's type, by its number in statfs(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystem(pub u64);

impl FileSystem {
    fn known(self) -> Option<(&'static str, Fitness)> {
        KNOWN.iter().find(|(magic, ..)| *magic == self.0).map(|(_, name, fitness)| (*name, *fitness))
    }

    /// Returns the name, or the number of an unknown file system.
    pub fn name(self) -> String {
        self.known()
            .map_or_else(|| format!("a file system of type {:#x}", self.0), |(name, _)| name.to_owned())
    }
}

/// Facts about the directory of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreFacts {
    pub path: String,
    /// The file system it is on.
    pub file_system: FileSystem,
    /// Whether layers can be unpacked there, with owners, extended attributes and removals.
    pub unpacking: Trial,
    /// Bytes available to plywood.
    pub free_bytes: u64,
    /// Files that can still be created; `None` if the file system has no limit.
    pub free_inodes: Option<u64>,
}

/// Returns the advice to put the store elsewhere.
fn elsewhere(rights: &Rights) -> String {
    match rights.container {
        Some(_) => "give the store a volume of the host's disk (`-v plywood:/var/cache/plywood`), or name a \
                    directory on ext4, xfs or btrfs with `--store DIR` or `PLYWOOD_STORE`"
            .to_owned(),
        None => "name a directory on ext4, xfs or btrfs with `--store DIR` or `PLYWOOD_STORE`".to_owned(),
    }
}

/// Checks that layers can be unpacked in the store.
pub fn store(facts: &StoreFacts, rights: &Rights) -> Finding {
    const CHECK: &str = "store";
    let (path, kind) = (&facts.path, facts.file_system.name());
    if let Trial::Fails { action, reason, .. } = &facts.unpacking {
        let found =
            format!("cannot build in the store `{path}`, which is on {kind}: cannot {action}: {reason}");
        return Finding::lacking(CHECK, found, elsewhere(rights));
    }
    match facts.file_system.known() {
        Some((_, Fitness::Memory)) => Finding::limited(
            CHECK,
            format!("the store `{path}` is on {kind}: layers take memory and are gone after a restart"),
            elsewhere(rights),
        ),
        _ => Finding::ok(CHECK, format!("`{path}` is on {kind}")),
    }
}

/// Checks that the store can hold a build.
pub fn space(facts: &StoreFacts) -> Finding {
    const CHECK: &str = "free space";
    let gigabytes =
        |bytes: u64| format!("{}.{} GB", bytes / 1_000_000_000, bytes % 1_000_000_000 / 100_000_000);
    let files = facts.free_inodes.map_or_else(String::new, |count| format!(" and {count} files"));
    let free = format!("the store `{}` has space for {}{files}", facts.path, gigabytes(facts.free_bytes));
    let inodes = facts.free_inodes.unwrap_or(u64::MAX);
    let needed = "an image of Debian takes 2 to 5 GB and up to 100000 files while it is built";
    let cure = "plywood store gc, or a larger disk with `--store DIR` or `PLYWOOD_STORE`";
    if facts.free_bytes < TOO_LITTLE_BYTES || inodes < TOO_FEW_INODES {
        return Finding::lacking(CHECK, format!("{free}; {needed}"), cure);
    }
    if facts.free_bytes < LITTLE_BYTES || inodes < FEW_INODES {
        return Finding::limited(CHECK, format!("{free}; {needed}"), cure);
    }
    Finding::ok(CHECK, free)
}

/// Checks that layers can be stacked: an overlay was mounted on directories of the store.
pub fn overlay(trial: &Trial, facts: &StoreFacts, rights: &Rights) -> Finding {
    const CHECK: &str = "overlayfs";
    let Trial::Fails { reason, errno, .. } = trial else {
        return Finding::ok(CHECK, "an overlay was mounted on directories of the store");
    };
    let (path, kind) = (&facts.path, facts.file_system.name());
    let is_unfit = matches!(facts.file_system.known(), Some((_, Fitness::Unfit)));
    match *errno {
        Some(ENODEV) => Finding::lacking(
            CHECK,
            "layers cannot be stacked: the kernel has no overlayfs",
            "modprobe overlay (in a container: on its host)",
        ),
        Some(EPERM | EACCES) => Finding::lacking(
            CHECK,
            format!("layers cannot be stacked: an overlay cannot be mounted: {reason}"),
            refused(rights),
        ),
        // Overlayfs answers EINVAL if the upper directory does not support its attributes or
        // removals.
        _ if is_unfit || *errno == Some(EINVAL) => Finding::lacking(
            CHECK,
            format!(
                "layers cannot be stacked: the store `{path}` is on {kind}, which cannot hold the directories of an overlay: {reason}"
            ),
            elsewhere(rights),
        ),
        _ => Finding::lacking(
            CHECK,
            format!(
                "layers cannot be stacked: an overlay on directories of the store `{path}` ({kind}) cannot be mounted: {reason}"
            ),
            "see the messages of overlayfs in `dmesg`",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Container, Standing};
    use super::*;

    const ROOT: Rights = Rights {
        uid: 0,
        capabilities: u64::MAX,
        is_filtered: false,
        in_user_namespace: false,
        container: None,
    };

    fn facts(magic: u64) -> StoreFacts {
        StoreFacts {
            path: "/store".to_owned(),
            file_system: FileSystem(magic),
            unpacking: Trial::Works,
            free_bytes: 50_000_000_000,
            free_inodes: Some(1_000_000),
        }
    }

    fn fails(errno: i32) -> Trial {
        Trial::Fails { action: "mount".to_owned(), errno: Some(errno), reason: "Invalid argument".to_owned() }
    }

    #[test]
    fn a_store_that_cannot_hold_layers_names_its_file_system_and_the_option() {
        let mut nfs = facts(0x6969);
        nfs.unpacking = fails(95);
        let finding = store(&nfs, &ROOT);
        assert_eq!(finding.standing, Standing::Lacking);
        assert!(finding.found.contains("is on nfs") && finding.cure.unwrap().contains("--store DIR"));
        assert_eq!(store(&facts(0xef53), &ROOT).found, "`/store` is on ext4");
        assert_eq!(store(&facts(0x0102_1994), &ROOT).standing, Standing::Limited);
        assert_eq!(store(&facts(0x77), &ROOT).found, "`/store` is on a file system of type 0x77");
    }

    #[test]
    fn a_store_on_overlayfs_says_so_and_names_a_volume_in_containers() {
        let in_docker = Rights { container: Some(Container::Docker), ..ROOT };
        let finding = overlay(&fails(EINVAL), &facts(0x794c_7630), &in_docker);
        assert!(finding.found.contains("the store `/store` is on overlayfs"), "{finding:?}");
        assert!(finding.cure.unwrap().contains("-v plywood:"));
        let without = overlay(&fails(ENODEV), &facts(0xef53), &ROOT);
        assert!(without.cure.unwrap().starts_with("modprobe overlay"));
        assert_eq!(overlay(&Trial::Works, &facts(0x794c_7630), &ROOT).standing, Standing::Ok);
    }

    #[test]
    fn too_few_bytes_or_inodes_are_a_finding() {
        for (bytes, inodes, standing) in [
            (50_000_000_000, None, Standing::Ok),
            (50_000_000_000, Some(500_000), Standing::Ok),
            (5_000_000_000, None, Standing::Limited),
            (50_000_000_000, Some(100_000), Standing::Limited),
            (100_000_000, None, Standing::Lacking),
            (50_000_000_000, Some(12), Standing::Lacking),
        ] {
            let facts = StoreFacts { free_bytes: bytes, free_inodes: inodes, ..facts(0xef53) };
            assert_eq!(space(&facts).standing, standing, "{bytes} {inodes:?}");
        }
    }
}
