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
        /// The description.
        devices: &'a BlockDevices,
        /// The image's name, which all identities are derived from.
        image: &'a str,
        /// The time that tools are told to write, in seconds since 1970.
        source_date_epoch: i64,
        /// What has to be able to boot it, where no element says.
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

    /// Returns what has to be able to boot it.
    pub const fn firmware(&self) -> &BTreeSet<Firmware> {
        match self {
            DiskRequest::Standard(request) => &request.firmware,
            DiskRequest::Described { firmware, .. } => firmware,
        }
    }
}
