//! Lists images and imported bases, with the images that are built on them.

use std::collections::{BTreeMap, BTreeSet};

use super::Images;
use super::base::BASE_PREFIX;
use super::build::PREFIX;
use super::census::chain;
use crate::oci::{DiffId, Digest};
use crate::port::StoreError;

/// An image of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedImage {
    /// The name in the index.
    pub name: String,
    /// Digest of the manifest.
    pub manifest: Digest,
    /// Bytes of config and layers. Other images may share them.
    pub blob_bytes: u64,
    /// For a base: the images with steps in the store that are built on it.
    pub used_by: BTreeSet<String>,
}

impl Images<'_> {
    /// Returns imported and pulled images and containers of builds, sorted by name.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Invalid`], [`StoreError::MissingBlob`].
    pub fn list(&self) -> Result<Vec<ListedImage>, StoreError> {
        let users = self.users_of_bases()?;
        let named = self.names()?.into_iter().filter(|(name, _)| !name.starts_with(PREFIX));
        let listed = named.map(|(name, manifest)| {
            let blob_bytes =
                self.get(&name)?.map_or(0, |image| image.blobs.iter().map(|blob| blob.bytes).sum());
            // A pulled image or a container may have the layers of a base, but steps need only the
            // name of the base.
            let stack = if name.starts_with(BASE_PREFIX) { self.stack(&name)? } else { Vec::new() };
            let used_by = users.get(&stack).cloned().unwrap_or_default();
            Ok(ListedImage { name, manifest, blob_bytes, used_by })
        });
        listed.collect()
    }

    /// Returns the layers of each base that steps in the store are built on, with the images of
    /// these steps.
    fn users_of_bases(&self) -> Result<BTreeMap<Vec<DiffId>, BTreeSet<String>>, StoreError> {
        let files = self.store.records().files_by_input()?;
        let known: BTreeMap<_, _> = files.iter().map(|(_, record, _)| (record.input_key, record)).collect();
        let mut users: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for record in known.values() {
            let chain = chain(record, &known);
            let base = chain.last().filter(|lowest| lowest.parent.is_none() && !lowest.diff_ids.is_empty());
            if let Some(base) = base {
                users.entry(base.diff_ids.clone()).or_default().insert(record.image.clone());
            }
        }
        Ok(users)
    }
}

#[cfg(test)]
mod tests {
    use super::super::bench::Bench;
    use crate::oci::{DiffId, ImageConfig};
    use crate::plan::Record;

    #[test]
    fn a_base_is_used_by_the_images_built_on_it_and_other_images_with_its_layers_are_not() {
        let bench = Bench::new();
        let save = |record: Record, image: &str| {
            let record = Record { image: image.to_owned(), ..record };
            bench.store.records().put(&record).unwrap();
            record
        };
        let debian = save(bench.step("debian", 10, 0), "web");
        let top = save(bench.step_above(Some(&debian), "top", 10, 0), "web");
        let web =
            [&debian, &top].map(|record| bench.store.layers().get(&record.diff_ids[0]).unwrap().unwrap());
        let diff_ids: Vec<DiffId> = web.iter().map(|layer| layer.diff_id).collect();
        let mut config = ImageConfig::new("amd64", 0).unwrap();
        config.push_step("web", &diff_ids);
        let config = config.to_bytes();
        bench.store.blobs().put(&config).unwrap();
        bench.store.builds().put_container("web", &config, &web).unwrap();
        let base = bench.store.bases().put_layers(&config, &web).unwrap();
        assert!(bench.store.images().list().unwrap().iter().all(|image| image.used_by.is_empty()));

        let base_step = save(Record { diff_ids, ..bench.step("webbase", 10, 0) }, "x");
        // The record has the name of the image for which the step was built first.
        save(bench.step_above(Some(&base_step), "own", 10, 0), "y");
        let used: Vec<_> = bench
            .store
            .images()
            .list()
            .unwrap()
            .into_iter()
            .map(|image| (image.name, image.used_by))
            .collect();
        let users = ["x", "y"].map(str::to_owned).into();
        assert_eq!(
            used,
            [(super::super::Bases::name(&base), users), ("container/web".to_owned(), Default::default())]
        );
    }
}
