//! The index of the steps with which an image was last published. It explains misses, and pruning
//! keeps its steps.

use std::collections::HashMap;

use oci_spec::image::{ImageIndex, ImageIndexBuilder, MediaType};

use super::artifact::ARTIFACT_TYPE;
use crate::oci::{Digest, canonical_json, descriptor};
use crate::plan::StepName;

/// The annotation that names the step of a manifest.
const STEP: &str = "plywood.step";

/// The manifests with which an image was last published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepIndex {
    /// Name of each step and digest of its manifest, lowest first.
    pub steps: Vec<(StepName, Digest)>,
}

impl StepIndex {
    /// Parses an index. Leaves out entries that are not steps.
    ///
    /// # Errors
    /// If `bytes` is not an index.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let index: ImageIndex = serde_json::from_slice(bytes)?;
        let step = |manifest: &oci_spec::image::Descriptor| {
            let name = manifest.annotations().as_ref()?.get(STEP)?;
            Some((name.parse().ok()?, manifest.digest().to_string().parse().ok()?))
        };
        Ok(Self { steps: index.manifests().iter().filter_map(step).collect() })
    }
}

/// Returns the index for these steps, in canonical JSON. Each step is its name and the bytes of its
/// manifest; the lowest comes first.
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
