//! What is asked of a disk, in either way.

use std::collections::BTreeSet;

use super::{BlockDevices, Content, Firmware, Layout, LayoutError, Request};

/// A disk that is to be made.
#[derive(Debug, Clone)]
pub enum DiskRequest<'a> {
    /// The standard disk.
    Standard(Request<'a>),
    /// A disk that a block-device file describes.
    Described {
        devices: &'a BlockDevices,
        /// The image's name, which all identities are derived from.
        image: &'a str,
        /// The time that tools are told to write, in seconds since 1970.
        source_date_epoch: i64,
        /// What has to be able to boot it, as far as it can; an element may say otherwise.
        firmware: BTreeSet<Firmware>,
    },
}

impl DiskRequest<'_> {
    /// Lays the disk out for `content`.
    ///
    /// # Errors
    /// If no such disk can hold it.
    pub fn layout(&self, content: Content) -> Result<Layout, LayoutError> {
        match self {
            DiskRequest::Standard(request) => Layout::standard(request, content),
            DiskRequest::Described { devices, image, source_date_epoch, .. } => {
                Ok(devices.layout(image, content, *source_date_epoch)?)
            }
        }
    }

    /// Returns the variables that hooks of every phase have: see [`BlockDevices::variables`].
    pub fn variables(&self) -> [(&'static str, String); 4] {
        match self {
            DiskRequest::Standard(request) => request.variables(),
            DiskRequest::Described { devices, .. } => devices.variables(),
        }
    }

    /// Returns what has to be able to boot `layout`, made by this request. Of a described disk that
    /// is what it has room for.
    pub fn firmware(&self, layout: &Layout) -> BTreeSet<Firmware> {
        match self {
            DiskRequest::Standard(request) => request.firmware.clone(),
            DiskRequest::Described { firmware, .. } => firmware & &layout.bootable_by(),
        }
    }
}
