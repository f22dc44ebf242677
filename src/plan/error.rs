//! Errors in planning an image.

use crate::element::{DuplicateHook, ElementName, PackageDataError, Phase};

/// A request without a valid plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error(transparent)]
    DuplicateHook(#[from] DuplicateHook),
    #[error(
        "element `{element}` has the hook `{phase}/{hook}`, but plywood builds the root file system and the disk itself"
    )]
    Unplaceable { element: ElementName, phase: Phase, hook: String },
    #[error("element `{element}` cannot be built in element order: {reason}")]
    NeedsPhaseOrder { element: ElementName, reason: &'static str },
    #[error("cannot use the package data of element `{element}`")]
    Packages { element: ElementName, source: PackageDataError },
}
