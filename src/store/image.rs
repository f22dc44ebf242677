//! Images: manifests with a name in `index.json`.

use std::collections::HashMap;

use oci_spec::image::{
    ANNOTATION_REF_NAME, Descriptor, ImageIndex, ImageIndexBuilder, ImageManifest, MediaType,
};

use super::Store;
use super::document::{name_of, parse, parse_digest};
use super::file::read_if_there;
use crate::oci::{DiffId, Digest, descriptor, parse_diff_ids};
use crate::port::StoreError;

/// The images of a store: manifests with a name in `index.json`. Artifacts, bases and builds are
/// also images.
#[derive(Debug, Clone, Copy)]
pub struct Images<'a> {
    pub(super) store: &'a Store,
}

impl Images<'_> {
    /// Stores the manifest of an image, whose config and layers are already stored, and gives it a
    /// name in the index. Replaces an image of that name. Atomic.
    ///
    /// # Errors
    /// [`StoreError::MissingBlob`] if the store lacks config or layers, [`StoreError::Invalid`] if
    /// `manifest` is not a manifest, [`StoreError::Io`].
    pub fn put(&self, name: &str, manifest: &[u8]) -> Result<Digest, StoreError> {
        let index = self.store.layout().index();
        let parsed: ImageManifest = parse(&index, manifest)?;
        let digest = self.store.blobs().put(manifest)?;
        let media_type = parsed.media_type().clone().unwrap_or(MediaType::ImageManifest);
        let mut named = descriptor(media_type.as_ref(), &digest, manifest.len() as u64);
        named.set_artifact_type(parsed.artifact_type().clone());
        named.set_annotations(Some(HashMap::from([(ANNOTATION_REF_NAME.to_owned(), name.to_owned())])));
        // The index is read under the lock: otherwise a name that another process adds at the same
        // time would be lost.
        let _lock = self.store.lock_exclusive()?;
        // Under the lock, too: a collection could remove a blob between the look and the name.
        for blob in parsed.layers().iter().chain([parsed.config()]) {
            let digest = parse_digest(&index, blob)?;
            if self.store.blobs().size(&digest) != Some(blob.size()) {
                return Err(StoreError::MissingBlob { digest });
            }
        }
        let mut manifests = self.read_index()?.manifests().clone();
        manifests.retain(|manifest| name_of(manifest) != Some(name));
        manifests.push(named);
        self.write_index(manifests)?;
        Ok(digest)
    }

    /// Removes a name from the index. The blobs stay until the next collection.
    ///
    /// # Errors
    /// [`StoreError::DamagedIndex`], [`StoreError::Io`].
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        let _lock = self.store.lock_exclusive()?;
        self.remove_from_index(name)
    }

    /// Removes a name from the index. The caller holds the lock.
    pub(super) fn remove_from_index(&self, name: &str) -> Result<(), StoreError> {
        let mut manifests = self.read_index()?.manifests().clone();
        manifests.retain(|manifest| name_of(manifest) != Some(name));
        self.write_index(manifests)
    }

    /// Returns the names of images and artifacts with the digests of their manifests, sorted by
    /// name.
    ///
    /// # Errors
    /// [`StoreError::DamagedIndex`], [`StoreError::Invalid`] for a digest that is not SHA-256,
    /// [`StoreError::Io`].
    pub fn names(&self) -> Result<Vec<(String, Digest)>, StoreError> {
        let index = self.read_index()?;
        let named = index.manifests().iter().filter_map(|manifest| Some((name_of(manifest)?, manifest)));
        let path = self.store.layout().index();
        named.map(|(name, manifest)| Ok((name.to_owned(), parse_digest(&path, manifest)?))).collect()
    }

    /// Returns the layers of an image by its config, lowest first. Empty if the config is missing
    /// or does not belong to an image.
    pub(super) fn stack(&self, name: &str) -> Result<Vec<DiffId>, StoreError> {
        let Some(image) = self.get(name)? else { return Ok(Vec::new()) };
        let Some(config) = image.blobs.first() else { return Ok(Vec::new()) };
        let config = self.store.blobs().get(&config.digest).ok();
        Ok(config.and_then(|config| parse_diff_ids(&config).ok()).unwrap_or_default())
    }

    pub(super) fn read_index(&self) -> Result<ImageIndex, StoreError> {
        let path = self.store.layout().index();
        serde_json::from_slice(&read_if_there(&path)?.unwrap_or_default())
            .map_err(|error| StoreError::DamagedIndex { path, reason: error.to_string() })
    }

    /// Writes the index. The caller holds the lock.
    pub(super) fn write_index(&self, mut manifests: Vec<Descriptor>) -> Result<(), StoreError> {
        // Sorted, so that equal stores have equal indexes.
        manifests
            .sort_by_key(|manifest| (name_of(manifest).map(str::to_owned), manifest.digest().to_string()));
        let index = ImageIndexBuilder::default().schema_version(2u32).manifests(manifests).build();
        self.store.write_document(&self.store.layout().index(), &index.expect("every required field is set"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::bench::{Bench, date};
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
            store.images().put(name, &image_manifest(config, Vec::new(), &BTreeMap::new())).unwrap()
        };
        let (one, two, other) = (save("a", b"1"), save("a", b"2"), save("b", b"1"));
        assert_eq!(
            (one, store.images().names().unwrap()),
            (other, vec![("a".to_owned(), two), ("b".to_owned(), other)])
        );
        store.images().remove("a").unwrap();
        assert_eq!(store.images().names().unwrap(), [("b".to_owned(), other)]);
    }

    #[test]
    fn an_image_without_its_blobs_is_refused() {
        let (_directory, store) = store();
        let manifest = image_manifest(b"absent", Vec::new(), &BTreeMap::new());
        assert!(matches!(store.images().put("a", &manifest), Err(StoreError::MissingBlob { .. })));
        assert!(matches!(store.images().put("a", b"{}"), Err(StoreError::Invalid { .. })));
    }

    #[test]
    fn several_processes_can_name_images_at_once() {
        let (_directory, store) = store();
        store.blobs().put(b"{}").unwrap();
        let manifest = image_manifest(b"{}", Vec::new(), &BTreeMap::new());
        std::thread::scope(|scope| {
            for name in 0..16 {
                let (store, manifest) = (Store::open(store.path()).unwrap(), &manifest);
                scope.spawn(move || store.images().put(&name.to_string(), manifest).unwrap());
            }
        });
        assert_eq!(store.images().names().unwrap().len(), 16);
    }

    #[test]
    fn a_collection_never_takes_a_blob_of_an_image_that_is_named_meanwhile() {
        let bench = Bench::new();
        let store = &bench.store;
        let is_done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(std::sync::atomic::Ordering::Relaxed) {
                    bench.gc(None, None);
                }
            });
            for number in 0..300 {
                let config = format!("{{\"number\":{number}}}");
                let blob = store.blobs().put(config.as_bytes()).unwrap();
                // As one that an earlier pull has left.
                date(store.layout().blob(&blob), 90);
                let manifest = image_manifest(config.as_bytes(), Vec::new(), &BTreeMap::new());
                if store.images().put("image", &manifest).is_ok() {
                    assert!(store.blobs().size(&blob).is_some(), "{number}");
                }
            }
            is_done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }
}
