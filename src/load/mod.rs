//! Reads definitions and elements from files.
//!
//! The modules `element`, `distro` and `image` interpret the content. Directories are read in byte
//! order of the names, so that the result depends on the content alone. `staging` writes the files
//! for hooks.

mod apt;
mod base;
mod block_device;
mod catalog;
mod data;
mod definition;
mod element;
mod environment;
mod epoch;
mod error;
mod host;
mod input;
mod key;
mod machine;
mod project;
mod syntax;
mod upstream;

pub use apt::load_apt_sources;
pub use base::{load_base, load_base_names, save_base};
pub use block_device::load_block_devices;
pub use catalog::load_catalog;
pub use data::data_dir;
pub use definition::parse_definition;
pub use environment::{ShellError, expand_line, source_environment};
pub use epoch::{EpochError, load_epoch};
pub use error::{DefinitionError, LoadError};
pub use host::HostFileSystem;
pub use input::load_input_files;
pub use key::{KeyFileError, exposed_key, generate_key, load_key};
pub use machine::{MachineView, load_machine_files};
pub use project::{absolute, element_path, find_project, layer_path, load_project, wrong_setting};
pub use syntax::check_syntax;
pub use upstream::upstream_elements;

/// The file that makes a directory a project.
pub const PROJECT_FILE: &str = "plywood.toml";
