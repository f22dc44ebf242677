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
    /// The manifest does not describe a step, or was written by a later version of plywood.
    #[error("it is not a step that this version of plywood can read: {reason}")]
    Malformed {
        /// The problem with the manifest.
        reason: String,
    },
    /// The manifest describes another step: the registry has it under the wrong tag.
    #[error("it is published under {asked}, but belongs to another key")]
    OtherStep {
        /// The key that was asked for.
        asked: StepKey,
    },
    /// The policy rejects its signature.
    #[error(transparent)]
    Distrusted(Distrust),
    /// The hooks of the step would read different files on this build host.
    #[error("{reason}")]
    Host {
        /// The file that differs, and the hook that read it.
        reason: String,
    },
    /// A layer cannot be downloaded, or does not match the record.
    #[error("cannot use the layer from the registry: {reason}")]
    Layer {
        /// The error.
        reason: String,
    },
}

impl Refusal {
    pub(super) fn malformed(reason: impl Into<String>) -> Self {
        Refusal::Malformed { reason: reason.into() }
    }
}
