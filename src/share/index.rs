//! The steps that an image was last published with: what a miss is explained by, and what pruning spares.

use std::collections::HashMap;

use oci_spec::image::{ImageIndex, ImageIndexBuilder, MediaType};

use super::artifact::ARTIFACT_TYPE;
use crate::oci::{Digest, canonical_json, descriptor};
use crate::plan::StepName;

/// The annotation that names the step of a manifest.
const STEP: &str = "plywood.step";

/// Which manifests an image was last published with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepIndex {
    /// The name of each step and the digest of its manifest, lowest first.
    pub steps: Vec<(StepName, Digest)>,
}

impl StepIndex {
    /// Reads an index. Entries that are not steps are left out.
    ///
    /// # Errors
    /// The reason, if it is no index.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let index: ImageIndex = serde_json::from_slice(bytes)?;
        let step = |manifest: &oci_spec::image::Descriptor| {
            let name = manifest.annotations().as_ref()?.get(STEP)?;
            Some((name.parse().ok()?, manifest.digest().to_string().parse().ok()?))
        };
        Ok(Self { steps: index.manifests().iter().filter_map(step).collect() })
    }
}

/// Returns the index of the manifests that an image is published with: name of the step and bytes of the manifest, lowest
/// first. In canonical JSON.
pub fn image_index<'a>(steps: impl IntoIterator<Item = (&'a StepName, &'a [u8])>) -> Vec<u8> {
    let manifests = steps.into_iter().map(|(name, manifest)| {
        let media_type = MediaType::ImageManifest.to_string();
        let mut described = descriptor(&media_type, &Digest::of(manifest), manifest.len() as u64);
        described.set_artifact_type(Some(MediaType::from(ARTIFACT_TYPE)));
        described.set_annotations(Some(HashMap::from([(STEP.to_owned(), name.to_string())])));
        described
    });
    let index = ImageIndexBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageIndex)
        .manifests(manifests.collect::<Vec<_>>());
    canonical_json(&index.build().expect("every required field is set"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_names_its_steps_in_order() {
        let (base, web) = ("base:x".parse().unwrap(), "web".parse().unwrap());
        let index = image_index([(&base, b"1".as_slice()), (&web, b"2")]);
        let steps = StepIndex::parse(&index).unwrap().steps;
        assert_eq!(steps, [(base, Digest::of("1")), (web, Digest::of("2"))]);
        assert!(StepIndex::parse(b"<html>").is_err());
    }
}
