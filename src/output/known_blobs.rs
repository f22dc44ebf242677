//! Remembers the states of the blobs in OCI image layouts that plywood wrote.
//!
//! Hashing the blobs of the last layout is most of what replacing an unchanged one costs. So the
//! state of each blob is noted in the store when the layout is in place, in one file for each
//! layout:
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

/// The noted states, in a directory of their own.
#[derive(Debug, Clone)]
pub struct KnownBlobs {
    directory: PathBuf,
}

impl KnownBlobs {
    /// Keeps states in this directory.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Returns the blobs of the layout at `target`.
    pub(super) fn load(&self, target: &Destination) -> Verified {
        file_name(target).map(|name| Verified::read(&self.directory.join(name))).unwrap_or_default()
    }

    /// Notes the blobs of the layout at `target`, in place of those that it had before.
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
