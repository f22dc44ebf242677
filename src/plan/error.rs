//! Elements that cannot be put into layers.

use crate::element::{DuplicateHook, ElementName, PackageDataError, Phase};

/// A request that has no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Two elements bring the same file into the hooks directory.
    #[error(transparent)]
    DuplicateHook(#[from] DuplicateHook),
    /// An element has a hook of a phase that has no place above a base.
    #[error(
        "element `{element}` has the hook `{phase}/{hook}`, and plywood makes the root file system and the disk itself"
    )]
    Unplaceable {
        /// The element.
        element: ElementName,
        /// The phase.
        phase: Phase,
        /// The hook.
        hook: String,
    },
    /// An element cannot be right with a step of its own.
    #[error("element `{element}` cannot be put into element order: {reason}")]
    NeedsPhaseOrder {
        /// The element.
        element: ElementName,
        /// Why.
        reason: &'static str,
    },
    /// An element's package requests or maps cannot be read.
    #[error("package data of element `{element}` cannot be used")]
    Packages {
        /// The element.
        element: ElementName,
        /// Why.
        source: PackageDataError,
    },
}
