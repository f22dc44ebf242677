//! Fetches sources that hooks request while an image is built.

use std::error::Error;
use std::path::Path;

use crate::element::Environment;
use crate::plan::ResolvedSource;

/// Fetches the sources of files `source-repository-<name>` that hooks have written.
pub trait AddedSources: Sync {
    /// Fetches the sources that the file at `path` lists, with these variables.
    ///
    /// # Errors
    /// If a line cannot be parsed, or its source cannot be fetched.
    fn fetch(&self, path: &Path, variables: &Environment) -> Result<Vec<ResolvedSource>, AddedSourceError>;
}

/// A source that a hook requested and that cannot be fetched.
#[derive(Debug, thiserror::Error)]
#[error("cannot fetch the sources that a hook lists in `{file}`")]
pub struct AddedSourceError {
    /// The name in the hooks directory.
    pub file: String,
    pub source: Box<dyn Error>,
}
