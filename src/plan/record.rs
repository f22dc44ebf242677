//! The record of a built step in the store.

use serde::{Deserialize, Serialize};

use super::{ContentKey, Evidence, InputKey, KeyFields, StepName};
use crate::oci::DiffId;

/// A built step: its keys, their fields, and its layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub step: StepName,
    /// The first image it was built for.
    pub image: String,
    pub input_key: InputKey,
    pub content_key: ContentKey,
    /// The key of the step below; `None` for the lowest.
    pub parent: Option<InputKey>,
    /// The fields of both keys.
    pub fields: KeyFields,
    /// Its layers, lowest first: empty if the step changed nothing, several for an imported base.
    pub diff_ids: Vec<DiffId>,
    /// The evidence of what its hooks read of the build host; `None` if no hook ran there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
}
