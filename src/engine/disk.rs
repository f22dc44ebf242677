//! The disk of an image.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::failure::Failure;
use crate::disk::{
    Allowance, BlockDevices, ByteSize, Content, DiskRequest, DiskSize, DiskSource, Firmware, FsName,
    ParameterError, Request, RootFs, RootParameters,
};
use crate::element::Element;
use crate::image::DiskSettings;
use crate::load::load_block_devices;

/// The rules for disks without a complete description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DiskRules {
    /// Without a description, the disk is the standard disk. A described disk grows until all its
    /// partitions fit.
    Plywood,
    /// Without a description, the disk is a bare file system. The size follows diskimage-builder's
    /// formula.
    Upstream,
}

/// The layout of an image's disk.
pub(crate) struct Disk {
    settings: DiskSettings,
    /// The content of the block-device file, if there is one.
    devices: Option<BlockDevices>,
}

impl Disk {
    /// Reads the block-device file that the image's settings or variables name, or that an element
    /// has. Paths are relative to `dir`.
    pub(crate) fn load(
        settings: &DiskSettings,
        dir: &Path,
        elements: &[Arc<Element>],
        variables: &BTreeMap<String, String>,
        rules: DiskRules,
    ) -> Result<Self, Failure> {
        let has_file = |name: &str, file: &str| {
            elements.iter().any(|element| element.name.as_str() == name && element.files.contains_key(file))
        };
        let layout = settings.layout.as_deref().map(Path::to_string_lossy);
        let names = elements.iter().map(|element| element.name.as_str());
        let source = match &layout {
            Some(file) => DiskSource::File(file),
            None => DiskSource::choose(variables, names, has_file),
        };
        let devices = match source {
            DiskSource::Bare if rules == DiskRules::Plywood => None,
            source => {
                let parameters = match rules {
                    DiskRules::Plywood => parameters(settings, variables)?,
                    DiskRules::Upstream => RootParameters::of(variables)?,
                };
                Some(load_block_devices(source, dir, elements, &parameters)?)
            }
        };
        Ok(Self { settings: settings.clone(), devices })
    }

    /// Returns the programs that create its file systems, each with its Debian package.
    pub(crate) fn programs(&self) -> Vec<(&'static str, &'static str)> {
        match &self.devices {
            Some(devices) => devices.programs(),
            None => vec![match self.settings.filesystem {
                RootFs::Ext4 => ("mke2fs", "e2fsprogs"),
                RootFs::Xfs => ("mkfs.xfs", "xfsprogs"),
            }],
        }
    }

    /// Returns the minimum size of the disk of the image called `image`, without content.
    ///
    /// # Errors
    /// If its parts cannot be on one disk, or do not fit on a disk of the given size.
    pub(crate) fn least_size(&self, image: &str) -> Result<ByteSize, Failure> {
        let bytes = match &self.devices {
            // Its parts may fit only when it has grown with its content.
            Some(devices) if !devices.has_given_size() => devices.bytes(Content::default()),
            _ => self.request(image, 0).layout(Content::default())?.bytes,
        };
        Ok(ByteSize::from_bytes(bytes))
    }

    /// Returns the firmware that must be able to boot the standard disk. Returns none for a
    /// described disk, because its author may boot it in another way.
    pub(crate) fn standard_firmware(&self) -> BTreeSet<Firmware> {
        match self.devices {
            None => self.settings.firmware.clone(),
            Some(_) => BTreeSet::new(),
        }
    }

    /// Returns true if the disk has logical volumes.
    pub(crate) fn has_volumes(&self) -> bool {
        self.devices.as_ref().is_some_and(BlockDevices::has_volumes)
    }

    /// Returns the request for the disk of the image called `image`.
    pub(crate) fn request<'a>(&'a self, image: &'a str, source_date_epoch: i64) -> DiskRequest<'a> {
        let firmware = self.settings.firmware.clone();
        match &self.devices {
            Some(devices) => DiskRequest::Described { devices, image, source_date_epoch, firmware },
            None => DiskRequest::Standard(Request {
                image,
                size: self.settings.size,
                firmware,
                root: self.settings.filesystem,
                label: None,
                by: FsName::Uuid,
                source_date_epoch,
            }),
        }
    }

    /// Adds the variables that describe the disk to the variables of hooks.
    pub(crate) fn add_variables(&self, variables: &mut BTreeMap<String, String>) {
        // These variables contain neither the image's name nor the time.
        let told = self.request("", 0).variables();
        variables.extend(told.map(|(name, value)| (name.to_owned(), value)));
    }
}

/// Returns the parameters of a described disk: diskimage-builder's variables override the settings.
fn parameters(
    settings: &DiskSettings,
    variables: &BTreeMap<String, String>,
) -> Result<RootParameters, ParameterError> {
    let mut parameters = RootParameters::of(variables)?;
    if !variables.contains_key("FS_TYPE") {
        parameters.kind = settings.filesystem.name().to_owned();
    }
    if let (DiskSize::Given(size), None) = (settings.size, parameters.size_gibibytes) {
        parameters.size_gibibytes = Some(size.bytes() as f64 / (1u64 << 30) as f64);
    }
    parameters.allowance = Allowance::Partitions;
    Ok(parameters)
}
