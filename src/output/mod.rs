//! Results as files: disks in the formats of hypervisors, root file systems as archives.
//!
//! Every result is written under a temporary name in its own directory ([`Pending`]), synced, and renamed last: a file
//! under its final name is complete. Beside each lies `<name>.sha256`, as `sha256sum --check` reads it.

mod container;
mod convert;
mod error;
mod format;
mod pack;
mod pending;
mod qcow2;
mod raw;
mod stamp;
mod tar;

pub use container::{ContainerImage, write_docker_archive, write_oci_layout};
pub use convert::{Converter, Written};
pub use error::OutputError;
pub use format::{Compatibility, DiskFormat, Qcow2Options};
pub use pending::{Pending, write_file};
pub use tar::{TarCompression, write_tar};
