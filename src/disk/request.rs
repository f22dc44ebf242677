//! Requests for a disk of either kind.

use std::collections::BTreeSet;

use super::{BlockDevices, Content, Firmware, Layout, LayoutError, Request};

/// A request for a disk.
#[derive(Debug, Clone)]
pub enum DiskRequest<'a> {
    /// The standard disk.
    Standard(Request<'a>),
    /// The disk of a block-device file.
    Described {
        devices: &'a BlockDevices,
        /// The name of the image, from which all ids are derived.
        image: &'a str,
        /// The time for all tools, in seconds since 1970.
        source_date_epoch: i64,
        /// The firmware that should boot the disk, if the disk supports it. An element may change
        /// this.
        firmware: BTreeSet<Firmware>,
    },
}

impl DiskRequest<'_> {
    /// Returns the layout of the disk for `content`.
    ///
    /// # Errors
    /// If no such disk can hold the content.
    pub fn layout(&self, content: Content) -> Result<Layout, LayoutError> {
        match self {
            DiskRequest::Standard(request) => Layout::standard(request, content),
            DiskRequest::Described { devices, image, source_date_epoch, .. } => {
                Ok(devices.layout(image, content, *source_date_epoch)?)
            }
        }
    }

    /// Returns the variables for hooks of every phase: see [`BlockDevices::variables`].
    pub fn variables(&self) -> [(&'static str, String); 4] {
        match self {
            DiskRequest::Standard(request) => request.variables(),
            DiskRequest::Described { devices, .. } => devices.variables(),
        }
    }

    /// Returns the firmware that must be able to boot `layout`, which this request made. For a
    /// described disk, only firmware that the layout supports.
    pub fn firmware(&self, layout: &Layout) -> BTreeSet<Firmware> {
        match self {
            DiskRequest::Standard(request) => request.firmware.clone(),
            DiskRequest::Described { firmware, .. } => firmware & &layout.bootable_by(),
        }
    }
}
