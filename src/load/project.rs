//! Reads `plywood.toml`.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::definition::{parse_definition, wrong_value};
use super::{DefinitionError, LoadError, PROJECT_FILE};
use crate::directory::read_text;
use crate::image::{Project, ProjectSettings};

/// Reads the project in the directory `dir`.
///
/// # Errors
/// [`LoadError::NoProject`] if the file does not exist, [`LoadError::Definition`] if it is invalid.
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

/// Returns the error that the value at `keys` of the project in the directory `dir` is wrong, with
/// its line. Returns `None` if the project has no such value.
pub fn wrong_setting(
    dir: &Path,
    keys: &[&str],
    (message, hint): (String, String),
) -> Option<DefinitionError> {
    let path = dir.join(PROJECT_FILE);
    wrong_value(&path, &read_text(&path).ok()?, keys, (message, hint))
}

/// Returns the relative path of the nearest project at or above the current directory, or `.` if
/// there is none.
///
/// A project counts only if its file belongs to root or to the owner of the current directory: a
/// build runs its hooks as root, and every user can put files into `/tmp`.
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

/// Returns an absolute path. A relative one starts in the current directory.
///
/// # Errors
/// [`LoadError::Io`] if the current directory no longer exists.
pub fn absolute(path: &Path) -> Result<PathBuf, LoadError> {
    std::path::absolute(path).map_err(LoadError::io("find", path))
}

/// Returns the search path for the elements of the project in `dir`: the directories that it names,
/// then plywood's own.
///
/// The default directory is left out if it does not exist. A missing directory that the project
/// names stays in the path, so that loading fails.
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

/// Returns the search path for the bases of the project in `dir`: its `layers/`, then plywood's
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
    fn a_wrong_setting_is_named_with_its_line() {
        let project = tempfile::tempdir().unwrap();
        let place = |text: &str, keys: &[&str]| {
            fs::write(project.path().join(PROJECT_FILE), text).unwrap();
            let error = wrong_setting(project.path(), keys, ("wrong".to_owned(), "hint".to_owned()))?;
            Some((error.line, error.column))
        };
        let keys = ["image", "web", "container", "user"];
        for (text, expected) in [
            ("[image.web]\ncontainer = { cmd = [], user = 'x' }\n", Some((2, 32))),
            ("[image.web.container]\n\nuser = 'x'\n", Some((3, 8))),
            ("image.web.container.user = 'x'", Some((1, 28))),
            ("[image.web]\n", None),
            ("[image.web]\ncontainer = 1\n", None),
            ("[image", None),
        ] {
            assert_eq!(place(text, &keys), expected, "{text}");
        }
    }

    #[test]
    fn the_nearest_project_upwards_is_found() {
        let scratch = tempfile::tempdir().unwrap();
        let deep = scratch.path().join("project/elements/web");
        fs::create_dir_all(&deep).unwrap();
        assert_eq!(find_from(&deep), deep, "no project above");
        fs::write(scratch.path().join("project").join(PROJECT_FILE), "").unwrap();
        assert_eq!(find_from(&deep), deep.join("../.."));
        assert_eq!(find_from(&scratch.path().join("project")), scratch.path().join("project"));
        fs::write(deep.join(PROJECT_FILE), "").unwrap();
        assert_eq!(find_from(&deep), deep);
    }
}
