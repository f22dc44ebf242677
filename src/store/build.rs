//! The last build of each image: its manifest, as an OCI artifact that names the steps of the
//! build.
//!
//! The garbage collector keeps these steps, however old they are.

use std::collections::{BTreeMap, BTreeSet};

use oci_spec::image::ImageManifest;

use super::Store;
use super::artifact::Artifact;
use super::document::parse;
use crate::oci::{DiffId, Digest, parse_diff_ids};
use crate::plan::InputKey;
use crate::port::{Layer, StoreError};

/// Prefix of the names of builds in the index.
pub(super) const PREFIX: &str = "build/";
/// Prefix of the names of the containers of builds in the index.
pub(super) const CONTAINER_PREFIX: &str = "container/";
/// The type of the artifact. Source: OCI image-spec v1.1, `manifest.md`, "Guidelines for Artifact
/// Usage".
const ARTIFACT_TYPE: &str = "application/vnd.plywood.build.v1+json";
/// The annotation that names the steps: their input keys, separated by spaces.
const KEYS: &str = "plywood.input-keys";

/// The last build of each image.
#[derive(Debug, Clone, Copy)]
pub struct Builds<'a> {
    pub(super) store: &'a Store,
}

impl Builds<'_> {
    /// Stores `manifest` (JSON) as the manifest of the last build of `image`, which consists of the
    /// steps with the keys `steps`. Replaces the build before. Returns the digest of the artifact's
    /// manifest.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Invalid`].
    pub fn put(
        &self,
        image: &str,
        manifest: Vec<u8>,
        steps: impl IntoIterator<Item = InputKey>,
    ) -> Result<Digest, StoreError> {
        let keys: Vec<_> = steps.into_iter().map(|key| key.to_string()).collect();
        let artifact = Artifact {
            artifact_type: ARTIFACT_TYPE.to_owned(),
            media_type: "application/json".to_owned(),
            content: manifest,
            annotations: BTreeMap::from([(KEYS.to_owned(), keys.join(" "))]),
        };
        self.store.images().put_artifact(&format!("{PREFIX}{image}"), &artifact)
    }

    /// Returns the manifest (JSON) of the last build of `image`, or `None`.
    ///
    /// # Errors
    /// [`StoreError::MissingBlob`], [`StoreError::Damaged`], [`StoreError::Invalid`].
    pub fn get(&self, image: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.store.images().artifact(&format!("{PREFIX}{image}"))?.map(|artifact| artifact.content))
    }

    /// Returns the name in the index of the last container of `image`.
    pub fn container_name(image: &str) -> String {
        format!("{CONTAINER_PREFIX}{image}")
    }

    /// Stores the container that was built for `image`: its config, and its layers (lowest first)
    /// in these blobs.
    ///
    /// # Errors
    /// [`StoreError::MissingBlob`], [`StoreError::Io`].
    pub fn put_container(&self, image: &str, config: &[u8], layers: &[Layer]) -> Result<Digest, StoreError> {
        self.store.images().put_layers(&Self::container_name(image), config, layers)
    }

    /// Removes the name of the container of `image` unless its lowest layers are `stack`. A
    /// container on other layers belongs to an earlier build.
    ///
    /// # Errors
    /// [`StoreError::Invalid`], [`StoreError::Io`].
    pub fn remove_old_container(&self, image: &str, stack: &[DiffId]) -> Result<(), StoreError> {
        let name = Self::container_name(image);
        let Some(container) = self.store.images().get(&name)? else { return Ok(()) };
        let config =
            container.blobs.first().map(|config| self.store.blobs().get(&config.digest)).transpose()?;
        let diff_ids = config.and_then(|config| parse_diff_ids(&config).ok()).unwrap_or_default();
        if diff_ids.starts_with(stack) { Ok(()) } else { self.store.images().remove(&name) }
    }

    /// Returns the keys of the steps of the last builds of all images.
    pub(super) fn steps(&self) -> Result<BTreeSet<InputKey>, StoreError> {
        let mut keys = BTreeSet::new();
        for (_, digest) in
            self.store.images().names()?.into_iter().filter(|(name, _)| name.starts_with(PREFIX))
        {
            let path = self.store.layout().blob(&digest);
            let manifest: ImageManifest = parse(&path, &self.store.blobs().get(&digest)?)?;
            let annotation = manifest.annotations().as_ref().and_then(|all| all.get(KEYS));
            keys.extend(
                annotation
                    .iter()
                    .flat_map(|text| text.split(' '))
                    .filter_map(|key| key.parse::<InputKey>().ok()),
            );
        }
        Ok(keys)
    }
}
