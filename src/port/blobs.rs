//! The bytes of layers, for outputs and uploads.

use std::io::{self, Read};

use super::{Layer, StoreError};
use crate::layer::Encoding;
use crate::oci::DiffId;

/// Gives access to layers in the encoding that a reader wants.
pub trait LayerBlobs: Sync {
    /// Returns the layer with a blob of this encoding. Creates and keeps the blob if it is missing.
    fn encoded(&self, diff_id: &DiffId, encoding: Encoding) -> Result<Layer, StoreError>;

    /// Returns the layer with an existing blob, preferably of this encoding. Creates no blob.
    fn held(&self, diff_id: &DiffId, preferred: Encoding) -> Result<Layer, StoreError>;

    /// Opens the blob of a layer. The read at its end fails if the bytes do not have the blob's
    /// digest.
    fn open(&self, layer: &Layer) -> Result<Box<dyn Read + '_>, StoreError>;

    /// Opens the uncompressed archive of a layer, and returns its size in bytes. The read at its
    /// end fails if the blob that it is decoded from is damaged.
    fn open_archive(&self, diff_id: &DiffId) -> Result<(u64, Box<dyn Read + '_>), StoreError>;
}

/// Opens the bytes of one blob, repeatedly: an upload may have to start again.
pub trait BlobSource: Sync {
    /// Opens the bytes from `offset` on. They need not be verified here, because uploads hash the
    /// bytes that they send.
    fn open_at(&self, offset: u64) -> io::Result<Box<dyn Read + '_>>;
}

impl BlobSource for &[u8] {
    fn open_at(&self, offset: u64) -> io::Result<Box<dyn Read + '_>> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        Ok(Box::new(&self[start..]))
    }
}
