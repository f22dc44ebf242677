//! Errors in the package data of an element.

use super::{DocumentError, DuplicateServiceError, UnsetVariableError};

/// An error in package lists or maps.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackageDataError {
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error(transparent)]
    Unset(#[from] UnsetVariableError),
    #[error(transparent)]
    Service(#[from] DuplicateServiceError),
}
