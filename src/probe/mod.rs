//! Reads and tries the features of the host, as facts for the checks of [`crate::host`].
//!
//! Each function is thin: it asks the kernel, a program or the network once, and judges nothing. No
//! trial leaves anything behind.

mod docker;
mod kvm;
mod machine;
mod mirror;
mod port;
mod store;

pub use docker::docker_engine;
pub use kvm::{kvm, run_guest};
pub use machine::{installer, is_installed, kernel_release, missing_place, namespaces, rights, try_action};
pub use mirror::mirror;
pub use port::{free_port, ssh_answers};
pub use store::store;
