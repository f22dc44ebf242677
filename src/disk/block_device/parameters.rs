//! Variables that describe a disk, besides its block-device file.

use std::collections::BTreeMap;

use super::kind::FsType;
use crate::disk::{Content, Inodes, LARGEST_DISK, SectorSize};

/// The variable with the size of the disk.
const SIZE: &str = "DIB_IMAGE_SIZE";

/// A journal of this size is large enough after the file system has grown to many times its size.
const JOURNAL_MEBIBYTES: u64 = 64;

/// The space that an EFI system partition adds to the size of the image.
const ESP_KIBIBYTES: u64 = 525 * 1024;

/// mke2fs requires a file system to be more than twice as large as its journal.
const BESIDE_JOURNAL_KIBIBYTES: u64 = 4 * 1024;

/// Old versions of qemu-img cannot compress images whose size is not a multiple of this.
const SIZE_UNIT_KIBIBYTES: u64 = 64;

/// Settings of the root file system and of the whole disk that are not in the block-device file.
///
/// Source: diskimage-builder, `lib/disk-image-create`.
#[derive(Debug, Clone, PartialEq)]
pub struct RootParameters {
    /// `FS_TYPE`: the type of the file system `mkfs_root`, if the file does not have it.
    pub kind: String,
    /// `ROOT_LABEL`: its label, if the file does not have it.
    pub label: Option<String>,
    /// `--mkfs-options`: further arguments for the program that makes it.
    pub mkfs_options: String,
    /// `MAX_ONLINE_RESIZE`: the number of blocks to which it can grow while it is mounted.
    pub max_online_resize: Option<String>,
    /// `DIB_JOURNAL_SIZE`: the size of its journal, in MiB.
    pub journal_mebibytes: Option<u64>,
    /// `DIB_IMAGE_SIZE`: the size of the disk, in GiB.
    pub size_gibibytes: Option<f64>,
    /// `DIB_IMAGE_EXTRA_SIZE`: the free space of the disk, in MiB.
    pub extra_mebibytes: Option<f64>,
    /// `DIB_BLOCK_SIZE`: the sector size of the disk. It overrides the file.
    pub sector: Option<SectorSize>,
    pub allowance: Allowance,
    /// `DIB_RELEASE`: the release in the image, which may be too old for current features.
    pub release: String,
}

/// The space that the size of a disk includes besides the root file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Allowance {
    #[default]
    None,
    /// An EFI system partition: 525 MiB, as in diskimage-builder. Also added to a given size.
    Esp,
    /// All other partitions with sizes in bytes. Not added to a given size.
    Partitions,
}

/// A variable whose value cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable} is `{value}`: expected {expected}")]
pub struct ParameterError {
    pub variable: &'static str,
    pub value: String,
    /// What would be right.
    pub expected: &'static str,
}

impl Default for RootParameters {
    fn default() -> Self {
        Self {
            kind: "ext4".to_owned(),
            label: None,
            mkfs_options: String::new(),
            max_online_resize: None,
            journal_mebibytes: None,
            size_gibibytes: None,
            extra_mebibytes: None,
            sector: None,
            allowance: Allowance::None,
            release: String::new(),
        }
    }
}

/// Returns a number of GiB without its unit, if it has one. diskimage-builder ignores all text
/// after the number, so `500M` means 500 GiB there. plywood refuses other units.
fn without_unit(value: &str) -> &str {
    let unit = ["GiB", "GB", "G"].into_iter().find_map(|unit| value.strip_suffix(unit));
    unit.unwrap_or(value).trim_end()
}

impl RootParameters {
    /// Reads the parameters from the variables of a build. An empty variable counts as missing.
    /// `MKFS_OPTS` holds the value of `--mkfs-options`.
    ///
    /// # Errors
    /// If a variable is not a valid number.
    pub fn of(variables: &BTreeMap<String, String>) -> Result<Self, ParameterError> {
        let text = |name: &str| variables.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let owned = |name: &str| text(name).map(str::to_owned);
        let parsed = |variable, digits: fn(&str) -> &str, expected| {
            let parse = |value: &str| match digits(value.trim()).parse::<f64>() {
                Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
                _ => Err(ParameterError { variable, value: value.to_owned(), expected }),
            };
            text(variable).map(parse).transpose()
        };
        let number = |variable| parsed(variable, |value| value, "a number");
        let elements = text("IMAGE_ELEMENT").unwrap_or_default();
        let size_gibibytes = parsed(SIZE, without_unit, "GiB, such as `5` or `2.5`")?;
        const LARGEST: u64 = LARGEST_DISK.bytes() >> 30;
        const { assert!(LARGEST == 262_144, "the error below names this size") };
        if size_gibibytes.is_some_and(|size| size > LARGEST as f64) {
            let value = owned(SIZE).unwrap_or_default();
            return Err(ParameterError { variable: SIZE, value, expected: "262144 GiB at most" });
        }
        Ok(Self {
            kind: owned("FS_TYPE").unwrap_or_else(|| "ext4".to_owned()),
            label: owned("ROOT_LABEL"),
            mkfs_options: owned("MKFS_OPTS").unwrap_or_default(),
            max_online_resize: owned("MAX_ONLINE_RESIZE"),
            journal_mebibytes: number("DIB_JOURNAL_SIZE")?.map(|size| size as u64),
            size_gibibytes,
            extra_mebibytes: number("DIB_IMAGE_EXTRA_SIZE")?,
            sector: sector(text("DIB_BLOCK_SIZE"))?,
            allowance: match elements.contains("block-device-efi") {
                true => Allowance::Esp,
                false => Allowance::None,
            },
            release: owned("DIB_RELEASE").unwrap_or_default(),
        })
    }

    /// Returns the size of the disk for this content, in bytes, if the block-device file does not
    /// have it. `other_bytes` is the size of all partitions except the root.
    pub(super) fn image_bytes(&self, root: FsType, other_bytes: u64, content: Content) -> u64 {
        let kibibytes = match (self.size_gibibytes, self.extra_mebibytes) {
            (Some(size), _) => (size * 1024.0 * 1024.0) as u64,
            (None, extra) => self.computed_kibibytes(root, other_bytes, extra, content),
        };
        let esp = if self.allowance == Allowance::Esp { ESP_KIBIBYTES } else { 0 };
        let units = kibibytes.saturating_add(esp).div_ceil(SIZE_UNIT_KIBIBYTES);
        units.saturating_mul(SIZE_UNIT_KIBIBYTES * 1024)
    }

    fn computed_kibibytes(
        &self,
        root: FsType,
        other_bytes: u64,
        extra: Option<f64>,
        content: Content,
    ) -> u64 {
        let used = content.used_kibibytes();
        let journal = if root == FsType::EXT4 { self.journal() * 1024 } else { 0 };
        let roomy = match extra {
            Some(mebibytes) => used.saturating_add((mebibytes * 1024.0) as u64),
            None => (used as f64 / 0.6) as u64,
        };
        // For small content, diskimage-builder's rule gives a disk that is too small for any file
        // system.
        let least = (root.least_root_bytes() >> 10).max(journal + BESIDE_JOURNAL_KIBIBYTES);
        // diskimage-builder's rule does not count links, which need inodes and no blocks.
        let least = least.max(inodes(root).file_system_bytes(content.inodes) >> 10);
        // 4 MiB for the alignment of the partitions and of the end of the disk.
        let others = match self.allowance {
            Allowance::Partitions if other_bytes > 0 => (other_bytes >> 10).saturating_add(4 * 1024),
            _ => 0,
        };
        roomy.max(least).saturating_add(journal).saturating_add(others)
    }

    /// Returns the arguments for the file system `mkfs_root`, if the file has none.
    pub(super) fn root_options(&self, root: FsType) -> Vec<String> {
        let mut options = Vec::new();
        if let Some(blocks) = &self.max_online_resize {
            options.push(format!("-E resize={blocks}"));
        }
        if root == FsType::EXT4 {
            // The fsck of Ubuntu 14.04 reports checksums as damage.
            options.extend((self.release == "trusty").then(|| "-O ^metadata_csum".to_owned()));
            options.push(format!("-i 4096 -J size={}", self.journal()));
        }
        options.push(self.mkfs_options.clone());
        options.join(" ").split_whitespace().map(str::to_owned).collect()
    }

    fn journal(&self) -> u64 {
        self.journal_mebibytes.unwrap_or(JOURNAL_MEBIBYTES)
    }
}

/// Returns the number of inodes of a root file system with the options
/// [`RootParameters::root_options`].
fn inodes(root: FsType) -> Inodes {
    match root {
        FsType::EXT4 => Inodes::OnePer(4096),
        FsType::Ext(_) => Inodes::EXT,
        _ => Inodes::Any,
    }
}

fn sector(text: Option<&str>) -> Result<Option<SectorSize>, ParameterError> {
    let parse = |value: &str| {
        SectorSize::parse(value).ok_or_else(|| ParameterError {
            variable: "DIB_BLOCK_SIZE",
            value: value.to_owned(),
            expected: "512 or 4096",
        })
    };
    text.map(parse).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(variables: &[(&str, &str)]) -> Result<RootParameters, ParameterError> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        RootParameters::of(&variables.collect())
    }

    #[test]
    fn the_smallest_disk_holds_a_file_system_and_its_journal() {
        for (variables, root, mebibytes) in [
            (&[][..], FsType::EXT4, 132),
            (&[("DIB_JOURNAL_SIZE", "256")], FsType::EXT4, 516),
            (&[], FsType::Xfs, 320),
        ] {
            let bytes = parameters(variables).unwrap().image_bytes(root, 0, Content::default());
            assert_eq!(bytes >> 20, mebibytes, "{variables:?}");
        }
    }

    /// Returns content of 900,000 KiB.
    fn content() -> Content {
        Content { bytes: 900_000 << 10, entries: 0, blocks: 225_000, inodes: 0 }
    }

    #[test]
    fn the_size_follows_the_rule_of_diskimage_builder() {
        for (variables, root, kibibytes) in [
            (&[][..], FsType::EXT4, 1_500_000 + 65_536),
            (&[], FsType::Xfs, 1_500_032),
            (&[("DIB_JOURNAL_SIZE", "128")], FsType::EXT4, 1_631_104),
            (&[("DIB_IMAGE_SIZE", "5")], FsType::EXT4, 5 << 20),
            (&[("DIB_IMAGE_SIZE", "2.5")], FsType::Xfs, 2_621_440),
            // Users of diskimage-builder often write the unit.
            (&[("DIB_IMAGE_SIZE", "2.5G")], FsType::Xfs, 2_621_440),
            (&[("DIB_IMAGE_SIZE", "5 GiB")], FsType::EXT4, 5 << 20),
            (&[("DIB_IMAGE_EXTRA_SIZE", "100")], FsType::EXT4, 1_067_968),
            (&[("IMAGE_ELEMENT", "base block-device-efi-4k vm")], FsType::EXT4, 2_103_168),
            (&[("DIB_IMAGE_SIZE", "5"), ("IMAGE_ELEMENT", "block-device-efi")], FsType::EXT4, 5_780_480),
        ] {
            let bytes = parameters(variables).unwrap().image_bytes(root, 558 << 20, content());
            assert_eq!(bytes >> 10, u64::div_ceil(kibibytes, 64) * 64, "{variables:?}");
            assert!(bytes.is_multiple_of(64 << 10));
        }
    }

    #[test]
    fn the_size_can_include_other_partitions() {
        let parameters = RootParameters { allowance: Allowance::Partitions, ..RootParameters::default() };
        let bare = RootParameters::default().image_bytes(FsType::EXT4, 558 << 20, content());
        assert_eq!(parameters.image_bytes(FsType::EXT4, 558 << 20, content()) - bare, 562 << 20);
        assert_eq!(parameters.image_bytes(FsType::EXT4, 0, content()), bare);
    }

    #[test]
    fn absurd_content_does_not_overflow() {
        let content = Content { bytes: u64::MAX, entries: u64::MAX, blocks: u64::MAX, inodes: u64::MAX };
        assert!(parameters(&[]).unwrap().image_bytes(FsType::EXT4, 0, content) > 1 << 60);
    }

    #[test]
    fn options_of_the_root_have_this_order() {
        for (variables, root, expected) in [
            (&[][..], FsType::EXT4, "-i 4096 -J size=64"),
            (&[], FsType::Xfs, ""),
            (
                &[("MAX_ONLINE_RESIZE", "1000"), ("MKFS_OPTS", "-m  1"), ("DIB_JOURNAL_SIZE", "8")],
                FsType::EXT4,
                "-E resize=1000 -i 4096 -J size=8 -m 1",
            ),
            (&[("DIB_RELEASE", "trusty")], FsType::EXT4, "-O ^metadata_csum -i 4096 -J size=64"),
            (&[("MKFS_OPTS", "-d agcount=2")], FsType::Xfs, "-d agcount=2"),
        ] {
            assert_eq!(parameters(variables).unwrap().root_options(root).join(" "), expected);
        }
    }

    #[test]
    fn a_variable_that_is_not_a_number_is_named() {
        for (name, value, expected) in [
            ("DIB_IMAGE_SIZE", "500M", "DIB_IMAGE_SIZE is `500M`: expected GiB, such as `5` or `2.5`"),
            ("DIB_IMAGE_SIZE", "9e9", "DIB_IMAGE_SIZE is `9e9`: expected 262144 GiB at most"),
            ("DIB_BLOCK_SIZE", "1024", "DIB_BLOCK_SIZE is `1024`: expected 512 or 4096"),
            ("DIB_JOURNAL_SIZE", "-1", "DIB_JOURNAL_SIZE is `-1`: expected a number"),
        ] {
            assert_eq!(parameters(&[(name, value)]).unwrap_err().to_string(), expected);
        }
    }
}
