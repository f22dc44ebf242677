//! What can be wrong with the package data of an element.

use super::{DocumentError, DuplicateServiceError, UnsetVariableError};

/// Package lists or maps that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackageDataError {
    /// A list or a map cannot be read.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A condition names a variable that is not set.
    #[error(transparent)]
    Unset(#[from] UnsetVariableError),
    /// Two maps translate the same service.
    #[error(transparent)]
    Service(#[from] DuplicateServiceError),
}
