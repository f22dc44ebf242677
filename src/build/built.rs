//! Steps whose layers are in the store.

use serde::Serialize;

use crate::oci::DiffId;
use crate::plan::{Found, InputKey, Step, StepName};

/// A step whose layers are in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BuiltStep {
    /// Its name.
    pub name: StepName,
    /// Its key.
    pub input_key: InputKey,
    /// Its layers, lowest first; none if it changed nothing.
    pub diff_ids: Vec<DiffId>,
    /// The key that found them; `None` if they were built now.
    pub found: Option<Found>,
}

impl BuiltStep {
    pub(super) fn new(step: &Step, diff_ids: Vec<DiffId>, found: Option<Found>) -> Self {
        Self { name: step.name.clone(), input_key: step.input_key, diff_ids, found }
    }
}
