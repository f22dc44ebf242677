//! Lists images and imported bases, with the images that are built on them.

use std::collections::{BTreeMap, BTreeSet};

use super::Store;
use super::build::{CONTAINER_PREFIX, PREFIX};
use super::census::chain;
use crate::oci::{DiffId, Digest};
use crate::port::StoreError;

/// An image of the store, as it is listed for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedImage {
    /// Its name in the index.
    pub name: String,
    /// Digest of its manifest.
    pub manifest: Digest,
    /// Bytes of its config and layers; other images may share them.
    pub blob_bytes: u64,
    /// Images with a step in the store that is built on all of its layers.
    pub used_by: BTreeSet<String>,
}

impl Store {
    /// Returns the images that were imported, pulled or made as containers, sorted by name.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Invalid`], [`StoreError::MissingBlob`].
    pub fn list_images(&self) -> Result<Vec<ListedImage>, StoreError> {
        let stacks = self.record_stacks()?;
        let named = self.images()?.into_iter().filter(|(name, _)| !name.starts_with(PREFIX));
        let listed = named.map(|(name, manifest)| {
            let stack = self.stack_of(&name)?;
            let blob_bytes =
                self.image(&name)?.map_or(0, |image| image.blobs.iter().map(|blob| blob.bytes).sum());
            let is_base = |built: &[DiffId]| !stack.is_empty() && built.starts_with(&stack);
            let used_by = stacks.iter().filter(|(built, _)| is_base(built)).map(|(_, image)| image.clone());
            // The steps that a container was made of have its layers, but are not built on it.
            let own = name.strip_prefix(CONTAINER_PREFIX);
            let used_by = used_by.filter(|image| own != Some(image)).collect();
            Ok(ListedImage { name, manifest, blob_bytes, used_by })
        });
        listed.collect()
    }

    /// Returns the stacks of all records with the image that each was made for.
    fn record_stacks(&self) -> Result<Vec<(Vec<DiffId>, String)>, StoreError> {
        let files = self.record_files(&self.layout().input_records())?;
        let known: BTreeMap<_, _> = files.iter().map(|(_, record, _)| (record.input_key, record)).collect();
        let stack = |record| {
            let records = chain(record, &known);
            records.iter().rev().flat_map(|record| record.diff_ids.iter().copied()).collect()
        };
        Ok(known.values().map(|record| (stack(record), record.image.clone())).collect())
    }
}
