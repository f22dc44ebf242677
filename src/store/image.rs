//! Images: manifests with a name in `index.json`, layers in other encodings.

use std::collections::HashMap;

use oci_spec::image::{
    ANNOTATION_REF_NAME, Descriptor, ImageIndex, ImageIndexBuilder, ImageManifest, MediaType,
};

use super::Store;
use super::document::{name_of, parse, parse_digest};
use super::file::read_if_there;
use crate::oci::{Digest, descriptor};
use crate::port::StoreError;

impl Store {
    /// Stores an image's manifest (whose config and layers are stored already) and gives it a name in the index, in
    /// place of the image that had it. Atomic.
    ///
    /// # Errors
    /// [`StoreError::MissingBlob`] if config or layers are not there, [`StoreError::Invalid`] if `manifest` is no
    /// manifest, [`StoreError::Io`].
    pub fn save_image(&self, name: &str, manifest: &[u8]) -> Result<Digest, StoreError> {
        let index = self.layout().index();
        let parsed: ImageManifest = parse(&index, manifest)?;
        for blob in parsed.layers().iter().chain([parsed.config()]) {
            let digest = parse_digest(&index, blob)?;
            if self.blobs().size(&digest) != Some(blob.size()) {
                return Err(StoreError::MissingBlob { digest });
            }
        }
        let digest = self.blobs().put(manifest)?;
        let media_type = parsed.media_type().clone().unwrap_or(MediaType::ImageManifest);
        let mut named = descriptor(media_type.as_ref(), &digest, manifest.len() as u64);
        named.set_artifact_type(parsed.artifact_type().clone());
        named.set_annotations(Some(HashMap::from([(ANNOTATION_REF_NAME.to_owned(), name.to_owned())])));
        // Read under the lock: another process may name an image at the same time.
        let _lock = self.lock_exclusive()?;
        let mut manifests = self.read_index()?.manifests().clone();
        manifests.retain(|manifest| name_of(manifest) != Some(name));
        manifests.push(named);
        self.write_index(manifests)?;
        Ok(digest)
    }

    /// Takes a name out of the index; the blobs stay until they are collected.
    ///
    /// # Errors
    /// [`StoreError::DamagedIndex`], [`StoreError::Io`].
    pub fn remove_image(&self, name: &str) -> Result<(), StoreError> {
        let _lock = self.lock_exclusive()?;
        self.remove_from_index(name)
    }

    /// Takes a name out of the index; the caller holds the lock.
    pub(super) fn remove_from_index(&self, name: &str) -> Result<(), StoreError> {
        let mut manifests = self.read_index()?.manifests().clone();
        manifests.retain(|manifest| name_of(manifest) != Some(name));
        self.write_index(manifests)
    }

    /// Returns the named images (and artifacts) and the digests of their manifests, sorted by name.
    ///
    /// # Errors
    /// [`StoreError::DamagedIndex`], [`StoreError::Invalid`] for a digest that is not SHA-256, [`StoreError::Io`].
    pub fn images(&self) -> Result<Vec<(String, Digest)>, StoreError> {
        let index = self.read_index()?;
        let named = index.manifests().iter().filter_map(|manifest| Some((name_of(manifest)?, manifest)));
        let path = self.layout().index();
        named.map(|(name, manifest)| Ok((name.to_owned(), parse_digest(&path, manifest)?))).collect()
    }

    pub(super) fn read_index(&self) -> Result<ImageIndex, StoreError> {
        let path = self.layout().index();
        serde_json::from_slice(&read_if_there(&path)?.unwrap_or_default())
            .map_err(|error| StoreError::DamagedIndex { path, reason: error.to_string() })
    }

    /// Writes the index; the caller holds the lock.
    pub(super) fn write_index(&self, mut manifests: Vec<Descriptor>) -> Result<(), StoreError> {
        // Sorted, so that equal stores have equal indexes.
        manifests
            .sort_by_key(|manifest| (name_of(manifest).map(str::to_owned), manifest.digest().to_string()));
        let index = ImageIndexBuilder::default().schema_version(2u32).manifests(manifests).build();
        self.write_document(&self.layout().index(), &index.expect("every required field is set"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::oci::image_manifest;

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        (directory, store)
    }

    #[test]
    fn a_name_belongs_to_the_last_image_saved() {
        let (_directory, store) = store();
        let save = |name: &str, config: &[u8]| {
            store.blobs().put(config).unwrap();
            store.save_image(name, &image_manifest(config, Vec::new(), &BTreeMap::new())).unwrap()
        };
        let (one, two, other) = (save("a", b"1"), save("a", b"2"), save("b", b"1"));
        assert_eq!(
            (one, store.images().unwrap()),
            (other, vec![("a".to_owned(), two), ("b".to_owned(), other)])
        );
        store.remove_image("a").unwrap();
        assert_eq!(store.images().unwrap(), [("b".to_owned(), other)]);
    }

    #[test]
    fn an_image_without_its_blobs_is_refused() {
        let (_directory, store) = store();
        let manifest = image_manifest(b"absent", Vec::new(), &BTreeMap::new());
        assert!(matches!(store.save_image("a", &manifest), Err(StoreError::MissingBlob { .. })));
        assert!(matches!(store.save_image("a", b"{}"), Err(StoreError::Invalid { .. })));
    }

    #[test]
    fn many_may_name_images_at_once() {
        let (_directory, store) = store();
        store.blobs().put(b"{}").unwrap();
        let manifest = image_manifest(b"{}", Vec::new(), &BTreeMap::new());
        std::thread::scope(|scope| {
            for name in 0..16 {
                let (store, manifest) = (Store::open(store.path()).unwrap(), &manifest);
                scope.spawn(move || store.save_image(&name.to_string(), manifest).unwrap());
            }
        });
        assert_eq!(store.images().unwrap().len(), 16);
    }
}
