//! Tests that need root, loop devices, QEMU, a Docker engine or the network. They are one program,
//! so that they run in parallel and share costly preparations. To run some of them:
//! `cargo test --features system-tests --test system disk::`.

#![cfg(feature = "system-tests")]

#[path = "../common/mod.rs"]
mod common;

mod block_device;
mod boot;
mod boot_loader;
mod build;
mod caches;
mod cloud;
mod container;
mod dib;
mod dib_elements;
mod disk;
mod docs;
mod dropin;
mod dropin_files;
mod dropin_hooks;
mod elements;
mod exchange;
mod failed;
mod host;
mod host_reads;
mod kernels;
mod layers;
mod mounts;
mod normalize;
mod output;
mod packages;
mod planted;
mod privilege;
mod registry;
mod reproducible;
mod robust;
mod rpm;
mod sandbox;
mod shared_cache;
mod stop;
mod store;
mod ubuntu;
