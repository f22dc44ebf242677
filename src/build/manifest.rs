//! What an image is made of: the file `<image>.manifest.json` beside its outputs.

use serde::{Deserialize, Serialize};

use super::{BuiltStep, Package};
use crate::oci::{ChainId, DiffId, Digest};
use crate::plan::{InputKey, Plan};

/// The manifest of an image. Depends on the image's content alone: no times, no paths, nothing of how it was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImageManifest {
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
    /// The files and directories that were written.
    pub outputs: Vec<OutputEntry>,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LayerEntry {
    /// The step that made it: an element's name, or `base:…`, `image:packages`, `image:late`.
    pub step: String,
    /// The key of that step.
    pub input_key: InputKey,
    /// The layer's identity.
    pub diff_id: DiffId,
}

/// One output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The layers it consists of: those of the image, and for a container whose final stage changed something, one more.
    pub diff_ids: Vec<DiffId>,
}

impl ImageManifest {
    /// Makes the manifest of an image without outputs.
    pub fn new(plan: &Plan, steps: &[BuiltStep], packages: Vec<Package>) -> Self {
        let layers: Vec<_> = steps.iter().flat_map(layer_entries).collect();
        let stack: Vec<_> = layers.iter().map(|layer| layer.diff_id).collect();
        Self {
            image: plan.image.clone(),
            architecture: plan.architecture.debian().to_owned(),
            source_date_epoch: plan.source_date_epoch,
            chain_id: ChainId::of(&stack),
            layers,
            packages,
            outputs: Vec::new(),
        }
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
