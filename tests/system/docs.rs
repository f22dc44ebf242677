//! Follows the how-to pages command by command.

mod tutorial;

use std::fs;

use crate::common::project::copy_tree;
use crate::common::reader::Reader;
use crate::common::work::Work;

#[test]
fn debug_a_hook() {
    Reader::with_small_base().follow("docs/how-to/debug.md");
}

#[test]
fn size_and_grow_a_disk() {
    Reader::with_small_base().follow("docs/how-to/disk-size.md");
}

#[test]
fn passwords_and_tokens() {
    Reader::with_small_base().with_registry().follow("docs/how-to/secrets.md");
}

#[test]
fn a_cache_for_ci() {
    Reader::with_small_base().with_registry().follow("docs/how-to/ci-cache.md");
}

#[test]
fn from_packer() {
    Reader::with_small_base().follow("docs/how-to/packer.md");
}

#[test]
fn from_a_dockerfile() {
    Reader::with_debian().with_registry().follow("docs/how-to/dockerfile.md");
}

/// diskimage-builder's `debian-minimal` takes minutes and is tested in `dib_elements`. Here its
/// name stands for an operating system with little more than a shell.
fn with_debian_minimal() -> Reader {
    let reader = Reader::with_small_base();
    let (work, elements) = (Work::new(), reader.project.path().join("elements"));
    fs::create_dir_all(&elements).unwrap();
    copy_tree(&work.path().join("../elements/tiny"), &elements.join("debian-minimal"));
    // The command line adds `base`, which wants to install packages.
    fs::create_dir(elements.join("base")).unwrap();
    reader
}

#[test]
fn from_disk_image_create() {
    with_debian_minimal().follow("docs/how-to/disk-image-create.md");
}

#[test]
fn nodepool() {
    with_debian_minimal().follow("docs/how-to/nodepool.md");
}
