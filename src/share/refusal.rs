//! Why what a registry gave for a key does not count.

use schemars::JsonSchema;
use serde::Serialize;

use super::StepKey;
use crate::trust::Distrust;

/// Why a published step is not used. Never an error: the step is looked for elsewhere, or built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, thiserror::Error)]
#[serde(tag = "refusal", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Refusal {
    /// The manifest is no step's, or one of a later form.
    #[error("it is no step that this plywood can read: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// The manifest is that of another step: the registry maps the key to something else.
    #[error("it is published under {asked}, but belongs to another key")]
    OtherStep {
        /// The key that was asked for.
        asked: StepKey,
    },
    /// Nobody who counts vouches for it.
    #[error(transparent)]
    Distrusted(Distrust),
    /// Its hooks would read something else on this host.
    #[error("{reason}")]
    Host {
        /// What is different, and which hook read it.
        reason: String,
    },
    /// A layer could not be had, or is not what the record says.
    #[error("its layer could not be taken: {reason}")]
    Layer {
        /// Why not.
        reason: String,
    },
}

impl Refusal {
    /// Makes the refusal of a document that cannot be read.
    pub(super) fn malformed(reason: impl Into<String>) -> Self {
        Refusal::Malformed { reason: reason.into() }
    }
}
