//! Base definitions: the lowest layer of an image, as `layers/*.toml` describes it.
//!
//! A base stands for a distribution's root file system before any element. It says where that comes from, which
//! names elements may take for granted, and which facts about the distribution they can rely on.

mod architecture;
mod base;
mod environment;
mod name;
mod source;

pub use architecture::{Architecture, ArchitectureError};
pub use base::BaseDefinition;
pub use environment::{PRIVATE, TOOLS, base_environment};
pub use name::{BaseName, BaseNameError};
pub use source::{BaseSource, Mmdebstrap, StoredFile, Variant};
