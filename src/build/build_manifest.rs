//! What an image is made of: the file `<image>.manifest.json` beside its outputs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BuiltStep, Package};
use crate::oci::{ChainId, DiffId, Digest};
use crate::plan::{InputKey, Plan, StepName};

/// The form of the manifest. It goes up when something in it changes its meaning or vanishes, or
/// packages are listed otherwise: builds take the list over from an earlier manifest.
const VERSION: u32 = 1;

/// The manifest of an image. Depends on the image's content alone: no times, no paths, nothing of
/// how it was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct BuildManifest {
    /// The form of this document: 1. Fields may be added without a new version.
    #[serde(default)]
    pub version: u32,
    /// The image's name.
    pub image: String,
    /// In Debian's terms.
    pub architecture: String,
    /// Latest modification time in any layer, in seconds since 1970.
    pub source_date_epoch: i64,
    /// The identity of the stack of layers.
    pub chain_id: Option<ChainId>,
    /// The layers that every output is made of, lowest first.
    pub layers: Vec<LayerEntry>,
    /// The installed packages, with the source packages they were built from.
    pub packages: Vec<Package>,
    /// The existing files and directories that consist of these layers.
    pub outputs: Vec<OutputEntry>,
    /// Outputs of earlier builds that are still beside the manifest and consist of other layers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stale_outputs: Vec<OutputEntry>,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct LayerEntry {
    /// The step that made it: an element's name, or `base:…`, `image:packages`, `image:late`.
    pub step: StepName,
    /// The key of that step.
    pub input_key: InputKey,
    /// The layer's identity.
    pub diff_id: DiffId,
}

/// One output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct OutputEntry {
    /// Its format.
    pub format: String,
    /// Its name, beside the manifest.
    pub file: String,
    /// The digest of the file; of the image manifest in an OCI layout.
    pub digest: Digest,
    /// Its size in bytes.
    pub bytes: u64,
    /// The layers it consists of: those of the image, and for a container whose final stage changed
    /// something, one more.
    pub diff_ids: Vec<DiffId>,
}

impl BuildManifest {
    /// Makes the manifest of an image without outputs.
    pub fn new(plan: &Plan, steps: &[BuiltStep], packages: Vec<Package>) -> Self {
        let layers: Vec<_> = steps.iter().flat_map(layer_entries).collect();
        let stack: Vec<_> = layers.iter().map(|layer| layer.diff_id).collect();
        Self {
            version: VERSION,
            image: plan.image.clone(),
            architecture: plan.architecture.debian().to_owned(),
            source_date_epoch: plan.source_date_epoch,
            chain_id: ChainId::of(&stack),
            layers,
            packages,
            outputs: Vec::new(),
            stale_outputs: Vec::new(),
        }
    }

    /// Returns the packages that a manifest (JSON) lists, if it is one of the layers `stack`.
    pub fn packages_of(document: &[u8], stack: &[DiffId]) -> Option<Vec<Package>> {
        let manifest: Self = serde_json::from_slice(document).ok()?;
        let is_same = manifest.version == VERSION && manifest.chain_id == ChainId::of(stack);
        (is_same && !stack.is_empty()).then_some(manifest.packages)
    }

    /// Adds those outputs of the earlier manifest that still exist. Outputs of the same layers are
    /// outputs of this image. Others are stale.
    pub fn take_over(&mut self, earlier: BuildManifest, is_there: impl Fn(&OutputEntry) -> bool) {
        let is_same = (&earlier.image, &earlier.layers) == (&self.image, &self.layers);
        let written: Vec<_> = self.outputs.iter().map(|output| output.file.clone()).collect();
        let is_left = |output: &OutputEntry| !written.contains(&output.file) && is_there(output);
        let (current, stale) = match is_same {
            true => (earlier.outputs, earlier.stale_outputs),
            false => (Vec::new(), [earlier.outputs, earlier.stale_outputs].concat()),
        };
        self.outputs.extend(current.into_iter().filter(is_left));
        self.stale_outputs.extend(stale.into_iter().filter(is_left));
    }

    /// Returns the layers, lowest first.
    pub fn stack(&self) -> Vec<DiffId> {
        self.layers.iter().map(|layer| layer.diff_id).collect()
    }
}

fn layer_entries(step: &BuiltStep) -> impl Iterator<Item = LayerEntry> {
    step.diff_ids.iter().map(|diff_id| LayerEntry {
        step: step.name.clone(),
        input_key: step.input_key,
        diff_id: *diff_id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(file: &str) -> OutputEntry {
        let digest = Digest::of(file);
        OutputEntry { format: "x".to_owned(), file: file.to_owned(), digest, bytes: 1, diff_ids: Vec::new() }
    }

    fn manifest(layer: &str, outputs: &[&str], stale: &[&str]) -> BuildManifest {
        let key = InputKey::new(Digest::of("key"));
        let layer = LayerEntry {
            step: "a".parse().unwrap(),
            input_key: key,
            diff_id: DiffId::new(Digest::of(layer)),
        };
        BuildManifest {
            version: VERSION,
            image: "vm".to_owned(),
            architecture: "amd64".to_owned(),
            source_date_epoch: 0,
            chain_id: None,
            layers: vec![layer],
            packages: Vec::new(),
            outputs: outputs.iter().map(|file| output(file)).collect(),
            stale_outputs: stale.iter().map(|file| output(file)).collect(),
        }
    }

    #[test]
    fn the_packages_of_a_manifest_are_those_of_its_layers_alone() {
        let [one, two] = ["one", "two"].map(|layer| DiffId::new(Digest::of(layer)));
        let packages = vec![Package {
            name: "bash".to_owned(),
            version: "5".to_owned(),
            architecture: "amd64".to_owned(),
            source: "bash".to_owned(),
            source_version: "5".to_owned(),
        }];
        let manifest = BuildManifest {
            chain_id: ChainId::of(&[one]),
            packages: packages.clone(),
            ..manifest("one", &[], &[])
        };
        let document = serde_json::to_vec(&manifest).unwrap();
        assert_eq!(BuildManifest::packages_of(&document, &[one]), Some(packages));
        for stack in [&[][..], &[two], &[one, two]] {
            assert_eq!(BuildManifest::packages_of(&document, stack), None);
        }
        let other = serde_json::to_vec(&BuildManifest { version: VERSION + 1, ..manifest }).unwrap();
        assert_eq!(BuildManifest::packages_of(&other, &[one]), None);
        assert_eq!(BuildManifest::packages_of(b"{", &[one]), None);
    }

    #[test]
    fn a_manifest_lists_existing_outputs_of_earlier_builds() {
        let earlier = manifest("one", &["vm.qcow2", "vm.oci", "vm.gone"], &["vm.raw", "vm.tar"]);
        let is_there = |output: &OutputEntry| output.file != "vm.gone";
        for (layer, outputs, stale) in [
            ("one", &["vm.oci", "vm.tar", "vm.qcow2"][..], &["vm.raw"][..]),
            ("two", &["vm.oci", "vm.tar"], &["vm.qcow2", "vm.raw"]),
        ] {
            let mut new = manifest(layer, &["vm.oci", "vm.tar"], &[]);
            new.take_over(earlier.clone(), is_there);
            assert_eq!(new, manifest(layer, outputs, stale));
        }
    }
}
