//! Tests of the registry client with a registry, and a proxy between them that fails like networks.
//! They need no root.
//!
//! The registry runs in this process. With the feature `system-tests`, the tests use Debian's
//! `docker-registry`, which shows that both behave in the same way.

#[path = "../common/mod.rs"]
mod common;

mod client;
mod transfer;
