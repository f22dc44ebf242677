//! Errors of layers.

use std::io;

/// A layer that cannot be encoded, decoded or applied.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A real file has a name that the format reserves for whiteouts.
    #[error("`{path}` starts with `.wh.`, which the layer format reserves for removals")]
    ReservedName { path: String },
    /// A path of the archive leads out of the root or cannot be a path at all.
    #[error("archive member `{path}` {problem}")]
    BadPath {
        /// The path in the archive, with U+FFFD for bytes that are not UTF-8.
        path: String,
        /// The fault, as the rest of a sentence that begins with the path.
        problem: &'static str,
    },
    /// A member that no layer may hold.
    #[error("archive member `{path}` is {what}, which a layer cannot hold")]
    Unsupported { path: String, what: String },
    /// A number of a member's header cannot be read or does not fit.
    #[error("archive member `{path}` has an invalid {field}")]
    BadHeader { path: String, field: &'static str, source: io::Error },
    /// The archive cannot be read further.
    #[error("cannot read the layer archive")]
    Read(#[source] io::Error),
    /// The archive cannot be written further.
    #[error("cannot write `{path}` into the layer archive")]
    Write { path: String, source: io::Error },
    /// An entry cannot be made in a directory.
    #[error("cannot unpack `{path}`")]
    Apply { path: String, source: io::Error },
    /// A file became shorter or longer while it was read.
    #[error("`{path}` changed while it was read: expected {expected} bytes, found {found}")]
    SizeChanged {
        path: String,
        /// The size when it was listed.
        expected: u64,
        /// The size when it was read; one more than `expected` for any longer file.
        found: u64,
    },
}

/// Formats a path for messages; the root is `/`.
pub(crate) fn display(path: &[u8]) -> String {
    if path.is_empty() { "/".to_owned() } else { String::from_utf8_lossy(path).into_owned() }
}
