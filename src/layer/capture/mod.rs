//! The rules that drop or rewrite files when a layer is captured.
//!
//! Two builds of the same inputs differ in a known set of files: identities that machines must not
//! share, logs, caches, backups, journals of tools. [`CaptureRules`] decides by path what happens
//! to each. The rules are pure functions. The store applies them to an upper directory before it
//! computes the changeset.
//!
//! Rules apply to files that a step *wrote*. A removed file stays removed. If the step's version of
//! a file is dropped, the version of the lower layers shows again.

mod keystore;
mod pattern;
mod rewrite;
mod rule;
mod shadow;
mod times;

pub use rewrite::Rewrite;
pub use rule::{Action, CaptureRules};
pub use times::{Clamp, Times};
