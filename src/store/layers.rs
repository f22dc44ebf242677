//! What is known about layers.

use serde::{Deserialize, Serialize};

use super::Store;
use super::file::remove_if_there;
use crate::layer::Encoding;
use crate::oci::{DiffId, Digest};
use crate::port::{Layer, StoreError};

/// A layer and the blobs that hold it, one an encoding: `layers/<DiffID>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredLayer {
    pub diff_id: DiffId,
    pub tar_bytes: u64,
    pub entries: u64,
    /// Sorted by encoding.
    pub blobs: Vec<StoredBlob>,
}

/// One blob of a layer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredBlob {
    pub encoding: Encoding,
    pub digest: Digest,
    pub bytes: u64,
}

impl StoredLayer {
    /// Describes the layer by one of its blobs.
    pub(super) fn with(&self, blob: &StoredBlob) -> Layer {
        let StoredBlob { encoding, digest, bytes } = blob.clone();
        let Self { diff_id, tar_bytes, entries, blobs: _ } = *self;
        Layer { diff_id, tar_bytes, entries, blob: digest, blob_bytes: bytes, encoding }
    }
}

impl Store {
    /// Returns a layer by the blob that is decoded fastest, or `None` if the store has none of its blobs.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn layer(&self, diff_id: &DiffId) -> Result<Option<Layer>, StoreError> {
        let Some(stored) = self.stored_layer(diff_id)? else { return Ok(None) };
        let speed = |blob: &&StoredBlob| match blob.encoding {
            Encoding::None => 0,
            Encoding::Zstd => 1,
            Encoding::Gzip => 2,
        };
        let there = stored.blobs.iter().filter(|blob| self.blobs().size(&blob.digest) == Some(blob.bytes));
        Ok(there.min_by_key(speed).map(|blob| stored.with(blob)))
    }

    /// Remembers that a blob holds a layer, beside those known already.
    pub(super) fn add_layer(&self, layer: &Layer) -> Result<(), StoreError> {
        let Layer { diff_id, tar_bytes, entries, blob, blob_bytes, encoding } = *layer;
        let _lock = self.lock_exclusive()?;
        // Read under the lock: another process may add a blob of another encoding at the same time.
        let known = self.stored_layer(&diff_id)?.map_or_else(Vec::new, |stored| stored.blobs);
        let mut blobs: Vec<_> = known.into_iter().filter(|known| known.encoding != encoding).collect();
        blobs.push(StoredBlob { encoding, digest: blob, bytes: blob_bytes });
        blobs.sort();
        self.write_document(
            &self.layout().layer(&diff_id),
            &StoredLayer { diff_id, tar_bytes, entries, blobs },
        )
    }

    /// Takes a layer out of use that could not be unpacked. Its blobs stay until the next collection.
    pub(super) fn forget_layer(&self, diff_id: &DiffId) -> Result<(), StoreError> {
        // The user has stopped the unpacking, and the layer may be right.
        if self.interrupt().check().is_err() {
            return Ok(());
        }
        let _lock = self.lock_exclusive()?;
        remove_if_there(&self.layout().layer(diff_id))
    }

    pub(super) fn stored_layer(&self, diff_id: &DiffId) -> Result<Option<StoredLayer>, StoreError> {
        let path = self.layout().layer(diff_id);
        Ok(self.read_document(&path)?.filter(|layer: &StoredLayer| layer.diff_id == *diff_id))
    }
}
