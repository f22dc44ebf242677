//! Layers: archives with a DiffID, each in one or more blobs.

use std::collections::BTreeMap;
use std::io::Read;

use super::census::{KnownLayer, list_files, used};
use super::document::verify_diff_id;
use super::file::{failed, mark_used, remove_if_there};
use super::stored_layer::{LayerBlob, StoredLayer};
use super::{Store, encoding};
use crate::layer::{Encoding, LayerError};
use crate::oci::{DiffId, HashingReader};
use crate::port::{Blob, Layer, LayerBlobs, StoreError};

/// The layers of a store.
#[derive(Debug, Clone, Copy)]
pub struct Layers<'a> {
    pub(super) store: &'a Store,
}

impl Layers<'_> {
    /// Returns a layer with its blob that decodes fastest; `None` if the store has none of its
    /// blobs.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn get(&self, diff_id: &DiffId) -> Result<Option<Layer>, StoreError> {
        let Some(stored) = self.stored(diff_id)? else { return Ok(None) };
        let speed = |blob: &&LayerBlob| match blob.encoding {
            Encoding::None => 0,
            Encoding::Zstd => 1,
            Encoding::Gzip => 2,
        };
        let there = stored.blobs.iter().filter(|blob| self.has(blob));
        Ok(there.min_by_key(speed).map(|blob| stored.with(blob)))
    }

    /// Returns a layer as [`Layers::get`].
    ///
    /// # Errors
    /// [`StoreError::MissingLayer`] if the store has none of its blobs; [`StoreError::Io`].
    pub fn require(&self, diff_id: &DiffId) -> Result<Layer, StoreError> {
        self.get(diff_id)?.ok_or(StoreError::MissingLayer { diff_id: *diff_id })
    }

    /// Returns the layer if the store has it in exactly this blob. For a known blob, only the size
    /// is verified. A blob that was pulled and never read is read and verified first.
    ///
    /// # Errors
    /// [`StoreError::WrongLayer`], [`StoreError::Layer`] if the blob holds something else;
    /// [`StoreError::Io`].
    pub fn find(&self, diff_id: &DiffId, blob: &Blob) -> Result<Option<Layer>, StoreError> {
        // Marked before the look-up, like the blob, so that a collection in between keeps both.
        mark_used(&self.store.layout().layer(diff_id));
        if !self.store.blobs().contains(blob) {
            return Ok(None);
        }
        let stored = self.stored(diff_id)?;
        let known = |stored: StoredLayer| {
            let known = stored.blobs.iter().find(|known| known.digest == blob.digest)?;
            Some(stored.with(known))
        };
        stored.and_then(known).map_or_else(|| self.look_into(diff_id, blob), |layer| Ok(Some(layer)))
    }

    /// Records that a blob of the store holds a layer, besides its known blobs.
    pub(super) fn put(&self, layer: &Layer) -> Result<(), StoreError> {
        let Layer { diff_id, tar_bytes, entries, blob, blob_bytes, encoding } = *layer;
        // The lock is held from reading to writing. Otherwise, if two processes add blobs of
        // different encodings, each would write a list without the blob of the other.
        let _lock = self.store.lock_exclusive()?;
        let known = self.stored(&diff_id)?.map_or_else(Vec::new, |stored| stored.blobs);
        let mut blobs: Vec<_> = known.into_iter().filter(|known| known.encoding != encoding).collect();
        blobs.push(LayerBlob { encoding, digest: blob, bytes: blob_bytes });
        blobs.sort();
        let stored = StoredLayer { diff_id, tar_bytes, entries, blobs };
        self.store.write_document(&self.store.layout().layer(&diff_id), &stored)
    }

    /// Removes a layer that could not be unpacked. Its blobs stay until the next collection.
    pub(super) fn remove(&self, diff_id: &DiffId) -> Result<(), StoreError> {
        // After an interrupt, unpacking has failed although the layer may be good.
        if self.store.interrupt().check().is_err() {
            return Ok(());
        }
        // Exclusive: otherwise a process that adds a blob at the same time would write the document
        // again.
        let _lock = self.store.lock_exclusive()?;
        remove_if_there(&self.store.layout().layer(diff_id))
    }

    /// Returns all layers with their last uses and sizes.
    pub(super) fn list(&self) -> Result<BTreeMap<DiffId, KnownLayer>, StoreError> {
        let (mut layers, mut unpacked) = (BTreeMap::new(), BTreeMap::new());
        for snapshot in self.store.snapshots().list()? {
            *unpacked.entry(snapshot.diff_id).or_default() += 1;
        }
        for path in list_files(&self.store.layout().layers())? {
            if let Some(stored) = self.store.read_document::<StoredLayer>(&path)? {
                let unpacked = unpacked.get(&stored.diff_id).copied().unwrap_or_default();
                layers.insert(stored.diff_id, KnownLayer { stored, used: used(&path), unpacked });
            }
        }
        Ok(layers)
    }

    /// Opens the archive that a layer's blob holds.
    pub(super) fn archive(&self, layer: &Layer) -> Result<Box<dyn Read>, StoreError> {
        let blob = self.store.blobs().open(&layer.blob, layer.blob_bytes)?;
        let archive = encoding::decoder(layer.encoding, blob).map_err(LayerError::Read)?;
        // Around the decoder, not the blob: a small blob may decode to hours of zeros.
        Ok(Box::new(self.store.interrupt().reader(archive)))
    }

    fn stored(&self, diff_id: &DiffId) -> Result<Option<StoredLayer>, StoreError> {
        let path = self.store.layout().layer(diff_id);
        Ok(self.store.read_document(&path)?.filter(|layer: &StoredLayer| layer.diff_id == *diff_id))
    }

    fn has(&self, blob: &LayerBlob) -> bool {
        self.store.blobs().size(&blob.digest) == Some(blob.bytes)
    }

    fn encode_again(&self, layer: &Layer, encoding: Encoding) -> Result<Layer, StoreError> {
        let mut archive = HashingReader::new(self.archive(layer)?);
        let writer = self.store.blobs().writer()?;
        let path = writer.path().to_owned();
        let writer = encoding::encode(encoding, &mut archive, writer).map_err(failed("write", &path))?;
        // Before the blob gets its name: otherwise a damaged source would become a valid blob of
        // another layer.
        verify_diff_id(&layer.diff_id, archive.finish().0)?;
        let (blob, blob_bytes) = writer.finish()?;
        Ok(Layer { blob, blob_bytes, encoding, ..layer.clone() })
    }
}

impl LayerBlobs for Layers<'_> {
    fn encoded(&self, diff_id: &DiffId, encoding: Encoding) -> Result<Layer, StoreError> {
        let held = self.held(diff_id, encoding)?;
        if held.encoding == encoding {
            return Ok(held);
        }
        let layer = self.encode_again(&held, encoding)?;
        self.put(&layer)?;
        Ok(layer)
    }

    fn held(&self, diff_id: &DiffId, preferred: Encoding) -> Result<Layer, StoreError> {
        let stored = self.stored(diff_id)?.ok_or(StoreError::MissingLayer { diff_id: *diff_id })?;
        let there = stored.blobs.iter().find(|blob| blob.encoding == preferred && self.has(blob));
        there.map_or_else(|| self.require(diff_id), |blob| Ok(stored.with(blob)))
    }

    fn open(&self, layer: &Layer) -> Result<Box<dyn Read + '_>, StoreError> {
        Ok(Box::new(self.store.blobs().open(&layer.blob, layer.blob_bytes)?))
    }

    fn open_archive(&self, diff_id: &DiffId) -> Result<(u64, Box<dyn Read + '_>), StoreError> {
        let layer = self.require(diff_id)?;
        Ok((layer.tar_bytes, self.archive(&layer)?))
    }
}
