//! What can be wrong with the package data of an element.

use super::{DocumentError, DuplicateServiceError, UnsetVariableError};

/// Package lists or maps that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackageDataError {
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error(transparent)]
    Unset(#[from] UnsetVariableError),
    #[error(transparent)]
    Service(#[from] DuplicateServiceError),
}
