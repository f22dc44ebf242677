//! Layers as values: entries, changesets, tar encoding and decoding, and what is masked at capture.

mod capture;
mod entry;
mod error;

pub use capture::CaptureRules;
pub use entry::{Encoding, Entry, Kind};
pub use error::LayerError;
