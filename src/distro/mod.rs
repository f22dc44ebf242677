//! Base definitions: the lowest layer of an image, as `layers/*.toml` describes it.
//!
//! A base stands for a distribution's root file system before any element. It says where that comes from, which
//! names elements may take for granted, and which facts about the distribution they can rely on.

pub mod apt;
mod architecture;
mod base;
mod environment;
mod mirror;
mod name;
mod source;
mod transport;

pub use architecture::{Architecture, ArchitectureError};
pub use base::BaseDefinition;
pub use environment::{
    CA_BUNDLE, CaBundle, HOST_TOOLS, IMAGE_TOOLS, LIBRARY, PRIVATE, TOOLS, base_environment, ca_bundle,
    network_environment, search_path,
};
pub use mirror::{
    AptMachine, Keyring, Mirror, Mirrors, PackageSource, parse_source_lines, parse_source_stanzas,
};
pub use name::{BaseName, BaseNameError};
pub use source::{BaseSource, Mmdebstrap, StoredFile, Variant};
pub use transport::{Setting, is_taken, names_file, parse_acquire, passwords, proxy_detector};
