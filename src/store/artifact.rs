//! Stores small documents as OCI artifacts, which `ocipkg` assembles.
//!
//! This module writes the blobs and the manifest. It writes the manifest in plywood's canonical
//! JSON form: `ocipkg` keeps annotations in hash maps, so their order, and the digest, would differ
//! each time.
//!
//! Source: OCI image-spec v1.1, `manifest.md`, "Guidelines for Artifact Usage".

use std::collections::{BTreeMap, HashMap};

use anyhow::Context;
use oci_spec::image::{Descriptor, ImageManifest, MediaType};
use ocipkg::image::{Image, ImageBuilder, OciArtifact, OciArtifactBuilder};

use super::document::{invalid, parse};
use super::{Images, Store};
use crate::oci::{Digest, canonical_json};
use crate::port::StoreError;

/// A document that the store keeps under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Artifact {
    /// The purpose of the document, such as `application/vnd.plywood.build.v1`.
    pub artifact_type: String,
    /// The format of the content, such as `application/json`.
    pub media_type: String,
    pub content: Vec<u8>,
    /// Annotations of the manifest, by name.
    pub annotations: BTreeMap<String, String>,
}

impl Images<'_> {
    /// Stores a document as an OCI artifact with the name `name` in the index, and returns the
    /// digest of its manifest. Replaces an image of that name. The document is held in memory.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Invalid`].
    pub(super) fn put_artifact(&self, name: &str, artifact: &Artifact) -> Result<Digest, StoreError> {
        let saved = self.build_artifact(name, artifact).map_err(|error| self.unwrap_error(error))?;
        Ok(saved.manifest)
    }

    /// Returns the document that [`Images::put_artifact`] stored as `name`, or `None`.
    ///
    /// # Errors
    /// [`StoreError::MissingBlob`], [`StoreError::Damaged`], [`StoreError::Invalid`].
    pub(super) fn artifact(&self, name: &str) -> Result<Option<Artifact>, StoreError> {
        let images = self.names()?;
        let Some((_, manifest)) = images.into_iter().find(|(known, _)| known == name) else {
            return Ok(None);
        };
        let stored = StoredArtifact { store: self.store.clone(), name: name.to_owned(), manifest };
        read_artifact(stored).map(Some).map_err(|error| self.unwrap_error(error))
    }

    fn build_artifact(&self, name: &str, artifact: &Artifact) -> anyhow::Result<StoredArtifact> {
        let Artifact { artifact_type, media_type, content, annotations } = artifact;
        let builder = ArtifactBuilder { store: self.store.clone(), name: name.to_owned() };
        let mut builder = OciArtifactBuilder::new(builder, MediaType::from(artifact_type.as_str()))?;
        builder.add_layer(MediaType::from(media_type.as_str()), content, HashMap::new())?;
        for (name, value) in annotations {
            builder.add_annotation(name.clone(), value.clone());
        }
        Ok(builder.build()?.clone())
    }

    /// Extracts plywood's own error from the error of `ocipkg`.
    fn unwrap_error(&self, error: anyhow::Error) -> StoreError {
        error.downcast().unwrap_or_else(|error| invalid(&self.store.layout().index(), format!("{error:#}")))
    }
}

fn read_artifact(stored: StoredArtifact) -> anyhow::Result<Artifact> {
    let mut artifact = OciArtifact::new(stored);
    let manifest = artifact.get_manifest()?;
    let (descriptor, content) = artifact.get_layers()?.into_iter().next().context("the artifact is empty")?;
    Ok(Artifact {
        artifact_type: artifact.artifact_type()?.to_string(),
        media_type: descriptor.media_type().to_string(),
        content,
        annotations: manifest.annotations().clone().unwrap_or_default().into_iter().collect(),
    })
}

/// Gives `ocipkg` access to the store.
struct ArtifactBuilder {
    store: Store,
    name: String,
}

impl ImageBuilder for ArtifactBuilder {
    type Image = StoredArtifact;

    fn add_blob(&mut self, data: &[u8]) -> anyhow::Result<(oci_spec::image::Digest, u64)> {
        let digest = self.store.blobs().put(data)?;
        let bytes = data.len() as u64;
        let described: Descriptor = crate::oci::descriptor("application/octet-stream", &digest, bytes);
        Ok((described.digest().clone(), bytes))
    }

    fn build(self, mut manifest: ImageManifest) -> anyhow::Result<StoredArtifact> {
        manifest.set_media_type(Some(MediaType::ImageManifest));
        let manifest = self.store.images().put(&self.name, &canonical_json(&manifest))?;
        Ok(StoredArtifact { store: self.store, name: self.name, manifest })
    }
}

/// An artifact in the store.
#[derive(Clone)]
struct StoredArtifact {
    store: Store,
    name: String,
    manifest: Digest,
}

impl Image for StoredArtifact {
    fn get_name(&mut self) -> anyhow::Result<ocipkg::ImageName> {
        ocipkg::ImageName::parse(&self.name)
    }

    fn get_blob(&mut self, digest: &oci_spec::image::Digest) -> anyhow::Result<Vec<u8>> {
        Ok(self.store.blobs().get(&digest.to_string().parse()?)?)
    }

    fn get_manifest(&mut self) -> anyhow::Result<ImageManifest> {
        let bytes = self.store.blobs().get(&self.manifest)?;
        Ok(parse(&self.store.layout().blob(&self.manifest), &bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_can_be_read_again_and_its_manifest_is_reproducible() {
        let artifact = Artifact {
            artifact_type: "application/vnd.plywood.build.v1".to_owned(),
            media_type: "application/json".to_owned(),
            content: b"{}".to_vec(),
            annotations: ('a'..='h').map(|name| (name.to_string(), "x".to_owned())).collect(),
        };
        let save = || {
            let directory = tempfile::tempdir().unwrap();
            let store = Store::open(directory.path()).unwrap();
            let digest = store.images().put_artifact("image.manifest", &artifact).unwrap();
            assert_eq!(store.images().artifact("image.manifest").unwrap().as_ref(), Some(&artifact));
            assert_eq!(store.images().artifact("other").unwrap(), None);
            digest
        };
        assert_eq!(save(), save());
    }

    #[test]
    fn a_damaged_document_is_an_error_of_the_store() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let artifact = Artifact {
            artifact_type: "a/b".to_owned(),
            media_type: "a/c".to_owned(),
            content: b"content".to_vec(),
            annotations: BTreeMap::new(),
        };
        store.images().put_artifact("x", &artifact).unwrap();
        std::fs::write(store.layout().blob(&Digest::of("content")), "changed").unwrap();
        assert!(matches!(store.images().artifact("x"), Err(StoreError::Damaged { .. })));
    }
}
