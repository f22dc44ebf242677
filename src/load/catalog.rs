//! Reads all elements of a search path.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use super::LoadError;
use super::element::load_element;
use crate::element::{Catalog, ElementName, Unusable};

/// Reads every element in the directories of `element_path`. If several have an element of the same
/// name, the first one wins.
///
/// Each directory in a directory of the path is an element. Its name is the last component of its
/// real path. Directories with a leading dot, or another name that elements cannot have, are
/// ignored. An element with an invalid file does not fail the call: [`Catalog::unusable`] has the
/// reason.
///
/// # Errors
/// [`LoadError::NoElementDirectory`] if an entry of the path is not a directory, [`LoadError::Io`]
/// if it cannot be read.
pub fn load_catalog(element_path: &[PathBuf]) -> Result<Catalog, LoadError> {
    let mut catalog = Catalog::default();
    for dir in element_path {
        if !dir.is_dir() {
            return Err(LoadError::NoElementDirectory { path: dir.clone() });
        }
        for root in directories(dir)? {
            let real = fs::canonicalize(&root).map_err(LoadError::io("read", &root))?;
            let Ok(name) = real.file_name().unwrap_or_default().to_string_lossy().parse::<ElementName>()
            else {
                continue;
            };
            match load_element(name.clone(), &real) {
                Ok(element) => catalog.add(element),
                Err(error) => {
                    catalog.add_unusable(name, Unusable { root: real, reason: with_causes(&error) })
                }
            }
        }
    }
    Ok(catalog)
}

fn directories(dir: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(LoadError::io("read", dir))? {
        let entry = entry.map_err(LoadError::io("read", dir))?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !hidden && entry.path().is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn with_causes(error: &LoadError) -> String {
    let causes = std::iter::successors(Some(error as &dyn Error), |error: &&dyn Error| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::element::{Severity, check_elements};
    use crate::load::{data_dir, load_base, load_base_names};

    fn files(dir: &Path, files: &[&str]) {
        for file in files {
            let path = dir.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
    }

    #[test]
    fn every_directory_is_an_element_with_its_real_name() {
        let dir = tempfile::tempdir().unwrap();
        files(
            dir.path(),
            &["one/a/pkg-map", "one/b/pkg-map", "one/.git/x", "one/file", "one/old bak/x", "two/a/svc-map"],
        );
        symlink("../two", dir.path().join("one/c")).unwrap();
        let path = ["one", "two"].map(|entry| dir.path().join(entry));
        let catalog = load_catalog(&path).unwrap();
        let names: Vec<_> = catalog.iter().map(|element| element.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "two"]);
        assert!(catalog.get("a").unwrap().files.contains_key("pkg-map"));
        assert_eq!(catalog.hidden().len(), 1);
    }

    #[test]
    fn an_unusable_element_does_not_affect_others() {
        let dir = tempfile::tempdir().unwrap();
        files(dir.path(), &["good/pkg-map", "deps/element-deps", "loop/a/x"]);
        fs::write(dir.path().join("deps/element-deps"), "base\n# and then\n").unwrap();
        symlink("..", dir.path().join("loop/a/b")).unwrap();
        let catalog = load_catalog(&[dir.path().to_owned()]).unwrap();
        assert!(catalog.get("good").is_some());
        let reasons: Vec<_> = catalog.unusable().values().map(|unusable| &unusable.reason).collect();
        let place = fs::canonicalize(dir.path()).unwrap();
        let place = place.display();
        assert!(
            reasons[0].starts_with(&format!(
                "`{place}/deps/element-deps`, line 2: element name `# and then` contains"
            )),
            "{reasons:?}"
        );
        assert_eq!(
            *reasons[1],
            format!("`{place}/loop/a/b` is a loop: it leads back to a directory above it")
        );
    }

    #[test]
    fn plywoods_own_elements_are_all_usable() {
        let catalog = load_catalog(&[data_dir().join("elements")]).unwrap();
        let layers = [data_dir().join("layers")];
        let bases = load_base_names(&layers).unwrap();
        let provided =
            bases.iter().flat_map(|name| load_base(name, &layers).unwrap().provided_names()).collect();
        let mut findings = check_elements(&catalog, &provided);
        findings.retain(|finding| finding.severity == Severity::Error);
        assert_eq!(findings, []);
    }

    #[test]
    fn an_entry_that_is_not_a_directory_is_named() {
        let error = load_catalog(&["/not/a/dir".into()]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`/not/a/dir` is in the search path of elements, but is not a directory"
        );
    }
}
