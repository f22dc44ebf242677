//! How an image's disk is laid out.

use std::collections::BTreeSet;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The disk of an image: what its qcow2, raw, vhd, vmdk and vdi outputs hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct DiskSettings {
    /// Size of the disk: `auto`, which leaves some room beside the content, or a number with `M`, `G` or `T`
    /// (powers of 1024).
    #[schemars(with = "String", extend("pattern" = "^(auto|[0-9]+[MGT])$"))]
    pub size: DiskSize,
    /// The firmware it boots under.
    pub firmware: BTreeSet<Firmware>,
    /// The root file system.
    pub filesystem: FileSystem,
}

impl Default for DiskSettings {
    fn default() -> Self {
        Self {
            size: DiskSize::Auto,
            firmware: [Firmware::Bios, Firmware::Uefi].into(),
            filesystem: FileSystem::Ext4,
        }
    }
}

/// The size of a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DiskSize {
    /// By the content.
    #[default]
    Auto,
    /// This many bytes.
    Bytes(u64),
}

/// A text that is no size of a disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a disk size: expected `auto`, or a number with `M`, `G` or `T`")]
pub struct DiskSizeError(String);

impl FromStr for DiskSize {
    type Err = DiskSizeError;

    fn from_str(text: &str) -> Result<Self, DiskSizeError> {
        let error = || DiskSizeError(text.to_owned());
        if text == "auto" {
            return Ok(DiskSize::Auto);
        }
        let split =
            text.len().checked_sub(1).filter(|&split| text.is_char_boundary(split)).ok_or_else(error)?;
        let (number, unit) = text.split_at(split);
        let shift = match unit {
            "M" => 20,
            "G" => 30,
            "T" => 40,
            _ => return Err(error()),
        };
        let count: u64 = number.parse().map_err(|_| error())?;
        let bytes = count.checked_mul(1 << shift).filter(|bytes| *bytes > 0).ok_or_else(error)?;
        Ok(DiskSize::Bytes(bytes))
    }
}

impl TryFrom<String> for DiskSize {
    type Error = DiskSizeError;

    fn try_from(text: String) -> Result<Self, DiskSizeError> {
        text.parse()
    }
}

impl From<DiskSize> for String {
    fn from(size: DiskSize) -> Self {
        match size {
            DiskSize::Auto => "auto".to_owned(),
            DiskSize::Bytes(bytes) => format!("{}M", bytes >> 20),
        }
    }
}

/// A machine's firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// Boot code in the first sector and in a BIOS boot partition.
    Bios,
    /// A boot loader in an EFI system partition.
    Uefi,
}

/// A root file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FileSystem {
    /// ext4.
    #[default]
    Ext4,
    /// XFS.
    Xfs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_counted_in_powers_of_1024() {
        let table = [
            ("auto", Some(DiskSize::Auto)),
            ("8G", Some(DiskSize::Bytes(8 << 30))),
            ("512M", Some(DiskSize::Bytes(512 << 20))),
            ("2T", Some(DiskSize::Bytes(2 << 40))),
            ("8", None),
            ("G", None),
            ("0G", None),
            ("-1G", None),
            ("1.5G", None),
            ("8GB", None),
            ("99999999999T", None),
            ("", None),
            ("8é", None),
        ];
        for (text, size) in table {
            assert_eq!(text.parse().ok(), size, "{text}");
        }
    }
}
