//! What hooks on the host leave in the hooks directory, for hooks in the target, and in the build directory, for each other: of
//! their own step, and of later ones.
//!
//! Between steps it lies in the layer, below `/tmp`. Hooks see the hooks directory mounted over its part, and with all of
//! `/tmp` it is removed at the end.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::LoadError;
use crate::plan::{DISK_PARAMETERS, Tasks};
use crate::port::{CacheMount, HostDirs};

/// Where in `/tmp` of a layer what is of the hooks directory lies, and what is of the build directory.
const HOOKS: &str = "in_target.d";
const BUILD: &str = "plywood-build";

/// Where the mounts of caches are noted: lines of the directory in the cache, a tab, and the place in the target.
const MOUNTS: &str = "cache-mounts.tsv";

/// What plywood itself puts into a hooks directory.
const OWN: [&str; 3] = ["dib-run-parts", "environment.d", "files"];

/// Copies what is in the hooks directory beside the files of `tasks`, and what is in the build directory, into the root at `root`,
/// with these mounts.
pub(super) fn keep(
    tasks: &Tasks,
    mounts: &[CacheMount],
    left: HostDirs<'_>,
    root: &Path,
) -> Result<(), LoadError> {
    keep_files(left.hooks, place(root, HOOKS), |path| is_added(tasks, path))?;
    keep_files(left.build, place(root, BUILD), |path| path != Path::new(DISK_PARAMETERS))?;
    let lines: String = mounts.iter().map(|mount| format!("{}\t{}\n", mount.source, mount.target)).collect();
    let Some(kept) = place(root, HOOKS).filter(|_| !lines.is_empty()) else { return Ok(()) };
    fs::create_dir_all(&kept).map_err(LoadError::io("make directory", &kept))?;
    let path = kept.join(MOUNTS);
    fs::write(&path, lines).map_err(LoadError::io("write", &path))
}

fn keep_files(dir: &Path, kept: Option<PathBuf>, is_added: impl Fn(&Path) -> bool) -> Result<(), LoadError> {
    let Some(kept) = kept else { return Ok(()) };
    let added = files_below(dir)?.into_iter().filter(|path| is_added(path));
    added.into_iter().try_for_each(|path| copy(&dir.join(&path), &kept.join(&path)))
}

/// Copies what steps below have kept into the directories, and returns the mounts they noted.
pub(super) fn restore(dirs: HostDirs<'_>, root: &Path) -> Result<Vec<CacheMount>, LoadError> {
    restore_files(dirs.build, place(root, BUILD))?;
    restore_files(dirs.hooks, place(root, HOOKS))?;
    let noted = place(root, HOOKS).map(|kept| kept.join(MOUNTS)).filter(|path| path.is_file());
    let mounts = noted.map_or_else(|| Ok(Vec::new()), |path| read_mounts(&path))?;
    for mount in &mounts {
        let cache = dirs.cache.join(&mount.source);
        if !cache.exists() {
            fs::create_dir_all(&cache).map_err(LoadError::io("make directory", &cache))?;
        }
    }
    Ok(mounts)
}

fn restore_files(dir: &Path, kept: Option<PathBuf>) -> Result<(), LoadError> {
    let Some(kept) = kept.filter(|kept| kept.is_dir()) else { return Ok(()) };
    for path in files_below(&kept)? {
        if path != Path::new(MOUNTS) && !dir.join(&path).exists() {
            copy(&kept.join(&path), &dir.join(&path))?;
        }
    }
    Ok(())
}

/// Returns the mounts that are noted at `path`. The layer may be a stranger's: what leads out of the cache is none.
fn read_mounts(path: &Path) -> Result<Vec<CacheMount>, LoadError> {
    let text = fs::read_to_string(path).map_err(LoadError::io("read", path))?;
    let inside =
        |source: &str| Path::new(source).components().all(|part| matches!(part, Component::Normal(_)));
    let pairs = text.lines().filter_map(|line| line.split_once('\t')).filter(|(source, _)| inside(source));
    let mounts =
        pairs.map(|(source, target)| CacheMount { source: source.to_owned(), target: target.to_owned() });
    Ok(mounts.collect())
}

/// Returns the place called `name` in a root; `None` if a symlink would lead out of it.
fn place(root: &Path, name: &str) -> Option<PathBuf> {
    let tmp = root.join("tmp");
    let kept = tmp.join(name);
    let is_link = |path: &Path| path.symlink_metadata().is_ok_and(|entry| entry.is_symlink());
    (tmp.is_dir() && !is_link(&tmp) && !is_link(&kept)).then_some(kept)
}

fn is_added(tasks: &Tasks, path: &Path) -> bool {
    let text = path.to_string_lossy();
    let top = text.split('/').next().unwrap_or_default();
    !OWN.contains(&top) && !tasks.hooks.contains_key(text.as_ref())
}

/// Returns the regular files below a directory, relative to it, in byte order.
fn files_below(dir: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(below) = open.pop() {
        let path = dir.join(&below);
        for entry in fs::read_dir(&path).map_err(LoadError::io("read", &path))? {
            let entry = entry.map_err(LoadError::io("read", &path))?;
            let kind = entry.file_type().map_err(LoadError::io("read", &path))?;
            let name = below.join(entry.file_name());
            match (kind.is_dir(), kind.is_file()) {
                (true, _) => open.push(name),
                (_, true) => found.push(name),
                _ => {}
            }
        }
    }
    found.sort();
    Ok(found)
}

fn copy(source: &Path, target: &Path) -> Result<(), LoadError> {
    let parent = target.parent().unwrap_or(target);
    fs::create_dir_all(parent).map_err(LoadError::io("make directory", parent))?;
    fs::copy(source, target).map(drop).map_err(LoadError::io("copy", source))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::Arc;

    use super::*;
    use crate::element::fixture::element;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn what_hooks_add_and_mount_reaches_later_steps_by_way_of_the_layer() {
        let work = tempfile::tempdir().unwrap();
        let [first, second, build, later, cache, root] =
            ["first", "second", "build", "later", "cache", "root"].map(|name| work.path().join(name));
        let element = Arc::new(element("e").hook("install.d/50-e", "").build());
        let hooks = [("install.d/50-e".to_owned(), element)].into();
        let tasks = Tasks { hooks, ..Tasks::default() };
        for (path, text) in
            [("install.d/50-e", ""), ("files/e", ""), ("keys", "key"), ("install.d/data", "x")]
        {
            write(&first.join(path), text);
        }
        write(&build.join("a/b"), "built");
        write(&build.join(DISK_PARAMETERS), "of this step");
        for directory in [&root.join("tmp"), &second, &later] {
            fs::create_dir_all(directory).unwrap();
        }
        let [pip, out, absolute] = ["pip", "../../etc", "/etc"]
            .map(|source| CacheMount { source: source.to_owned(), target: "/tmp/pip".to_owned() });
        let mounts = [pip.clone(), out, absolute];
        keep(&tasks, &mounts, HostDirs { hooks: &first, build: &build, cache: &cache }, &root).unwrap();
        assert_eq!(restore(HostDirs { hooks: &second, build: &later, cache: &cache }, &root).unwrap(), [pip]);
        assert!(cache.join("pip").is_dir());
        let names: Vec<_> = files_below(&second).unwrap();
        assert_eq!(names, [Path::new("install.d/data"), Path::new("keys")]);
        assert_eq!(fs::read_to_string(second.join("keys")).unwrap(), "key");
        assert_eq!(files_below(&later).unwrap(), [Path::new("a/b")]);
    }

    #[test]
    fn nothing_added_leaves_no_trace_and_no_link_is_followed() {
        let work = tempfile::tempdir().unwrap();
        let [hooks, build, root, outside] =
            ["hooks", "build", "root", "outside"].map(|name| work.path().join(name));
        for directory in [&hooks, &build, &root.join("tmp"), &outside] {
            fs::create_dir_all(directory).unwrap();
        }
        let left = HostDirs { hooks: &hooks, build: &build, cache: &outside };
        keep(&Tasks::default(), &[], left, &root).unwrap();
        assert!(!root.join("tmp/in_target.d").exists());
        write(&hooks.join("keys"), "key");
        symlink(&outside, root.join("tmp/in_target.d")).unwrap();
        keep(&Tasks::default(), &[], left, &root).unwrap();
        assert!(files_below(&outside).unwrap().is_empty());
    }
}
