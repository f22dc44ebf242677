//! The disk that hooks of the final stage see.

use crate::disk::Layout;
use crate::element::Environment;
use crate::plan::Tasks;
use crate::port::{Access, Bind, DiskDevice};

/// The disk on which hooks of the final stage run.
pub(super) struct DiskUnderHooks<'a> {
    pub(super) layout: &'a Layout,
    /// Empty if no hook asks for them.
    pub(super) devices: Vec<DiskDevice>,
}

impl DiskUnderHooks<'_> {
    /// Words in the text of hooks that use the devices. They are also the beginnings of
    /// `IMAGE_BLOCK_DEVICES`, and of the names that `dib-block-device` uses.
    const WANTING: [&'static str; 2] = ["IMAGE_BLOCK_DEVICE", "image-block-device"];

    /// Returns true if hooks among these tasks use the devices.
    pub(super) fn is_wanted(tasks: &Tasks) -> bool {
        Self::WANTING.iter().any(|word| tasks.mention(word))
    }

    /// Returns the variables with which diskimage-builder describes the disk: its size in KiB, its
    /// devices.
    ///
    /// Source: diskimage-builder, `lib/disk-image-create`; `block_device/blockdevice.py`,
    /// `cmd_getval`.
    pub(super) fn variables(&self) -> Environment {
        let size = ("DIB_IMAGE_SIZE", (self.layout.bytes >> 10).to_string());
        let whole = self.devices.first();
        let whole = whole.map(|device| ("IMAGE_BLOCK_DEVICE", device.path.display().to_string()));
        let pair = |device: &DiskDevice| format!(" [{}]={} ", device.name, device.path.display());
        let all = whole.is_some().then(|| ("IMAGE_BLOCK_DEVICES", self.devices.iter().map(pair).collect()));
        [size].into_iter().chain(whole).chain(all).map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Returns the mounts through which a job reaches the devices, each at its own path.
    pub(super) fn binds(&self) -> impl Iterator<Item = Bind> {
        self.devices.iter().map(|DiskDevice { path, .. }| Bind {
            source: path.clone(),
            target: path.to_string_lossy().into_owned(),
            access: Access::ReadWrite,
        })
    }
}
