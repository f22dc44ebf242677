//! Files that an image definition gives to hooks.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use crate::oci::{Digest, Hasher};

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

    /// Returns the digest of a directory from the names, kinds and digests of its entries, which
    /// are in byte order of the names. A symlink has the digest of its target.
    pub fn digest_of_directory(entries: &[(OsString, InputKind, Digest)]) -> Digest {
        let mut hasher = Hasher::default();
        for (name, kind, digest) in entries {
            hasher.update(match kind {
                InputKind::Directory => b"d",
                InputKind::File => b"e",
                InputKind::Symlink => b"l",
            });
            // By their digests, which have one length: no two lists of entries give the same bytes.
            hasher.update(Digest::of(name.as_encoded_bytes()).bytes());
            hasher.update(digest.bytes());
        }
        hasher.finish()
    }
}

/// What an entry of a directory that an image definition names is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputKind {
    Directory,
    File,
    Symlink,
}
