//! The reasons for not using a published step.

use schemars::JsonSchema;
use serde::Serialize;

use super::StepKey;
use crate::trust::Distrust;

/// The reason why a published step is not used. It does not fail the build: plywood looks for the
/// step elsewhere, or builds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, thiserror::Error)]
#[serde(tag = "refusal", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Refusal {
    /// The manifest is not that of a step, or has the form of a later version.
    #[error("it is not a step that this version of plywood can read: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// The manifest belongs to another step: the registry has it under the wrong tag.
    #[error("it is published under {asked}, but belongs to another key")]
    OtherStep {
        /// The key that was asked for.
        asked: StepKey,
    },
    /// The policy rejects its signature.
    #[error(transparent)]
    Distrusted(Distrust),
    /// Its hooks would read other files on this build host.
    #[error("{reason}")]
    Host {
        /// What is different, and which hook read it.
        reason: String,
    },
    /// A layer cannot be downloaded, or differs from the record.
    #[error("cannot use the layer from the registry: {reason}")]
    Layer {
        /// Why not.
        reason: String,
    },
}

impl Refusal {
    pub(super) fn malformed(reason: impl Into<String>) -> Self {
        Refusal::Malformed { reason: reason.into() }
    }
}
