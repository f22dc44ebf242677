//! Tests of the registry client against a registry, with a proxy between them that fails as
//! networks do. They need no root.
//!
//! The registry runs in this process. With the feature `system-tests` it is Debian's
//! `docker-registry`, so that the two behave alike.

#[path = "../common/mod.rs"]
mod common;

mod client;
mod transfer;
