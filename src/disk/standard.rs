//! Plans the standard disk.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::size::read_size;
use super::{
    ByteSize, ByteSizeError, Content, ExtVersion, Extent, FileSystem, Firmware, FsKind, FsName, FstabEntry,
    Identity, Inodes, LARGEST_DISK, Layout, Lvm, MountPoint, Partition, PartitionEntry, PartitionKind, Place,
    SectorSize, Table,
};

const MIB: u64 = 1 << 20;

/// Partitions start and end at multiples of this size. It is larger than the usual physical
/// sectors, pages and erase blocks.
const ALIGNMENT: u64 = MIB;

/// GRUB's core image has 100 to 200 KiB. One unit of alignment is the smallest partition.
const BIOS_BOOT_BYTES: u64 = MIB;

/// Space for shim, GRUB and a second copy of both (20 MiB), and for firmware updates that the guest
/// stores there. FAT32 needs at least 33 MiB. Empty space costs nothing in a sparse image.
const ESP_BYTES: u64 = 128 * MIB;

/// The smallest sensible root file system. XFS refuses less than 300 MiB.
const MIN_ROOT_BYTES: u64 = 320 * MIB;

/// A request for a standard disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// The name of the image, from which all ids are derived.
    pub image: &'a str,
    pub size: DiskSize,
    /// The firmware that must be able to boot the disk. May be empty.
    pub firmware: BTreeSet<Firmware>,
    pub root: RootFs,
    /// The label of the root; [`RootFs::default_label`] if `None`.
    pub label: Option<&'a str>,
    /// The name of the root in `/etc/fstab`.
    pub by: FsName,
    /// The time for all tools, in seconds since 1970.
    pub source_date_epoch: i64,
}

impl Request<'_> {
    /// Returns the variables about the disk for hooks.
    pub(super) fn variables(&self) -> [(&'static str, String); 4] {
        let mounts = if self.firmware.contains(&Firmware::Uefi) { "/boot/efi|/" } else { "/" };
        [
            ("DIB_ROOT_LABEL", self.label.unwrap_or(self.root.default_label()).to_owned()),
            ("DIB_ROOT_FSTYPE", self.root.name().to_owned()),
            ("DIB_BOOT_LABEL", String::new()),
            ("DIB_MOUNTPOINTS", mounts.to_owned()),
        ]
    }
}

/// The size of a disk. The text form is `auto` or a [`ByteSize`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub enum DiskSize {
    /// As large as the content needs.
    #[default]
    Auto,
    /// This size, rounded up to whole MiB.
    Given(ByteSize),
}

impl<'de> Deserialize<'de> for DiskSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        read_size(deserializer)
    }
}

/// A text that is not a size of a disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiskSizeError {
    #[error(transparent)]
    Size(#[from] ByteSizeError),
    #[error("`{0}` is too large for a disk: {LARGEST_DISK} at most")]
    TooLarge(String),
}

impl TryFrom<String> for DiskSize {
    type Error = DiskSizeError;

    fn try_from(text: String) -> Result<Self, DiskSizeError> {
        match text.as_str() {
            "auto" => Ok(DiskSize::Auto),
            // A size below 1 MiB is probably a number without its unit.
            size => match size.parse()? {
                small if small < ByteSize::from_mebibytes(1) => Err(ByteSizeError::of(size).into()),
                large if large > LARGEST_DISK => Err(DiskSizeError::TooLarge(text)),
                size => Ok(DiskSize::Given(size)),
            },
        }
    }
}

impl From<DiskSize> for String {
    fn from(size: DiskSize) -> Self {
        match size {
            DiskSize::Auto => "auto".to_owned(),
            DiskSize::Given(size) => size.to_string(),
        }
    }
}

/// The file system of `/`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RootFs {
    /// ext4.
    #[default]
    Ext4,
    /// XFS.
    Xfs,
}

impl RootFs {
    /// Returns diskimage-builder's label of the root file system, because existing images may
    /// depend on it.
    pub const fn default_label(self) -> &'static str {
        match self {
            RootFs::Ext4 => "cloudimg-rootfs",
            RootFs::Xfs => "img-rootfs",
        }
    }

    /// Returns the kernel's name of the type.
    pub const fn name(self) -> &'static str {
        match self {
            RootFs::Ext4 => "ext4",
            RootFs::Xfs => "xfs",
        }
    }

    /// Returns the largest length of a label in bytes.
    const fn label_limit(self) -> usize {
        match self {
            RootFs::Ext4 => 16,
            RootFs::Xfs => 12,
        }
    }
}

impl RootFs {
    const fn inodes(self) -> Inodes {
        match self {
            RootFs::Ext4 => Inodes::EXT,
            RootFs::Xfs => Inodes::Any,
        }
    }
}

/// A request that cannot be met.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    #[error("a disk of {given} is too small: at least {needed} are needed (try: `size = \"auto\"`)")]
    TooSmall {
        given: ByteSize,
        /// The smallest possible size.
        needed: ByteSize,
    },
    #[error(transparent)]
    BlockDevice(#[from] super::BlockDeviceError),
    #[error("label `{label}` does not fit: it must have 1 to {limit} printable ASCII characters")]
    Label { label: String, limit: usize },
}

impl Layout {
    /// Plans the standard disk for `content`: see the drawing in the module. The root is last, so
    /// that it can grow.
    ///
    /// # Errors
    /// [`LayoutError::TooSmall`] if a given size cannot hold the content, [`LayoutError::Label`] if
    /// the label is too long.
    pub fn standard(request: &Request, content: Content) -> Result<Self, LayoutError> {
        let identity = Identity::new(request.image);
        let mut partitions = boot_partitions(&request.firmware, &identity);
        let offset = partitions.last().map_or(ALIGNMENT, |last| last.extent.offset + last.extent.bytes);
        let bytes = disk_bytes(request.size, offset, content, request.root.inodes())?;
        let extent = Extent { offset, bytes: bytes - ALIGNMENT - offset };
        let number = partitions.len() as u32 + 1;
        partitions.push(partition(number, "root", PartitionKind::LINUX, extent, &identity));
        let mut file_systems = vec![root(request, extent, &identity)?];
        let esp = partitions.iter().find(|partition| partition.is(PartitionKind::EFI_SYSTEM));
        file_systems.extend(esp.map(|partition| esp_file_system(partition.extent, &identity)));
        Ok(Self {
            bytes,
            sector: SectorSize::B512,
            table: Table::Gpt { guid: identity.uuid("disk") },
            partitions,
            lvm: Lvm::default(),
            file_systems,
            source_date_epoch: request.source_date_epoch,
        })
    }
}

fn boot_partitions(firmware: &BTreeSet<Firmware>, identity: &Identity) -> Vec<Partition> {
    let wanted = [
        (Firmware::Bios, "bios", PartitionKind::BIOS_BOOT, BIOS_BOOT_BYTES),
        (Firmware::Uefi, "esp", PartitionKind::EFI_SYSTEM, ESP_BYTES),
    ];
    let mut offset = ALIGNMENT;
    let mut partitions = Vec::new();
    for (_, name, kind, bytes) in wanted.into_iter().filter(|wanted| firmware.contains(&wanted.0)) {
        let number = partitions.len() as u32 + 1;
        partitions.push(partition(number, name, kind, Extent { offset, bytes }, identity));
        offset += bytes;
    }
    partitions
}

fn partition(number: u32, name: &str, kind: PartitionKind, extent: Extent, identity: &Identity) -> Partition {
    let entry = PartitionEntry::Gpt { kind, guid: identity.uuid(&format!("partition {name}")) };
    Partition { number, name: name.to_owned(), entry, extent }
}

fn disk_bytes(
    size: DiskSize,
    root_offset: u64,
    content: Content,
    inodes: Inodes,
) -> Result<u64, LayoutError> {
    // The last MiB holds the second copy of the partition table.
    let around = root_offset + ALIGNMENT;
    let aligned = |bytes: u64| bytes.div_ceil(ALIGNMENT).saturating_mul(ALIGNMENT);
    match size {
        DiskSize::Auto => Ok(aligned(around.saturating_add(content.root_bytes(inodes).max(MIN_ROOT_BYTES)))),
        DiskSize::Given(given) => {
            let needed = aligned(around.saturating_add(content.minimum_bytes(inodes).max(MIN_ROOT_BYTES)));
            let bytes = aligned(given.bytes());
            let too_small = || LayoutError::TooSmall { given, needed: ByteSize::from_bytes(needed) };
            if bytes < needed { Err(too_small()) } else { Ok(bytes) }
        }
    }
}

fn root(request: &Request, extent: Extent, identity: &Identity) -> Result<FileSystem, LayoutError> {
    let (label, limit) = (request.label.unwrap_or(request.root.default_label()), request.root.label_limit());
    if label.is_empty() || label.len() > limit || !label.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(LayoutError::Label { label: label.to_owned(), limit });
    }
    let uuid = identity.uuid("file system root");
    let (kind, options, check) = match request.root {
        RootFs::Ext4 => {
            let hash_seed = Identity::hash_seed("root");
            (FsKind::Ext { version: ExtVersion::Ext4, uuid, hash_seed }, "errors=remount-ro", 1)
        }
        // XFS checks itself at each mount, and its fsck does nothing.
        RootFs::Xfs => (FsKind::Xfs(uuid), "defaults", 0),
    };
    let fstab = FstabEntry { by: request.by, options: options.to_owned(), dump: 0, check };
    Ok(mounted(kind, label, extent, "/", fstab))
}

fn esp_file_system(extent: Extent, identity: &Identity) -> FileSystem {
    // FAT has no owners and modes. The mask keeps other users from reading files and replacing boot
    // loaders.
    let options = "umask=0077".to_owned();
    let fstab = FstabEntry { by: FsName::Uuid, options, dump: 0, check: 2 };
    let kind = FsKind::Vfat(identity.volume_id("file system esp"));
    mounted(kind, "ESP", extent, "/boot/efi", fstab)
}

fn mounted(kind: FsKind, label: &str, extent: Extent, path: &str, fstab: FstabEntry) -> FileSystem {
    FileSystem {
        kind,
        label: label.to_owned(),
        place: Place::Extent(extent),
        options: Vec::new(),
        mount: Some(MountPoint { path: path.to_owned(), fstab: Some(fstab) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(firmware: &[Firmware]) -> Request<'static> {
        Request {
            image: "builder",
            size: DiskSize::Given(ByteSize::from_mebibytes(4096)),
            firmware: firmware.iter().copied().collect(),
            root: RootFs::Ext4,
            label: None,
            by: FsName::Uuid,
            source_date_epoch: 1_700_000_000,
        }
    }

    /// Checks facts about every layout.
    fn check(layout: &Layout) {
        let mut end = ALIGNMENT;
        for partition in &layout.partitions {
            let Extent { offset, bytes } = partition.extent;
            assert!(
                offset >= end && offset % ALIGNMENT == 0 && bytes % ALIGNMENT == 0 && bytes > 0,
                "{partition:?}"
            );
            end = offset + bytes;
        }
        assert!(end + ALIGNMENT <= layout.bytes);
        assert!(layout.file_systems.iter().all(|fs| layout.partition_of(fs).is_some()));
        assert_eq!(layout.partitions.last().unwrap().name, "root");
    }

    #[test]
    fn the_firmware_determines_the_partitions() {
        use Firmware::{Bios, Uefi};
        for (firmware, names) in [
            (&[][..], &["root"][..]),
            (&[Bios], &["bios", "root"]),
            (&[Uefi], &["esp", "root"]),
            (&[Bios, Uefi], &["bios", "esp", "root"]),
        ] {
            let layout = Layout::standard(&request(firmware), Content::default()).unwrap();
            check(&layout);
            assert_eq!(layout.partitions.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), names);
            assert_eq!(layout.bios_boot().is_some(), firmware.contains(&Bios));
        }
    }

    #[test]
    fn the_drawing_in_the_module_is_correct() {
        let both = request(&[Firmware::Bios, Firmware::Uefi]);
        let layout = Layout::standard(&both, Content::default()).unwrap();
        let offsets: Vec<_> = layout.partitions.iter().map(|p| p.extent.offset / MIB).collect();
        assert_eq!(offsets, [1, 2, 130]);
        assert_eq!(layout.partitions[2].extent.bytes, (4096 - 130 - 1) * MIB);
    }

    #[test]
    fn inodes_affect_the_size_if_their_number_is_fixed() {
        let content = Content { bytes: 60_000, entries: 60_000, blocks: 60_000, inodes: 60_000 };
        let auto = |root| Request { size: DiskSize::Auto, root, ..request(&[]) };
        let inodes = |layout: &Layout| layout.partitions[0].extent.bytes / 16384;
        let ext4 = Layout::standard(&auto(RootFs::Ext4), content).unwrap();
        assert!(inodes(&ext4) > 60_000 * 5 / 4, "{}", inodes(&ext4));
        let linked = Layout::standard(&auto(RootFs::Ext4), Content { inodes: 1, ..content }).unwrap();
        let xfs = Layout::standard(&auto(RootFs::Xfs), content).unwrap();
        assert!(linked.bytes < ext4.bytes && xfs.bytes < ext4.bytes);
        let given = Request { size: DiskSize::Given(ByteSize::from_mebibytes(700)), ..request(&[]) };
        assert!(matches!(Layout::standard(&given, content), Err(LayoutError::TooSmall { .. })));
    }

    #[test]
    fn automatic_sizes_leave_free_space_and_given_sizes_are_checked() {
        let content = Content { bytes: 1_700_000_000, entries: 72_000, ..Content::default() };
        let auto = Request { size: DiskSize::Auto, ..request(&[Firmware::Bios]) };
        let layout = Layout::standard(&auto, content).unwrap();
        check(&layout);
        assert!((2_500 * MIB..2_700 * MIB).contains(&layout.bytes), "{}", layout.bytes);
        let given = Request { size: DiskSize::Given("1G".parse().unwrap()), ..auto };
        let error = Layout::standard(&given, content).unwrap_err();
        let LayoutError::TooSmall { needed, .. } = error else { panic!("{error}") };
        let least = Request { size: DiskSize::Given(needed), ..given };
        check(&Layout::standard(&least, content).unwrap());
    }

    #[test]
    fn absurd_content_is_an_error_without_overflow() {
        let content = Content { bytes: u64::MAX, entries: u64::MAX, blocks: u64::MAX, inodes: u64::MAX };
        assert!(Layout::standard(&request(&[]), content).is_err());
    }

    #[test]
    fn labels_are_checked_against_the_file_system() {
        for (root, label, fits) in [
            (RootFs::Ext4, "sixteen-bytes-ok", true),
            (RootFs::Ext4, "seventeen-bytes-x", false),
            (RootFs::Xfs, "twelve-bytes", true),
            (RootFs::Xfs, "cloudimg-rootfs", false),
            (RootFs::Ext4, "", false),
            (RootFs::Ext4, "a b", false),
        ] {
            let asked = Request { root, label: Some(label), ..request(&[]) };
            assert_eq!(Layout::standard(&asked, Content::default()).is_ok(), fits, "{label}");
        }
    }

    #[test]
    fn paths_are_found_on_their_file_systems() {
        let layout = Layout::standard(&request(&[Firmware::Uefi]), Content::default()).unwrap();
        let locate = |path| layout.locate(path).map(|(fs, rest)| (fs.mount_path().unwrap(), rest));
        assert_eq!(locate("/boot/grub"), Some(("/", "/boot/grub")));
        assert_eq!(locate("/boot/efi/EFI"), Some(("/boot/efi", "/EFI")));
        assert_eq!(locate("/boot/efivars"), Some(("/", "/boot/efivars")));
    }
}
