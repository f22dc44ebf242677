//! The command line as a user sees it, where it needs neither root nor network: messages, hints,
//! exit status, and what `plan`, `explain` and `elements` say.

#[path = "../common/mod.rs"]
mod common;

mod elements;
mod images;
mod plan;
mod program;
mod refusals;

/// Returns this machine's architecture as images have it.
fn architecture() -> &'static str {
    std::env::consts::ARCH.parse::<plywood::distro::Architecture>().unwrap().oci().0
}
