//! Fetching what hooks ask for while an image is built.

use std::error::Error;
use std::path::Path;

use crate::element::Environment;
use crate::plan::ResolvedSource;

/// Fetches what files `source-repository-<name>` ask for that hooks have written.
pub trait AddedSources: Sync {
    /// Fetches what the file at `path` asks for under these variables.
    ///
    /// # Errors
    /// If a line cannot be read, or what it asks for cannot be fetched.
    fn fetch(&self, path: &Path, variables: &Environment) -> Result<Vec<ResolvedSource>, AddedSourceError>;
}

/// A source that a hook asked for and that cannot be fetched.
#[derive(Debug, thiserror::Error)]
#[error("cannot fetch what a hook asks for in `{file}`")]
pub struct AddedSourceError {
    /// Its name in the hooks directory.
    pub file: String,
    pub source: Box<dyn Error>,
}
