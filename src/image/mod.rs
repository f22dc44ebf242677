//! The user's definitions: `plywood.toml`.
//!
//! The types here define the format. Their doc comments are its reference, and the JSON schema is
//! generated from them. The type of a value checks it, so that every error has a line and column.

mod checksum;
mod date;
mod definition;
mod disk;
mod limits;
mod name;
mod project;
mod registry;
mod sharing;
mod value;

pub use checksum::Checksum;
pub use definition::{
    Compression, ContainerSettings, ImageDefinition, OutputFormat, OutputFormatError, Qcow2Compression,
    Qcow2Settings,
};
pub use disk::DiskSettings;
pub use limits::LimitSettings;
pub use name::{ImageName, ImageNameError};
pub use project::{DEFAULT_EPOCH, EpochRequest, PackageSettings, Project, ProjectSettings};
pub use registry::RegistrySettings;
pub use sharing::{CacheSettings, TrustSettings};
