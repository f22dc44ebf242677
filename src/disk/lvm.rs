//! Logical volumes, and the commands that make them.
//!
//! Source: lvm(8), pvcreate(8), vgcreate(8), lvcreate(8); diskimage-builder,
//! `block_device/level1/lvm.py`.

use super::{ByteSize, Extent};

/// The default size of LVM's extents.
const PHYSICAL_EXTENT_BYTES: u64 = 4 << 20;

/// The LVM parts of a disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lvm {
    /// In the order in which they are made.
    pub physical: Vec<PhysicalVolume>,
    /// In the order in which they are made.
    pub groups: Vec<VolumeGroup>,
    /// In the order in which they are made.
    pub logical: Vec<LogicalVolume>,
}

/// A partition whose space belongs to a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhysicalVolume {
    /// The name in the layout.
    pub name: String,
    pub extent: Extent,
    /// Further arguments of `pvcreate`.
    pub options: Vec<String>,
}

/// The combined space of physical volumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeGroup {
    pub name: String,
    /// Names of physical volumes.
    pub physical: Vec<String>,
    /// Further arguments of `vgcreate`.
    pub options: Vec<String>,
}

/// A part of a group, used like a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogicalVolume {
    pub name: VolumeName,
    pub size: VolumeSize,
    pub kind: VolumeKind,
    /// Further arguments of `lvcreate`.
    pub options: Vec<String>,
}

/// The name of a logical volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeName {
    pub group: String,
    /// The name in the group.
    pub name: String,
}

impl VolumeName {
    /// Returns the device node of the volume.
    pub fn device(&self) -> String {
        format!("/dev/{}/{}", self.group, self.name)
    }
}

/// The size of a logical volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSize {
    /// In bytes, rounded down to whole extents.
    Bytes(ByteSize),
    /// In the syntax of lvcreate: `100%FREE`, `23%VG`, `250`.
    Extents(String),
}

/// The kind of a logical volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeKind {
    /// Its space is reserved.
    Plain,
    /// Its space is reserved, and thin volumes share it.
    ThinPool,
    /// It gets space from this pool when data is written.
    Thin(Option<String>),
}

/// A call of a program of LVM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LvmCommand {
    pub program: &'static str,
    pub arguments: Vec<String>,
}

impl Lvm {
    /// Returns true if the disk has no logical volumes.
    pub fn is_empty(&self) -> bool {
        self.physical.is_empty() && self.groups.is_empty() && self.logical.is_empty()
    }

    /// Returns the commands that make all parts, in order. `device` returns the device node of a
    /// physical volume by its name.
    pub fn create_commands(&self, device: impl Fn(&str) -> String) -> Vec<LvmCommand> {
        let physical = self.physical.iter().map(|volume| {
            command("pvcreate", [device(&volume.name)].into_iter().chain(volume.options.clone()))
        });
        let groups = self.groups.iter().map(|group| {
            let devices = group.physical.iter().map(|name| device(name));
            let words = [group.name.clone()].into_iter().chain(devices).chain(group.options.clone());
            command("vgcreate", words)
        });
        let logical = self.logical.iter().map(LogicalVolume::create_command);
        physical.chain(groups).chain(logical).collect()
    }

    /// Returns the commands that deactivate the devices, in order. The volumes stay on the disk.
    pub fn release_commands(&self) -> Vec<LvmCommand> {
        let off = |program, name: String| command(program, ["-an".to_owned(), name]);
        let logical = self.logical.iter().map(|volume| off("lvchange", volume.name.device()));
        let groups = self.groups.iter().map(|group| off("vgchange", group.name.clone()));
        logical.chain(groups).collect()
    }
}

impl LogicalVolume {
    fn create_command(&self) -> LvmCommand {
        let mut words = vec!["--name".to_owned(), self.name.name.clone()];
        let mut add = |flag: &str, value: &str| words.extend([flag.to_owned(), value.to_owned()]);
        match &self.kind {
            VolumeKind::Plain => {}
            VolumeKind::ThinPool => add("--type", "thin-pool"),
            VolumeKind::Thin(pool) => {
                add("--type", "thin");
                pool.iter().for_each(|pool| add("--thin-pool", pool));
            }
        }
        match &self.size {
            VolumeSize::Bytes(size) => {
                let whole = size.bytes() - size.bytes() % PHYSICAL_EXTENT_BYTES;
                let flag = if matches!(self.kind, VolumeKind::Thin(_)) { "-V" } else { "-L" };
                add(flag, &format!("{whole}B"));
            }
            VolumeSize::Extents(extents) => add("-l", extents),
        }
        let words = words.into_iter().chain(self.options.clone());
        command("lvcreate", words.chain([self.name.group.clone()]))
    }
}

fn command(program: &'static str, arguments: impl IntoIterator<Item = String>) -> LvmCommand {
    LvmCommand { program, arguments: arguments.into_iter().collect() }
}
