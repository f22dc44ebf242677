//! diskimage-builder's commands as their callers see them: what they print, how they end, which files they leave.
//!
//! Building needs root; the operating system is a tiny element made here, without network.

mod common;

#[path = "dropin/calls.rs"]
mod calls;
#[cfg(feature = "system-tests")]
#[path = "dropin/images.rs"]
mod images;
#[path = "dropin/work.rs"]
mod work;
