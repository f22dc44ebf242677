//! What is left out and rewritten when a layer is captured.
//!
//! Two builds of the same inputs differ in a known set of files: identities that must not be shared, logs, caches,
//! backups, journals of tools. [`CaptureRules`] says by path what becomes of each: pure functions, which the
//! store applies to an upper directory before it computes the changeset.
//!
//! Rules look at what a step *wrote*. A removed file stays removed; a file of a lower layer is seen through
//! where the step's own version is dropped.

mod keystore;
mod pattern;
mod rewrite;
mod rule;
mod shadow;

pub use rewrite::{Rewrite, Times};
pub use rule::{Action, CaptureRules};
