//! Finds the elements of an installed diskimage-builder.

use std::fs;
use std::path::{Path, PathBuf};

/// The prefixes below which Python packages are installed, besides a virtual environment.
const PREFIXES: [&str; 2] = ["/usr/local", "/usr"];

/// Returns the elements directory of the diskimage-builder that is installed in this virtual
/// environment, or else on the build host; `None` if it is not installed.
pub fn upstream_elements(virtual_environment: Option<&Path>) -> Option<PathBuf> {
    let prefixes = virtual_environment.into_iter().chain(PREFIXES.map(Path::new));
    prefixes
        .flat_map(package_directories)
        .map(|dir| dir.join("diskimage_builder/elements"))
        .find(|dir| dir.is_dir())
}

/// Returns the directories of Python packages below `prefix`, newest Python first.
fn package_directories(prefix: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(prefix.join("lib")).into_iter().flatten().flatten();
    let is_python =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"python3"));
    let mut pythons: Vec<_> = entries.map(|entry| entry.path()).filter(is_python).collect();
    pythons.sort();
    pythons.reverse();
    let kinds = ["site-packages", "dist-packages"];
    pythons.iter().flat_map(|python| kinds.map(|kind| python.join(kind))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_environment_comes_first() {
        let prefix = tempfile::tempdir().unwrap();
        let elements = prefix.path().join("lib/python3.11/site-packages/diskimage_builder/elements");
        fs::create_dir_all(&elements).unwrap();
        fs::create_dir_all(prefix.path().join("lib/python3.13/site-packages")).unwrap();
        assert_eq!(upstream_elements(Some(prefix.path())), Some(elements));
    }
}
