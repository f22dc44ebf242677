//! Steps whose layers are in the store.

use serde::Serialize;

use crate::oci::DiffId;
use crate::plan::{InputKey, Step, StepName};

/// A step whose layers are in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BuiltStep {
    /// Its name.
    pub name: StepName,
    /// Its key.
    pub input_key: InputKey,
    /// Its layers, lowest first; none if it changed nothing.
    pub diff_ids: Vec<DiffId>,
    /// How they came to be there.
    pub found: Found,
}

impl BuiltStep {
    pub(super) fn new(step: &Step, diff_ids: Vec<DiffId>, found: Found) -> Self {
        Self { name: step.name.clone(), input_key: step.input_key, diff_ids, found }
    }
}

/// How a step's layers came to be in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Found {
    /// Found by the input key.
    Input,
    /// Found by the content key: a step below was made again and came out the same.
    Content,
    /// Made now.
    Built,
}
