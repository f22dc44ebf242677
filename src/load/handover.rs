//! What hooks on the host leave in the hooks directory, for hooks in the target: of their own step, and of later ones.
//!
//! Between steps it lies in the layer, in `/tmp/in_target.d`. Hooks see the hooks directory mounted over it, and with all of
//! `/tmp` it is removed at the end.

use std::fs;
use std::path::{Path, PathBuf};

use super::LoadError;
use crate::plan::Tasks;
use crate::port::CacheMount;

/// Where the mounts of caches are noted: lines of the directory in the cache, a tab, and the place in the target.
const MOUNTS: &str = "cache-mounts.tsv";

/// What plywood itself puts into a hooks directory.
const OWN: [&str; 3] = ["dib-run-parts", "environment.d", "files"];

/// Copies what is in the hooks directory `dir` beside the files of `tasks` into the root at `root`, with these mounts.
pub(super) fn keep(tasks: &Tasks, mounts: &[CacheMount], dir: &Path, root: &Path) -> Result<(), LoadError> {
    let added: Vec<_> = files_below(dir)?.into_iter().filter(|path| is_added(tasks, path)).collect();
    if added.is_empty() && mounts.is_empty() {
        return Ok(());
    }
    let Some(kept) = place(root) else { return Ok(()) };
    for path in added {
        copy(&dir.join(&path), &kept.join(&path))?;
    }
    let lines: String = mounts.iter().map(|mount| format!("{}\t{}\n", mount.source, mount.target)).collect();
    if !lines.is_empty() {
        fs::create_dir_all(&kept).map_err(LoadError::io("make directory", &kept))?;
        let path = kept.join(MOUNTS);
        fs::write(&path, lines).map_err(LoadError::io("write", &path))?;
    }
    Ok(())
}

/// Copies what steps below have kept into the hooks directory `dir`, and returns the mounts they noted.
pub(super) fn restore(dir: &Path, root: &Path) -> Result<Vec<CacheMount>, LoadError> {
    let Some(kept) = place(root).filter(|kept| kept.is_dir()) else { return Ok(Vec::new()) };
    let mut mounts = Vec::new();
    for path in files_below(&kept)? {
        if path == Path::new(MOUNTS) {
            mounts = read_mounts(&kept.join(path))?;
        } else if !dir.join(&path).exists() {
            copy(&kept.join(&path), &dir.join(&path))?;
        }
    }
    Ok(mounts)
}

fn read_mounts(path: &Path) -> Result<Vec<CacheMount>, LoadError> {
    let text = fs::read_to_string(path).map_err(LoadError::io("read", path))?;
    let pairs = text.lines().filter_map(|line| line.split_once('\t'));
    let mounts =
        pairs.map(|(source, target)| CacheMount { source: source.to_owned(), target: target.to_owned() });
    Ok(mounts.collect())
}

/// Returns the place in a root; `None` if a symlink would lead out of it.
fn place(root: &Path) -> Option<PathBuf> {
    let tmp = root.join("tmp");
    let kept = tmp.join("in_target.d");
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
        let [first, second, root] = ["first", "second", "root"].map(|name| work.path().join(name));
        let element = Arc::new(element("e").hook("install.d/50-e", "").build());
        let hooks = [("install.d/50-e".to_owned(), element)].into();
        let tasks = Tasks { hooks, ..Tasks::default() };
        for (path, text) in
            [("install.d/50-e", ""), ("files/e", ""), ("keys", "key"), ("install.d/data", "x")]
        {
            write(&first.join(path), text);
        }
        fs::create_dir_all(root.join("tmp")).unwrap();
        fs::create_dir_all(&second).unwrap();
        let mounts = [CacheMount { source: "pip".to_owned(), target: "/tmp/pip".to_owned() }];
        keep(&tasks, &mounts, &first, &root).unwrap();
        assert_eq!(restore(&second, &root).unwrap(), mounts);
        let names: Vec<_> = files_below(&second).unwrap();
        assert_eq!(names, [Path::new("install.d/data"), Path::new("keys")]);
        assert_eq!(fs::read_to_string(second.join("keys")).unwrap(), "key");
    }

    #[test]
    fn nothing_added_leaves_no_trace_and_no_link_is_followed() {
        let work = tempfile::tempdir().unwrap();
        let [hooks, root, outside] = ["hooks", "root", "outside"].map(|name| work.path().join(name));
        for directory in [&hooks, &root.join("tmp"), &outside] {
            fs::create_dir_all(directory).unwrap();
        }
        keep(&Tasks::default(), &[], &hooks, &root).unwrap();
        assert!(!root.join("tmp/in_target.d").exists());
        write(&hooks.join("keys"), "key");
        symlink(&outside, root.join("tmp/in_target.d")).unwrap();
        keep(&Tasks::default(), &[], &hooks, &root).unwrap();
        assert!(files_below(&outside).unwrap().is_empty());
    }
}
