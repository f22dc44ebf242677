//! Reads `plywood.toml`.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{LoadError, PROJECT_FILE, parse_definition};
use crate::directory::read_text;
use crate::image::{Project, ProjectSettings};

/// Reads the project in the directory `dir`.
///
/// # Errors
/// [`LoadError::NoProject`] if the file is not there, [`LoadError::Definition`] if it is wrong.
pub fn load_project(dir: &Path) -> Result<Project, LoadError> {
    let path = dir.join(PROJECT_FILE);
    let text = match read_text(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(LoadError::NoProject { dir: dir.to_owned() });
        }
        result => result.map_err(LoadError::io("read", &path))?,
    };
    Ok(parse_definition(&path, &text)?)
}

/// Returns the directory of the nearest project, from the current directory upwards, relative to
/// it. The current directory if there is none.
///
/// A project further up counts only if it belongs to root or to the owner of the current directory:
/// a build runs its hooks as root, and anybody can put files into `/tmp`.
pub fn find_project() -> PathBuf {
    find_from(Path::new("."))
}

fn find_from(start: &Path) -> PathBuf {
    let Ok(place) = fs::canonicalize(start) else { return start.to_owned() };
    let caller = owner(&place);
    let mut found = start.to_owned();
    for directory in place.ancestors() {
        let is_trusted = |owner| owner == 0 || Some(owner) == caller;
        if owner(&directory.join(PROJECT_FILE)).is_some_and(is_trusted) {
            return found;
        }
        found = if found == Path::new(".") { "..".into() } else { found.join("..") };
    }
    start.to_owned()
}

fn owner(path: &Path) -> Option<u32> {
    Some(fs::metadata(path).ok()?.uid())
}

/// Returns a path from the root: a relative one starts in the current directory.
///
/// # Errors
/// [`LoadError::Io`] if the current directory is gone.
pub fn absolute(path: &Path) -> Result<PathBuf, LoadError> {
    std::path::absolute(path).map_err(LoadError::io("find", path))
}

/// Returns where the elements of the project in `dir` are looked for: the directories it names,
/// then plywood's own.
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

/// Returns where the bases of the project in `dir` are looked for: its `layers/`, then plywood's
/// own.
pub fn layer_path(dir: &Path, data_dir: &Path) -> Vec<PathBuf> {
    let mut path = vec![dir.join("layers"), data_dir.join("layers")];
    path.dedup();
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_project_upwards_is_found() {
        let scratch = tempfile::tempdir().unwrap();
        let deep = scratch.path().join("project/elements/web");
        fs::create_dir_all(&deep).unwrap();
        assert_eq!(find_from(&deep), deep, "there is none");
        fs::write(scratch.path().join("project").join(PROJECT_FILE), "").unwrap();
        assert_eq!(find_from(&deep), deep.join("../.."));
        assert_eq!(find_from(&scratch.path().join("project")), scratch.path().join("project"));
        fs::write(deep.join(PROJECT_FILE), "").unwrap();
        assert_eq!(find_from(&deep), deep);
    }
}
