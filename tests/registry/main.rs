//! The client of registries against a registry, with a proxy between them that does what networks do. Needs no root.
//!
//! The registry is one in this process; with the feature `system-tests` it is Debian's `docker-registry`, so that the same tests
//! hold both to each other.

#[path = "../common/mod.rs"]
mod common;

mod client;
mod transfer;
