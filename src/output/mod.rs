//! Writes outputs: disks in the formats of hypervisors, root file systems as archives, containers.
//!
//! Every output is written to a file without a name in its directory ([`Pending`]), and synced. At
//! the end it gets its name. A file with its final name is therefore complete, and an incomplete
//! file leaves nothing. The [`Destination`] defines checksum files, and whether an existing file is
//! renamed or replaced.

mod app_container;
mod clusters;
mod container;
mod convert;
mod destination;
mod error;
mod format;
mod known_blobs;
mod oci_layout;
mod pack;
mod pending;
mod qcow2;
mod raw;
mod shipment;
mod squashfs;
mod stamp;
mod tar;

pub use app_container::app_container_manifest;
pub use clusters::ClusterCache;
pub use container::{ContainerImage, load_into_docker, write_docker_archive};
pub use convert::{Converter, QemuFormat, qemu_formats};
pub use destination::{Destination, Written};
pub use error::OutputError;
pub use format::{Compatibility, DiskFormat, Qcow2Options};
pub use known_blobs::KnownBlobs;
pub use oci_layout::{check_oci_layout, write_oci_layout};
pub use pending::{Pending, write_file};
pub use shipment::{DISK_ARTIFACT, FramedFile, Shipment, write_stream};
pub use squashfs::write_squashfs;
pub use tar::{MemberNames, TarForm, write_tar};
