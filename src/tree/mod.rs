//! Trees of files, read directory by directory.
//!
//! - A [`Dir`] is an open directory. What is in it is reached by its handle and a name, so that a
//!   tree that others rename, replace or link elsewhere cannot lead out of it. No symbolic link is
//!   followed.
//! - An [`Entry`] is a name in a directory, with its status: type, metadata, attributes, content.
//! - A [`FileRef`] reads and sets metadata and extended attributes, by handle or by name.
//! - [`Links`] finds further names of a file.
//! - [`remove_tree`] removes a name with everything beneath it.
//!
//! Names are bytes, as the kernel has them. A path may be longer than any system call takes. Each
//! directory on the way to the current one is an open file.

mod dir;
mod file_ref;
mod links;
mod names;
mod remove;
mod sparse;
mod status;

pub use dir::{Dir, Entry, walk};
pub use file_ref::FileRef;
pub use links::Links;
pub use names::{DIRECTORY, names, open_directory, sorted_names, sorted_paths};
pub use remove::{remove_tree, retry};
pub use sparse::{content, has_holes, next_data};
pub use status::{file_id, is_whiteout, kind, meta, timestamps};
