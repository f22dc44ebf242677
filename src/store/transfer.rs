//! Blobs and images for uploads to registries.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

use oci_spec::image::ImageManifest;

use super::document::{invalid, parse, parse_digest};
use super::{Images, Store};
use crate::oci::{Digest, RawManifest, descriptor, image_manifest};
use crate::port::{BlobSource, Layer, StoreError};

/// A blob of the store, for an upload.
#[derive(Debug, Clone)]
pub struct StoredBlob {
    store: Store,
    pub digest: Digest,
    pub bytes: u64,
}

impl BlobSource for StoredBlob {
    fn open_at(&self, offset: u64) -> io::Result<Box<dyn Read + '_>> {
        if offset == 0 {
            // Refuses a blob of the wrong size before the upload starts.
            self.store.blobs().open(&self.digest, self.bytes).map_err(io::Error::other)?;
        }
        let mut file = File::open(self.path())?;
        file.seek(SeekFrom::Start(offset))?;
        Ok(Box::new(file))
    }
}

impl StoredBlob {
    fn path(&self) -> PathBuf {
        self.store.layout().blob(&self.digest)
    }
}

/// An image of the store: its manifest and its blobs.
#[derive(Debug, Clone)]
pub struct StoredImage {
    /// The manifest, byte for byte.
    pub manifest: RawManifest,
    /// Config and layers.
    pub blobs: Vec<StoredBlob>,
}

impl Images<'_> {
    /// Returns the image with the name `name` in the index, or `None`.
    ///
    /// # Errors
    /// [`StoreError::MissingBlob`], [`StoreError::Damaged`], [`StoreError::Invalid`].
    pub fn get(&self, name: &str) -> Result<Option<StoredImage>, StoreError> {
        let Some((_, digest)) = self.names()?.into_iter().find(|(known, _)| known == name) else {
            return Ok(None);
        };
        self.image_of(self.store.blobs().get(&digest)?).map(Some)
    }

    /// Returns an image of these layers (lowest first) without a name.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn of_layers(&self, config: &[u8], layers: &[Layer]) -> Result<StoredImage, StoreError> {
        self.store.blobs().put(config)?;
        self.image_of(manifest_of(config, layers))
    }

    fn image_of(&self, manifest: Vec<u8>) -> Result<StoredImage, StoreError> {
        let path = self.store.layout().blob(&Digest::of(&manifest));
        let parsed: ImageManifest = parse(&path, &manifest)?;
        let blobs = [parsed.config()].into_iter().chain(parsed.layers());
        let blobs = blobs.map(|blob| {
            let digest = parse_digest(&path, blob)?;
            Ok(StoredBlob { store: self.store.clone(), digest, bytes: blob.size() })
        });
        let blobs = blobs.collect::<Result<_, StoreError>>()?;
        let manifest = RawManifest::new("application/vnd.oci.image.manifest.v1+json", manifest);
        let manifest = manifest.map_err(|error| invalid(&path, error.to_string()))?;
        Ok(StoredImage { manifest, blobs })
    }

    /// Stores an image of these layers (lowest first) under a name. Returns the digest of its
    /// manifest, which depends only on `config` and `layers`.
    ///
    /// # Errors
    /// [`StoreError::MissingBlob`], [`StoreError::Io`].
    pub fn put_layers(&self, name: &str, config: &[u8], layers: &[Layer]) -> Result<Digest, StoreError> {
        self.store.blobs().put(config)?;
        self.put(name, &manifest_of(config, layers))
    }
}

/// Returns the manifest of an image of these layers, lowest first.
pub(super) fn manifest_of(config: &[u8], layers: &[Layer]) -> Vec<u8> {
    let blobs = layers.iter();
    let blobs = blobs.map(|layer| descriptor(layer.encoding.media_type(), &layer.blob, layer.blob_bytes));
    image_manifest(config, blobs.collect(), &BTreeMap::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_of_an_image_can_be_read_from_any_offset() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let layer = store.blobs().put(b"layer").unwrap();
        store.blobs().put(b"{}").unwrap();
        let manifest = image_manifest(b"{}", vec![descriptor("a/b", &layer, 5)], &BTreeMap::new());
        store.images().put("name", &manifest).unwrap();
        let image = store.images().get("name").unwrap().unwrap();
        assert_eq!(image.manifest.bytes, manifest);
        let sizes: Vec<_> = image.blobs.iter().map(|blob| (blob.digest, blob.bytes)).collect();
        assert_eq!(sizes, [(Digest::of("{}"), 2), (layer, 5)]);
        let read = |offset| io::read_to_string(image.blobs[1].open_at(offset).unwrap());
        assert_eq!((read(0).unwrap(), read(2).unwrap()), ("layer".to_owned(), "yer".to_owned()));
        std::fs::write(store.layout().blob(&layer), "longer").unwrap();
        assert!(image.blobs[1].open_at(0).is_err(), "the size is wrong");
        assert!(store.images().get("other").unwrap().is_none());
    }
}
