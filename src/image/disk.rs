//! The layout of an image's disk.

use std::collections::BTreeSet;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::disk::{DiskSize, Firmware, RootFs};

/// The disk of an image: the content of its qcow2, raw, vhd, vmdk and vdi outputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct DiskSettings {
    /// The size of the disk: `auto` for the content plus some free space, or a whole number and a
    /// unit: `8G`, `512MiB`, `500MB`. Rounded up to a MiB.
    #[schemars(with = "String")]
    pub size: DiskSize,
    /// The firmware that boots the disk; empty for a disk that does not boot.
    pub firmware: BTreeSet<Firmware>,
    /// The root file system.
    pub filesystem: RootFs,
    /// A block-device file of diskimage-builder with the layout of the disk, relative to the
    /// project. Default: the file of an element of the image, if one has such a file. Otherwise the
    /// disk has a GPT with the partitions that the firmware needs and a root partition.
    pub layout: Option<PathBuf>,
}

impl Default for DiskSettings {
    fn default() -> Self {
        Self {
            size: DiskSize::Auto,
            firmware: [Firmware::Bios, Firmware::Uefi].into(),
            filesystem: RootFs::Ext4,
            layout: None,
        }
    }
}
