//! Files that an image definition gives to hooks.

use std::path::PathBuf;
use std::sync::Arc;

use crate::oci::Digest;

/// A file or directory of the image definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputFile {
    /// The path. Not part of any key.
    pub path: PathBuf,
    /// The digest of its content and its execute permission.
    pub digest: Digest,
    pub is_executable: bool,
    /// Its bytes, if they were kept. Hooks then see these bytes, even if the file changes.
    pub content: Option<Arc<[u8]>>,
}

impl InputFile {
    /// Returns a digest of a file's bytes and its execute permission.
    pub fn digest(bytes: Digest, is_executable: bool) -> Digest {
        match is_executable {
            true => Digest::of([b"executable ".as_slice(), bytes.bytes()].concat()),
            false => bytes,
        }
    }
}
