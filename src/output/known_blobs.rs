//! Remembers the states of the blobs in OCI image layouts that plywood wrote.
//!
//! Most of the time for replacing an unchanged layout would be spent on hashing the blobs of the
//! old one. Therefore, when a layout is in place, the state of each blob is recorded in the store,
//! in one file for each layout:
//!
//! ```text
//! <SHA-256 of the path of the layout>
//! ```

use std::path::PathBuf;

use super::destination::Destination;
use super::error::{OutputError, io_error};
use super::pending::write_file;
use crate::directory::{Directory, Verified};
use crate::oci::Digest;

/// A directory with the recorded states.
#[derive(Debug, Clone)]
pub struct KnownBlobs {
    directory: PathBuf,
}

impl KnownBlobs {
    /// Records states in this directory.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Returns the recorded blobs of the layout at `target`.
    pub(super) fn load(&self, target: &Destination) -> Verified {
        file_name(target).map(|name| Verified::read(&self.directory.join(name))).unwrap_or_default()
    }

    /// Records the blobs of the layout at `target`. Replaces the earlier record.
    pub(super) fn save(&self, target: &Destination, blobs: &Verified) -> Result<(), OutputError> {
        let directory =
            Directory::open(&self.directory).map_err(io_error("open directory", &self.directory))?;
        write_file(&directory, file_name(target)?.as_ref(), blobs.to_text().as_bytes())
    }
}

fn file_name(target: &Destination) -> Result<String, OutputError> {
    let directory = target.directory.resolve().map_err(io_error("resolve", target.directory.path()))?;
    Ok(Digest::of(directory.join(&target.file).as_os_str().as_encoded_bytes()).hex())
}
