//! How an image's disk is laid out.

use std::collections::BTreeSet;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::disk::{DiskSize, Firmware, RootFs};

/// The disk of an image: what its qcow2, raw, vhd, vmdk and vdi outputs hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct DiskSettings {
    /// Size of the disk: `auto`, which leaves some space beside the content, or a whole number and a unit: `8G`,
    /// `512MiB`, `500MB`. Rounded up to a MiB.
    #[schemars(with = "String")]
    pub size: DiskSize,
    /// The firmware it boots under; empty for a disk that nothing boots from.
    pub firmware: BTreeSet<Firmware>,
    /// The root file system.
    pub filesystem: RootFs,
    /// A block-device file of diskimage-builder that says how the disk is laid out, relative to the project. Default: that of an
    /// element of the image, if one has any, else a GPT with what the firmware needs and a root partition.
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
