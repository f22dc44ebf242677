//! Layers as values: entries, changesets, tar encoding and decoding, and the rules of capture.
//!
//! ```text
//! upper tree ── capture rules ──> normalized tree ── diff against below ──> changeset ── encode ──> tar
//!   (TreeNode)                                                                   (Entry…)
//! ```
//!
//! This module does no I/O of its own: trees are values, and contents are readers.
//!
//! Source: OCI image-spec v1.1, `layer.md`.

mod acl;
mod capture;
mod decode;
mod diff;
mod encode;
mod entry;
mod error;
mod member;
mod number;
mod sparse;
mod tree;
mod xattr;

/// Size of a hole in bytes. Whoever writes a file leaves a hole for this many zeros at a multiple
/// of this size. All writers use the same number, so that a disk of new layers equals a disk of
/// unpacked ones.
pub const HOLE_BYTES: usize = 64 * 1024;

pub use capture::{Action, CaptureRules, Clamp, Rewrite, Times};
pub use decode::{AUFS, Content, Decoder};
pub use diff::{Changeset, LowerDir, diff};
pub use encode::Encoder;
pub use entry::{Encoding, Entry, Kind, Meta, Xattrs};
pub use error::LayerError;
pub(crate) use error::display;
pub(crate) use member::read_full;
pub use tree::{FileId, Opacity, TreeNode};
pub use xattr::is_content;
