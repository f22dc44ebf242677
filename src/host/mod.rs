//! The requirements of a build on its host: one function for each check.
//!
//! ```text
//! facts (read or tried by `probe`) ──► a check ──► Finding: standing, result, cure
//! ```
//!
//! `plywood doctor` shows all findings. `plywood build` stops at the first finding that prevents
//! it, so both print the same texts.

mod container;
mod file_system;
mod finding;
mod installer;
mod kernel;
mod kvm;
mod mirror;
mod rights;
mod tool;
mod trial;

pub use container::{Container, ContainerSigns};
pub use file_system::{FileSystem, StoreFacts, overlay, space, store};
pub use finding::{DoctorDocument, Finding, Standing};
pub use installer::Installer;
pub use kernel::{OLDEST_KERNEL, kernel};
pub use kvm::{KvmTrial, kvm};
pub use mirror::{Endpoint, endpoint, mirror, no_mirrors};
pub use rights::{Rights, privileges};
pub use tool::{OVMF, QEMU_SYSTEM, TOOLS, Tool, docker_engine, tool, tool_named};
pub use trial::{Trial, device_mapper, loop_devices, namespaces};
