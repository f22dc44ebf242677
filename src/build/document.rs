//! What commands print with `--json`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::forecast::{Forecast, Prospect};
use crate::element::Relevance;
use crate::oci::{DiffId, Digest};
use crate::plan::{InputKey, KeyFields, StepName};

/// The form of these documents. It goes up when something in one of them changes its meaning or
/// vanishes.
const VERSION: u32 = 1;

/// `plywood plan --json`: what a build would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct PlanDocument {
    /// The form of this document: 1. Fields may be added without a new version.
    pub version: u32,
    /// The images that were asked for.
    pub images: Vec<ImageForecast>,
}

/// What a build would do with one image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ImageForecast {
    /// The image's name.
    pub image: String,
    /// Its steps, lowest first.
    pub steps: Vec<Forecast>,
}

/// `plywood explain --json`: what the keys of steps are made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ExplainDocument {
    /// The form of this document: 1. Fields may be added without a new version.
    pub version: u32,
    /// The image's name.
    pub image: String,
    /// The steps that were asked for, lowest first.
    pub steps: Vec<StepExplanation>,
}

/// What the key of one step is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct StepExplanation {
    /// The step's name.
    pub step: StepName,
    /// Its key.
    pub input_key: InputKey,
    /// The key of the step below.
    pub parent: Option<InputKey>,
    /// What a build would do with it.
    pub outcome: Prospect,
    /// Everything that is in the key.
    pub fields: KeyFields,
    /// Why the fragments of `environment.d` are in it, by their names.
    pub environment: BTreeMap<String, Relevance>,
}

/// `plywood layers --json`: the layers of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct LayersDocument {
    /// The form of this document: 1. Fields may be added without a new version.
    pub version: u32,
    /// The image's name.
    pub image: String,
    /// Its layers, lowest first.
    pub layers: Vec<LayerLine>,
}

/// One layer of an image in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct LayerLine {
    /// Its place, from 0.
    pub index: usize,
    /// The step that made it.
    pub step: StepName,
    /// The layer's identity.
    pub diff_id: DiffId,
    /// The digest of its blob in the store.
    pub digest: Digest,
    /// The size of that blob.
    pub blob_bytes: u64,
    /// The size of the uncompressed archive.
    pub tar_bytes: u64,
    /// How many entries the archive has.
    pub entries: u64,
}

impl PlanDocument {
    /// Makes the document of these images.
    pub const fn new(images: Vec<ImageForecast>) -> Self {
        Self { version: VERSION, images }
    }
}

impl ExplainDocument {
    /// Makes the document of these steps.
    pub const fn new(image: String, steps: Vec<StepExplanation>) -> Self {
        Self { version: VERSION, image, steps }
    }
}

impl LayersDocument {
    /// Makes the document of these layers.
    pub const fn new(image: String, layers: Vec<LayerLine>) -> Self {
        Self { version: VERSION, image, layers }
    }
}
