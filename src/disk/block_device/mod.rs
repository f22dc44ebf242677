//! Disks that block-device files of diskimage-builder describe: YAML and a few variables.
//!
//! ```text
//! document   text -> tree with positions
//! tree       tree form, graph form -> nodes
//! check      nodes + root parameters -> description: all names exist, labels fit
//! layout     description + size -> Layout
//! ```
//!
//! | plugin | keys (default) |
//! |---|---|
//! | `local_loop` | `name`: `image0`; `size` (as the content needs); `block_size`: 512 or 4096 (512) |
//! | `partitioning` | `base`; `label`: mbr or gpt; `align` (1MiB, of an MBR); `partitions`: `name`, `size`, `type`, `flags` |
//! | `lvm` | `pvs`, `vgs`, `lvs` |
//! | `mkfs` | `base`, `type`, `label` (the node's name), `opts`, `uuid` |
//! | `mount` | `base`, `mount_point` |
//! | `fstab` | `base`, `options` (defaults), `dump-freq` (0), `fsck-passno` (2) |
//!
//! plywood reports errors before anything runs, which diskimage-builder reports only while it makes
//! the disk. Names that diskimage-builder draws at random are derived from the name of the image
//! ([`Identity`]).
//!
//! Source: diskimage-builder, `doc/source/user_guide/building_an_image.rst`, `block_device/`.

mod check;
mod choice;
mod document;
mod fault;
mod fields;
#[cfg(test)]
mod golden_tests;
mod kind;
mod layout;
mod node;
mod parameters;
mod place;
mod plugin;
mod size;
mod tree;

pub use choice::{DiskSource, implied_block_device};
pub use fault::{BlockDeviceError, Problem};
pub use parameters::{Allowance, ParameterError, RootParameters};
pub use size::SizeError;

use self::check::Description;
use self::document::Item;
use self::layout::Target;
use self::tree::Nodes;
use super::{Content, Identity, Layout};

/// The disk of a block-device file, complete and consistent.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockDevices {
    file: String,
    description: Description,
    parameters: RootParameters,
}

impl BlockDevices {
    /// Parses `text`, the content of `file` (a path or the name of a variable, for messages).
    ///
    /// # Errors
    /// The first error, with line and column.
    pub fn parse(file: &str, text: &str, parameters: &RootParameters) -> Result<Self, BlockDeviceError> {
        let read = || Description::new(Nodes::read(&Item::parse(text)?)?, parameters);
        let description = read().map_err(|fault: fault::Fault| fault.of(file))?;
        Ok(Self { file: file.to_owned(), description, parameters: parameters.clone() })
    }

    /// Returns true if the disk has logical volumes, for which the kernel needs the device mapper.
    pub fn has_volumes(&self) -> bool {
        !self.description.volumes.is_empty()
    }

    /// Returns the programs that make its volumes and file systems, each with its Debian package.
    pub fn programs(&self) -> Vec<(&'static str, &'static str)> {
        let identity = Identity::new("");
        let kinds = self.description.file_systems.iter().map(|fs| fs.kind.identified("", None, &identity));
        let makers = kinds.filter_map(|kind| super::Maker::from(kind).program());
        self.has_volumes().then_some(("lvm", "lvm2")).into_iter().chain(makers).collect()
    }

    /// Returns the variables for hooks of every phase: `DIB_ROOT_LABEL`, `DIB_ROOT_FSTYPE`,
    /// `DIB_BOOT_LABEL`, `DIB_MOUNTPOINTS`.
    pub fn variables(&self) -> [(&'static str, String); 4] {
        let at = |path| self.description.mounted_at(path);
        let label = |path| at(path).map_or_else(String::new, |fs| fs.label.clone());
        let mounts = self.description.file_systems.iter().filter_map(|fs| fs.mount.as_ref());
        let paths: Vec<_> = mounts.map(|mount| mount.path.as_str()).collect();
        [
            ("DIB_ROOT_LABEL", label("/")),
            ("DIB_ROOT_FSTYPE", at("/").map_or_else(String::new, |fs| fs.kind.name().to_owned())),
            ("DIB_BOOT_LABEL", label("/boot")),
            ("DIB_MOUNTPOINTS", paths.join("|")),
        ]
    }

    /// Returns true if the size of the disk does not depend on its content.
    pub fn has_given_size(&self) -> bool {
        self.description.disk.bytes.is_some() || self.parameters.size_gibibytes.is_some()
    }

    /// Returns the size of the disk for `content`.
    pub fn bytes(&self, content: Content) -> u64 {
        let Self { description, parameters, .. } = self;
        let root = description.mounted_at("/").map_or(kind::FsType::EXT4, |fs| fs.kind);
        let computed = || parameters.image_bytes(root, description.other_bytes(), content);
        whole(description.disk.bytes.unwrap_or_else(computed))
    }

    /// Returns the layout of the disk of `image` for `content`.
    ///
    /// # Errors
    /// If the parts do not fit on the disk, or the disk cannot have such parts.
    pub fn layout(
        &self,
        image: &str,
        content: Content,
        source_date_epoch: i64,
    ) -> Result<Layout, BlockDeviceError> {
        let Self { description, parameters, .. } = self;
        let target = Target {
            identity: &Identity::new(image),
            bytes: self.bytes(content),
            sector: parameters.sector.unwrap_or(description.disk.sector),
            source_date_epoch,
        };
        description.layout(&target).map_err(|fault| fault.of(&self.file))
    }
}

/// Rounds up to a MiB, as for the standard disk: Azure refuses a vhd of another size, and the disk
/// is the same in all formats.
const fn whole(bytes: u64) -> u64 {
    const MIB: u64 = 1 << 20;
    bytes.saturating_add(MIB - 1) / MIB * MIB
}
