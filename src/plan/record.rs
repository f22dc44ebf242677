//! What the store keeps for a step that was built.

use serde::{Deserialize, Serialize};

use super::{ContentKey, Evidence, InputKey, KeyFields};
use crate::oci::DiffId;

/// A built step: its keys, what they were made of, and the layers it gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The step's name: an element, or `base:…`, `image:…`.
    pub step: String,
    /// The image it was built for first.
    pub image: String,
    /// By the keys below it.
    pub input_key: InputKey,
    /// By the content below it.
    pub content_key: ContentKey,
    /// The key of the step below; `None` for the lowest.
    pub parent: Option<InputKey>,
    /// What the keys were made of.
    pub fields: KeyFields,
    /// The layers it gave, lowest first: none if it changed nothing, several for a base that was imported.
    pub diff_ids: Vec<DiffId>,
    /// What its hooks read of the build host; `None` if no hook ran there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
}
