//! Reads `plywood.toml`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{LoadError, parse_definition};
use crate::image::{Project, ProjectSettings};

/// The file that makes a directory a project.
pub const PROJECT_FILE: &str = "plywood.toml";

/// Reads the project in the directory `dir`.
///
/// # Errors
/// [`LoadError::NoProject`] if the file is not there, [`LoadError::Definition`] if it is wrong.
pub fn load_project(dir: &Path) -> Result<Project, LoadError> {
    let path = dir.join(PROJECT_FILE);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(LoadError::NoProject { dir: dir.to_owned() });
        }
        result => result.map_err(LoadError::io("read", &path))?,
    };
    Ok(parse_definition(&path, &text)?)
}

/// Returns where the elements of the project in `dir` are looked for: the directories it names, then plywood's own.
///
/// A directory that it names has to be there; the default one need not.
pub fn element_path(dir: &Path, settings: &ProjectSettings, data_dir: &Path) -> Vec<PathBuf> {
    let is_default = settings.elements == ProjectSettings::default().elements;
    let named = settings.elements.iter().map(|path| dir.join(path));
    let mut path: Vec<_> = named.filter(|path| !is_default || path.is_dir()).collect();
    let own = data_dir.join("elements");
    if own.is_dir() && !path.contains(&own) {
        path.push(own);
    }
    path
}

/// Returns where the bases of the project in `dir` are looked for: its `layers/`, then plywood's own.
pub fn layer_path(dir: &Path, data_dir: &Path) -> Vec<PathBuf> {
    let mut path = vec![dir.join("layers"), data_dir.join("layers")];
    path.dedup();
    path
}
