//! What was built last for each image: its manifest, as an OCI artifact, with the steps that it was made of.
//!
//! The steps are what the garbage collector keeps, however long ago the build was.

use std::collections::{BTreeMap, BTreeSet};

use oci_spec::image::ImageManifest;

use super::import::parse;
use super::{Artifact, Store};
use crate::oci::Digest;
use crate::plan::InputKey;
use crate::port::StoreError;

/// Where the index has builds.
const PREFIX: &str = "build/";
/// What the artifact is. Source: OCI image-spec v1.1, `manifest.md`, "Guidelines for Artifact Usage".
const ARTIFACT_TYPE: &str = "application/vnd.plywood.build.v1+json";
/// The annotation that names the steps: their input keys, separated by spaces.
const KEYS: &str = "plywood.input-keys";

impl Store {
    /// Keeps `manifest` (JSON) as that of the last build of `image`, made of the steps with the keys `steps`, in place of
    /// the build before; returns the digest of the artifact's manifest.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Invalid`].
    pub fn save_build(
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
        self.save_artifact(&format!("{PREFIX}{image}"), &artifact)
    }

    /// Returns the keys of the steps that the last builds of all images were made of.
    pub(super) fn last_built(&self) -> Result<BTreeSet<InputKey>, StoreError> {
        let mut keys = BTreeSet::new();
        for (_, digest) in self.images()?.into_iter().filter(|(name, _)| name.starts_with(PREFIX)) {
            let path = self.layout().blob(&digest);
            let manifest: ImageManifest = parse(&path, &self.read_blob(&digest)?)?;
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
