//! Trees of files, read directory by directory.
//!
//! - A [`Dir`] is an open directory. Entries are reached by its handle and their name, and symbolic
//!   links are not followed. Other processes that rename or replace parts of the tree therefore
//!   cannot lead a walk out of it.
//! - An [`Entry`] is a name in a directory, with its status. It gives access to type, metadata,
//!   attributes and content.
//! - A [`FileRef`] reads and sets metadata and extended attributes, by handle or by name.
//! - [`Links`] finds hard links: further names of a file.
//! - [`remove_tree`] removes a name with everything beneath it.
//!
//! Names are bytes, as in the kernel. A path may be longer than a system call accepts. A walk keeps
//! every directory on the way to the current one open.

mod dir;
mod file_ref;
mod links;
mod names;
mod remove;
mod sparse;
mod status;

pub use dir::{Dir, Entry, MAX_LEVELS, walk};
pub use file_ref::FileRef;
pub use links::Links;
pub use names::{DIRECTORY, names, open_directory, sorted_names, sorted_paths};
pub use remove::{remove_tree, retry};
pub use sparse::{content, has_holes, next_data};
pub use status::{clamped_time, file_id, is_whiteout, kind, meta, timestamps};
