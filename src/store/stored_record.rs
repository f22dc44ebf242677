//! The form of records on disk.

use serde::{Deserialize, Serialize};

use crate::oci::Digest;
use crate::plan::Record;

/// A record of a step: `records/input/<hex>.json`, `records/content/<hex>.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredRecord {
    /// The record without its evidence.
    pub record: Record,
    /// The digest of the evidence, if there is one: `records/evidence/<hex>.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Digest>,
}
