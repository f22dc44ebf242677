//! What can be wrong with the package data of an element.

use super::{DocumentError, DuplicateServiceError, PackageListError, UnsetVariableError};

/// Package lists or maps that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackageDataError {
    /// A list cannot be read.
    #[error(transparent)]
    List(#[from] PackageListError),
    /// A map cannot be read.
    #[error(transparent)]
    Map(#[from] DocumentError),
    /// A condition names a variable that is not set.
    #[error(transparent)]
    Unset(#[from] UnsetVariableError),
    /// Two maps translate the same service.
    #[error(transparent)]
    Service(#[from] DuplicateServiceError),
}
