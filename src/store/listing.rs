//! Lists the content of a store as JSON documents.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;

use super::{ListedImage, ListedRecord};
use crate::oci::{DiffId, Digest};
use crate::plan::{InputKey, StepName};

/// The version of these documents. It increases when a field is removed or changes its meaning.
const VERSION: u32 = 1;

/// `plywood store list --json`: the steps whose layers the store holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct StepsDocument {
    /// The form of this document: 1. Fields may be added without a new version.
    pub version: u32,
    /// The steps.
    pub steps: Vec<StepLine>,
}

/// One step in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct StepLine {
    /// The image that it was first built for.
    pub image: String,
    /// The step's name.
    pub step: StepName,
    /// Its key.
    pub input_key: InputKey,
    /// Its layers, lowest first.
    pub diff_ids: Vec<DiffId>,
    /// When it was made or found last, in seconds since 1970.
    pub last_used: u64,
    /// The size of its layers' blobs, in all encodings.
    pub blob_bytes: u64,
    /// The size of its layers where they are unpacked.
    pub unpacked_bytes: u64,
}

/// `plywood store images --json`: the images that the store holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ImagesDocument {
    /// The form of this document: 1. Fields may be added without a new version.
    pub version: u32,
    /// The images, by name.
    pub images: Vec<ImageLine>,
}

/// One image in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct ImageLine {
    /// Its name in the store.
    pub name: String,
    /// The digest of its manifest.
    pub digest: Digest,
    /// The size of its config and layers, which other images may share.
    pub blob_bytes: u64,
    /// Images with a step in the store that is built on it.
    pub used_by: BTreeSet<String>,
}

/// `plywood store rm --json`: what was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub struct RemovedDocument {
    /// The form of this document: 1. Fields may be added without a new version.
    pub version: u32,
    /// The names of the images that were removed.
    pub removed: Vec<String>,
    /// The space that is free now.
    pub freed_bytes: u64,
}

impl StepsDocument {
    /// Returns the document of these steps.
    pub fn new(steps: Vec<ListedRecord>) -> Self {
        Self { version: VERSION, steps: steps.into_iter().map(StepLine::from).collect() }
    }
}

impl From<ListedRecord> for StepLine {
    fn from(ListedRecord { record, used, blob_bytes, unpacked_bytes }: ListedRecord) -> Self {
        Self {
            image: record.image,
            step: record.step,
            input_key: record.input_key,
            diff_ids: record.diff_ids,
            last_used: used,
            blob_bytes,
            unpacked_bytes,
        }
    }
}

impl ImagesDocument {
    /// Returns the document of these images.
    pub fn new(images: Vec<ListedImage>) -> Self {
        Self { version: VERSION, images: images.into_iter().map(ImageLine::from).collect() }
    }
}

impl From<ListedImage> for ImageLine {
    fn from(ListedImage { name, manifest, blob_bytes, used_by }: ListedImage) -> Self {
        Self { name, digest: manifest, blob_bytes, used_by }
    }
}

impl RemovedDocument {
    /// Returns the document of a removal.
    pub const fn new(removed: Vec<String>, freed_bytes: u64) -> Self {
        Self { version: VERSION, removed, freed_bytes }
    }
}
