//! Tests of the command line without root and network: messages, hints, exit status, and the output
//! of `plan`, `explain` and `elements`.

#[path = "../common/mod.rs"]
mod common;

mod elements;
mod images;
mod plan;
mod program;
mod refusals;

/// Returns the architecture of this machine, as in images.
fn architecture() -> &'static str {
    std::env::consts::ARCH.parse::<plywood::distro::Architecture>().unwrap().oci().0
}
