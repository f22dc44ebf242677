//! Base definitions: the lowest layer of an image, as `layers/*.toml` describes it.
//!
//! A base is a distribution's root file system without elements. Its definition gives the source of
//! the root file system, the element names that it provides, and the facts about the distribution
//! that elements rely on.

pub mod apt;
mod architecture;
mod base;
pub mod dnf;
mod environment;
mod manager;
mod mirror;
mod name;
mod os_release;
mod source;
mod transport;

pub use architecture::{Architecture, ArchitectureError};
pub use base::BaseDefinition;
pub use environment::{
    CA_BUNDLE, CaBundle, HOST_TOOLS, IMAGE_TOOLS, LIBRARY, PRIVATE, TOOLS, base_environment, ca_bundle,
    network_environment, search_path,
};
pub use manager::PackageManager;
pub use mirror::{
    AptMachine, Keyring, Mirror, Mirrors, NamedMirrors, PackageSource, parse_source_lines,
    parse_source_stanzas,
};
pub use name::{BaseName, BaseNameError};
pub use os_release::OsRelease;
pub use source::{BaseSource, Dnf, Mmdebstrap, Repository, StoredFile, Variant};
pub use transport::{Setting, is_taken, names_file, parse_acquire, passwords, proxy_detector};
