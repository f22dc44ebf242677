//! How large the disk is, and how its root file system is made.
//!
//! Source: diskimage-builder, `lib/disk-image-create`.

use super::arguments::Arguments;
use super::variables::{Environment, text};

const KIB_PER_MIB: u64 = 1024;
const KIB_PER_GIB: f64 = 1024.0 * 1024.0;

/// The journal of an ext4 that nobody gave a size for.
const JOURNAL_MIB: u64 = 64;

/// What an EFI system partition of the element `block-device-efi` takes.
const EFI_MIB: u64 = 525;

/// The size of a disk is a multiple of this: readers of compressed images failed otherwise.
const GRAIN_KIB: u64 = 64;

/// The most that a size can be, to keep sums of sizes in range: 8 EiB.
const MAX_KIB: f64 = (1_u64 << 53) as f64;

/// The disk that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootDisk {
    /// How its size is found.
    pub size: SizeRule,
    /// `FS_TYPE`: the file system of `/` where the disk's layout does not say.
    pub filesystem: String,
    /// The label of that file system, where the layout does not say.
    pub label: Option<String>,
    /// The size of its journal, if ext4.
    pub journal_mib: u64,
    /// Up to how many blocks it can be enlarged while it is mounted.
    pub online_resize_blocks: Option<u64>,
    /// The user's own options of mkfs.
    pub mkfs_options: String,
}

/// How the size of a disk is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeRule {
    /// It is given.
    Given {
        /// In KiB.
        kib: u64,
    },
    /// The content, and this much more.
    Extra {
        /// In MiB.
        mib: u64,
    },
    /// The content is to be 60 % of it.
    Proportional,
}

/// A number that cannot be one of a disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{value}` is not a number: expected one such as `{example}`")]
pub struct RootDiskError {
    what: &'static str,
    value: String,
    example: &'static str,
}

impl RootDisk {
    pub(super) fn new(arguments: &Arguments, environment: &Environment) -> Result<Self, RootDiskError> {
        let given = |argument: &Option<String>, name: &str| {
            argument
                .clone()
                .or_else(|| text(environment, name).map(str::to_owned))
                .filter(|text| !text.is_empty())
        };
        let journal = given(&arguments.mkfs_journal_size, "DIB_JOURNAL_SIZE");
        let blocks = given(&arguments.max_online_resize, "MAX_ONLINE_RESIZE");
        Ok(Self {
            size: SizeRule::new(
                given(&arguments.image_size, "DIB_IMAGE_SIZE"),
                given(&arguments.image_extra_size, "DIB_IMAGE_EXTRA_SIZE"),
            )?,
            filesystem: given(&None, "FS_TYPE").unwrap_or_else(|| "ext4".to_owned()),
            label: given(&arguments.root_label, "ROOT_LABEL"),
            journal_mib: journal.map_or(Ok(JOURNAL_MIB), |text| whole("journal size", &text))?,
            online_resize_blocks: blocks.map(|text| whole("largest size for resizing", &text)).transpose()?,
            mkfs_options: arguments.mkfs_options.clone().unwrap_or_default(),
        })
    }

    /// Returns the options of mkfs for a root file system of this type, as one line: plain text for a shell's words.
    pub fn mkfs_line(&self, filesystem: &str) -> String {
        let resize = self.online_resize_blocks.map(|blocks| format!("-E resize={blocks}"));
        let journal = (filesystem == "ext4").then(|| format!("-i 4096 -J size={}", self.journal_mib));
        let own = Some(self.mkfs_options.clone()).filter(|options| !options.is_empty());
        [resize, journal, own].into_iter().flatten().collect::<Vec<_>>().join(" ")
    }

    /// Returns the size of the disk in KiB, for a content of this many, a root file system of this type, and these
    /// elements.
    pub fn size_kib<'a>(
        &self,
        content_kib: u64,
        filesystem: &str,
        elements: impl IntoIterator<Item = &'a str>,
    ) -> u64 {
        let journal = if filesystem == "ext4" { self.journal_mib * KIB_PER_MIB } else { 0 };
        let size = match self.size {
            // Sizes are far below what a u64 holds: see MAX_KIB.
            SizeRule::Given { kib } => kib,
            SizeRule::Extra { mib } => content_kib + mib * KIB_PER_MIB + journal,
            SizeRule::Proportional => content_kib * 10 / 6 + journal,
        };
        let has_efi = elements.into_iter().any(|element| element.contains("block-device-efi"));
        (size + if has_efi { EFI_MIB * KIB_PER_MIB } else { 0 }).next_multiple_of(GRAIN_KIB)
    }
}

impl SizeRule {
    fn new(size: Option<String>, extra: Option<String>) -> Result<Self, RootDiskError> {
        match (size, extra) {
            (Some(size), _) => {
                let kib = fraction("image size", &size, KIB_PER_GIB)?;
                Ok(SizeRule::Given { kib })
            }
            (None, Some(extra)) => {
                let mib = fraction("extra image size", &extra, 1.0)?;
                Ok(SizeRule::Extra { mib })
            }
            (None, None) => Ok(SizeRule::Proportional),
        }
    }
}

fn fraction(what: &'static str, value: &str, unit: f64) -> Result<u64, RootDiskError> {
    let error = || RootDiskError { what, value: value.to_owned(), example: "2.5" };
    let number: f64 = value.trim().parse().map_err(|_| error())?;
    let scaled = number * unit;
    if !(0.0..MAX_KIB).contains(&scaled) {
        return Err(error());
    }
    Ok(scaled as u64)
}

fn whole(what: &'static str, value: &str) -> Result<u64, RootDiskError> {
    let error = |_: std::num::ParseIntError| RootDiskError { what, value: value.to_owned(), example: "64" };
    value.trim().parse().map_err(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dropin::variables::fixture::environment;

    fn disk(size: Option<&str>, extra: Option<&str>) -> RootDisk {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let arguments =
            Arguments { image_size: owned(size), image_extra_size: owned(extra), ..Arguments::default() };
        RootDisk::new(&arguments, &environment(&[])).unwrap()
    }

    /// The rules of diskimage-builder, worked out by hand.
    #[test]
    fn the_size_follows_from_the_content_or_is_given() {
        let mib = |mib: u64| mib * 1024;
        let table: [(RootDisk, &str, &[&str], u64); 7] = [
            (disk(None, None), "ext4", &[], mib(1000) + mib(64)),
            (disk(None, None), "xfs", &[], mib(1000)),
            (disk(None, Some("100")), "ext4", &[], mib(700) + mib(64)),
            (disk(Some("1.5"), None), "ext4", &[], mib(1536)),
            (disk(Some("1.5"), Some("100")), "ext4", &[], mib(1536)),
            // The partition is added to a given size, too.
            (disk(Some("2"), None), "ext4", &["vm", "block-device-efi-lvm"], mib(2048) + mib(525)),
            (disk(Some("0.00001"), None), "xfs", &[], 64),
        ];
        for (disk, filesystem, elements, expected) in table {
            assert_eq!(disk.size_kib(mib(600), filesystem, elements.iter().copied()), expected, "{disk:?}");
        }
    }

    #[test]
    fn options_of_mkfs_are_put_in_front_of_the_users() {
        let arguments = Arguments {
            max_online_resize: Some("1000".to_owned()),
            mkfs_options: Some("-O ^quota".to_owned()),
            ..Arguments::default()
        };
        let disk = RootDisk::new(&arguments, &environment(&[("DIB_JOURNAL_SIZE", "8")])).unwrap();
        assert_eq!(disk.mkfs_line("ext4"), "-E resize=1000 -i 4096 -J size=8 -O ^quota");
        assert_eq!(disk.mkfs_line("xfs"), "-E resize=1000 -O ^quota");
        assert_eq!(super::tests::disk(None, None).mkfs_line("vfat"), "");
    }

    #[test]
    fn arguments_come_before_variables_and_both_have_to_be_numbers() {
        let arguments = Arguments { image_size: Some("3".to_owned()), ..Arguments::default() };
        let variables = environment(&[("DIB_IMAGE_SIZE", "9"), ("FS_TYPE", "xfs"), ("ROOT_LABEL", "top")]);
        let disk = RootDisk::new(&arguments, &variables).unwrap();
        assert_eq!(disk.size, SizeRule::Given { kib: 3 * 1024 * 1024 });
        assert_eq!((disk.filesystem.as_str(), disk.label.as_deref()), ("xfs", Some("top")));
        for (name, value) in [
            ("DIB_IMAGE_SIZE", "big"),
            ("DIB_IMAGE_SIZE", "-1"),
            ("DIB_IMAGE_SIZE", "NaN"),
            ("DIB_IMAGE_SIZE", "1e300"),
            ("DIB_IMAGE_EXTRA_SIZE", "1G"),
            ("DIB_JOURNAL_SIZE", "1.5"),
            ("MAX_ONLINE_RESIZE", "x"),
        ] {
            let error = RootDisk::new(&Arguments::default(), &environment(&[(name, value)])).unwrap_err();
            assert!(error.to_string().contains(&format!("`{value}` is not a number")), "{error}");
        }
    }
}
