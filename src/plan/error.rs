//! Elements that cannot be put into layers.

use crate::element::{DuplicateHook, ElementName, PackageDataError, Phase};

/// A request that has no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error(transparent)]
    DuplicateHook(#[from] DuplicateHook),
    #[error(
        "element `{element}` has the hook `{phase}/{hook}`, and plywood makes the root file system and the disk itself"
    )]
    Unplaceable { element: ElementName, phase: Phase, hook: String },
    #[error("element `{element}` cannot be put into element order: {reason}")]
    NeedsPhaseOrder { element: ElementName, reason: &'static str },
    #[error("package data of element `{element}` cannot be used")]
    Packages { element: ElementName, source: PackageDataError },
}
