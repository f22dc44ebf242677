//! Carries files of hooks from step to step, and to the caller.
//!
//! Hooks of host phases leave files in three places: in the hooks directory, for hooks of target
//! phases; in the build directory, for each other; and in their working directory or beside the
//! image, for the caller. Hooks of the same step and of later steps need them.
//!
//! Between steps, the layer holds these files, below `/tmp`. In target phases, the hooks directory
//! is mounted over the kept copy of it. At the end of the build, plywood removes `/tmp` with
//! everything in it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use rustix::fs::FileType;

use super::io_error;
use crate::element::{Phase, is_data_for_plywood, is_hook_character, run_parts_order};
use crate::plan::{DISK_PARAMETERS, INSTALL_TYPE_FRAGMENT, Tasks, WORK_DIR_ON_HOST};
use crate::port::{CacheMount, HookFilesError, HostDirs, LeftState};
use crate::tree::{Dir, Entry, walk};

/// Directories in `/tmp` of a layer: files of the hooks directory, and files of the build
/// directory.
const HOOKS: &str = "in_target.d";
const BUILD: &str = "plywood-build";

/// The directory of fragments, which are sourced before each phase.
const ENVIRONMENT: &str = "environment.d";

/// The file that lists mounts of caches. Each line has the directory in the cache, a tab, and the
/// mount point in the target.
const MOUNTS: &str = "cache-mounts.tsv";

/// The file that lists the files of the hooks directory that plywood has acted on, one per line.
const ACTED: &str = "acted-on.list";

/// Directories that plywood copies into the image once: a later step that copied them again would
/// undo changes in between.
const COPIED_ONCE: [&str; 2] = ["init-scripts", "static"];

/// Entries that plywood itself puts into a hooks directory.
const OWN: [&str; 2] = ["dib-run-parts", "files"];

/// The directory in `/tmp` of a layer that holds files for the caller. `IN_WORK` is for the
/// caller's directory, and `BESIDE` for the directory of the image if that is another one.
const LEFT: &str = "plywood-left";
const IN_WORK: &str = "work";
const BESIDE: &str = "beside";

/// The directory of plywood's own mount points. It is among the files that hooks leave if they see
/// the directory of the image as `/tmp`.
const MOUNT_POINTS: &str = "plywood";

/// Copies files that hooks have left into the root at `root`, with a list of these mounts. From the
/// hooks directory it copies the files that are not from `tasks`.
pub(super) fn keep(
    tasks: &Tasks,
    mounts: &[CacheMount],
    left: HostDirs<'_>,
    root: &Path,
) -> Result<(), HookFilesError> {
    let is_kept = |path: &Path| is_added(tasks, path) && !runs_here(tasks, left.hooks, path);
    keep_files(left.hooks, place(root, HOOKS), is_kept)?;
    keep_files(left.build, place(root, BUILD), |path| path != Path::new(DISK_PARAMETERS))?;
    let is_shown = |path: &Path| {
        let place = Path::new(WORK_DIR_ON_HOST).join(path);
        let shown = tasks.machine.keys().chain(tasks.written.keys());
        shown.map(Path::new).any(|shown| place.starts_with(shown))
    };
    keep_files(left.work, place_left(root, IN_WORK), |path| !is_shown(path))?;
    if let Some(beside) = left.beside {
        let is_left = |path: &Path| !path.starts_with(MOUNT_POINTS);
        keep_files(beside, place_left(root, BESIDE), is_left)?;
    }
    let lines: String = mounts.iter().map(|mount| format!("{}\t{}\n", mount.source, mount.target)).collect();
    let Some(kept) = place(root, HOOKS).filter(|_| !lines.is_empty()) else { return Ok(()) };
    fs::create_dir_all(&kept).map_err(io_error("make directory", &kept))?;
    let path = kept.join(MOUNTS);
    // A hook may have put a symlink there. This process would follow it and write to a file of the
    // build host.
    remove_link(&path)?;
    fs::write(&path, lines).map_err(io_error("write", &path))
}

fn keep_files(
    dir: &Path,
    kept: Option<PathBuf>,
    is_added: impl Fn(&Path) -> bool,
) -> Result<(), HookFilesError> {
    let Some(kept) = kept.filter(|_| dir.is_dir()) else { return Ok(()) };
    let added = files_below(dir)?.into_iter().filter(|path| is_added(path));
    added.into_iter().try_for_each(|path| copy(&path, dir, &kept))
}

/// Copies the files that the steps below have kept to the directories, and returns the mounts that
/// they have listed.
pub(super) fn restore(dirs: HostDirs<'_>, root: &Path) -> Result<Vec<CacheMount>, HookFilesError> {
    restore_files(dirs.build, place(root, BUILD))?;
    restore_files(dirs.work, place_left(root, IN_WORK))?;
    if let Some(beside) = dirs.beside {
        restore_files(beside, place_left(root, BESIDE))?;
    }
    restore_files(dirs.hooks, place(root, HOOKS))?;
    let noted = place(root, Path::new(HOOKS).join(MOUNTS)).filter(|path| path.is_file());
    let mounts = noted.map_or_else(|| Ok(Vec::new()), |path| read_mounts(&path))?;
    for mount in &mounts {
        let cache = dirs.cache.join(&mount.source);
        if !cache.exists() {
            fs::create_dir_all(&cache).map_err(io_error("make directory", &cache))?;
        }
    }
    Ok(mounts)
}

/// A file that a hook has left for the caller, in an unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftFile {
    pub source: PathBuf,
    /// True if it is for the directory of the image, false if it is for the directory of the
    /// caller.
    pub is_beside_image: bool,
    /// Relative to that directory, without `..`.
    pub path: PathBuf,
}

impl LeftFile {
    /// Returns true if the file may be copied out of the layer. In a layer from a registry, a
    /// symlink could lead to other files, and a hidden file could configure the caller's tools.
    pub fn is_deliverable(&self) -> bool {
        let is_hidden = self.path.iter().any(|part| part.as_encoded_bytes().starts_with(b"."));
        !is_hidden && !self.source.is_symlink()
    }
}

/// Returns the files that hooks have left for the caller in an unpacked layer, in byte order of the
/// paths.
///
/// # Errors
/// If the layer cannot be read.
pub fn left_files(layer: &Path) -> Result<Vec<LeftFile>, HookFilesError> {
    let mut files = Vec::new();
    for (name, is_beside_image) in [(IN_WORK, false), (BESIDE, true)] {
        let Some(kept) = place_left(layer, name).filter(|kept| kept.is_dir()) else { continue };
        let found = files_below(&kept)?.into_iter();
        files.extend(found.map(|path| LeftFile { source: kept.join(&path), is_beside_image, path }));
    }
    Ok(files)
}

fn restore_files(dir: &Path, kept: Option<PathBuf>) -> Result<(), HookFilesError> {
    let Some(kept) = kept.filter(|kept| kept.is_dir()) else { return Ok(()) };
    let acted = acted(&kept)?;
    // A step whose elements have such a directory copies all of it. A file that an earlier step has
    // copied would be copied again, so it must not be restored.
    let is_done = |path: &Path| {
        COPIED_ONCE.iter().any(|dir| path.starts_with(dir))
            && acted.iter().any(|done| path == Path::new(done))
    };
    for path in files_below(&kept)? {
        let is_note = path == Path::new(MOUNTS) || path == Path::new(ACTED);
        if !is_note && !is_done(&path) && dir.join(&path).symlink_metadata().is_err() {
            copy(&path, &kept, dir)?;
        }
    }
    Ok(())
}

/// Returns the mounts that the file at `path` lists. The layer may come from a registry, so sources
/// that lead out of the cache are ignored.
fn read_mounts(path: &Path) -> Result<Vec<CacheMount>, HookFilesError> {
    let text = fs::read_to_string(path).map_err(io_error("read", path))?;
    let inside =
        |source: &str| Path::new(source).components().all(|part| matches!(part, Component::Normal(_)));
    let pairs = text.lines().filter_map(|line| line.split_once('\t')).filter(|(source, _)| inside(source));
    let mounts =
        pairs.map(|(source, target)| CacheMount { source: source.to_owned(), target: target.to_owned() });
    Ok(mounts.collect())
}

/// Returns the directory called `name` (relative) in `/tmp` of a root; `None` if a symlink would
/// lead out of it.
fn place(root: &Path, name: impl AsRef<Path>) -> Option<PathBuf> {
    let tmp = root.join("tmp");
    let kept = tmp.join(&name);
    // plywood reads and writes here as root, outside the sandbox. A hook, or a layer from a
    // registry, could use a symlink in any part of the path to read or replace files of the build
    // host.
    let mut parts = kept.ancestors().take(name.as_ref().components().count() + 1);
    (tmp.is_dir() && !parts.any(Path::is_symlink)).then_some(kept)
}

/// Returns the directory [`IN_WORK`] or [`BESIDE`] of files for the caller; `None` as for
/// [`place`].
fn place_left(root: &Path, name: &str) -> Option<PathBuf> {
    place(root, Path::new(LEFT).join(name))
}

/// Returns the names of the hooks of `phase` that hooks have added to the hooks directory `dir`:
/// the files that dib-run-parts would run, in its order.
pub(super) fn added_hooks(tasks: &Tasks, phase: Phase, dir: &Path) -> Result<Vec<String>, HookFilesError> {
    let is_hook = |name: &str| name.chars().all(is_hook_character);
    let mut names = added_names(tasks, phase.dir(), dir)?;
    let runs = |name: &String| is_hook(name) && is_executable(&dir.join(phase.dir()).join(name));
    names.retain(runs);
    names.sort_by(|a, b| run_parts_order(a, b));
    Ok(names)
}

/// Returns the names of the fragments that hooks have added to `environment.d`, in byte order.
pub(super) fn added_fragments(tasks: &Tasks, dir: &Path) -> Result<Vec<String>, HookFilesError> {
    let is_fragment = |name: &str| name.chars().all(|c| is_hook_character(c) || c == '.');
    let mut names = added_names(tasks, ENVIRONMENT, dir)?;
    names.retain(|name| is_fragment(name));
    Ok(names)
}

/// Returns the files that hooks have put into the hooks directory `dir` for plywood to act on,
/// without those that the root at `root` lists as done.
pub(super) fn added_data(tasks: &Tasks, dir: &Path, root: &Path) -> Result<Vec<String>, HookFilesError> {
    let acted = place(root, HOOKS).map_or_else(|| Ok(Vec::new()), |kept| acted(&kept))?;
    let paths = files_below(dir)?.into_iter().filter(|path| is_added(tasks, path));
    let paths = paths.filter_map(|path| path.to_str().map(str::to_owned));
    Ok(paths.filter(|path| is_data_for_plywood(path) && !acted.contains(path)).collect())
}

/// Lists these files of the hooks directory as done in the root at `root`.
pub(super) fn note_acted(paths: &[String], root: &Path) -> Result<(), HookFilesError> {
    let Some(kept) = place(root, HOOKS).filter(|_| !paths.is_empty()) else { return Ok(()) };
    fs::create_dir_all(&kept).map_err(io_error("make directory", &kept))?;
    let mut lines = acted(&kept)?;
    lines.extend_from_slice(paths);
    lines.sort();
    lines.dedup();
    let path = kept.join(ACTED);
    remove_link(&path)?;
    fs::write(&path, lines.iter().map(|line| format!("{line}\n")).collect::<String>())
        .map_err(io_error("write", &path))
}

fn acted(kept: &Path) -> Result<Vec<String>, HookFilesError> {
    let path = kept.join(ACTED);
    match path.symlink_metadata() {
        Ok(entry) if entry.is_file() => {
            let text = fs::read_to_string(&path).map_err(io_error("read", &path))?;
            Ok(text.lines().map(str::to_owned).collect())
        }
        _ => Ok(Vec::new()),
    }
}

/// Removes the kept copies of these hooks in the root at `root`.
pub(super) fn forget_hooks(phase: Phase, names: &[String], root: &Path) -> Result<(), HookFilesError> {
    let kept = place(root, Path::new(HOOKS).join(phase.dir()));
    for path in kept.iter().flat_map(|kept| names.iter().map(|name| kept.join(name))) {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", &path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Returns the names of the files and symlinks directly in `dir/below` that are not from `tasks`,
/// in byte order.
fn added_names(tasks: &Tasks, below: &str, dir: &Path) -> Result<Vec<String>, HookFilesError> {
    let path = dir.join(below);
    // A symlink may come from a layer of a registry. Following it would run files of the build host
    // as hooks.
    if path.is_symlink() || !path.is_dir() {
        return Ok(Vec::new());
    }
    let files = files_below(&path)?.into_iter().filter_map(|file| file.to_str().map(str::to_owned));
    let added = |name: &String| !name.contains('/') && is_added(tasks, &Path::new(below).join(name));
    Ok(files.filter(added).collect())
}

/// Returns true if the file at `path` of the hooks directory `dir` is a hook of a phase of these
/// tasks. Then this step runs it, and no later step may.
fn runs_here(tasks: &Tasks, dir: &Path, path: &Path) -> bool {
    let Some((phase, name)) = path.to_str().and_then(|path| path.split_once('/')) else { return false };
    let is_here = tasks.phases.iter().any(|own| own.dir() == phase);
    is_here && name.chars().all(is_hook_character) && is_executable(&dir.join(path))
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|entry| entry.is_file() && entry.permissions().mode() & 0o111 != 0)
}

fn is_added(tasks: &Tasks, path: &Path) -> bool {
    let text = path.to_string_lossy();
    let top = text.split('/').next().unwrap_or_default();
    let is_own = OWN.contains(&top) || path == Path::new(ENVIRONMENT).join(INSTALL_TYPE_FRAGMENT);
    !is_own && !tasks.hooks.contains_key(text.as_ref()) && !tasks.links.contains_key(text.as_ref())
}

/// Returns the files and symlinks below a directory, relative to it, in byte order.
fn files_below(dir: &Path) -> Result<Vec<PathBuf>, HookFilesError> {
    let mut found = Vec::new();
    walk(&Dir::open(dir)?, &mut |entry| {
        if matches!(entry.file_type(), FileType::RegularFile | FileType::Symlink) {
            found.push(path_of(entry));
        }
        Ok::<_, HookFilesError>(())
    })?;
    Ok(found)
}

fn path_of(entry: &Entry<'_>) -> PathBuf {
    OsStr::from_bytes(&entry.path).into()
}

/// Returns the states of the files that hooks of host phases have left in their working directory
/// and beside the image, as far as they can be read.
pub(super) fn left_states(left: HostDirs<'_>) -> BTreeSet<LeftState> {
    let mut states = BTreeSet::new();
    for dir in [Some(left.work), left.beside].into_iter().flatten() {
        if let Ok(dir) = Dir::open(dir) {
            note_states(&dir, &mut states);
        }
    }
    states
}

/// Adds the states of the files below `dir`. A directory that cannot be read only leaves a warning
/// out, and the other directories are still read.
fn note_states(dir: &Dir<'_>, states: &mut BTreeSet<LeftState>) {
    for entry in dir.entries().into_iter().flatten().flatten() {
        if !entry.is_directory() {
            let (bytes, stat) = (entry.stat.st_size as u64, &entry.stat);
            let modified = (stat.st_mtime, stat.st_mtime_nsec);
            states.insert(LeftState { path: path_of(&entry), bytes, modified });
        } else if let Ok(dir) = entry.enter() {
            note_states(&dir, states);
        }
    }
}

/// Copies the file or symlink at `path` below `from` to the same place below `to`.
fn copy(path: &Path, from: &Path, to: &Path) -> Result<(), HookFilesError> {
    let (source, target) = (from.join(path), to.join(path));
    make_parents(path, to)?;
    remove_link(&target)?;
    if source.is_symlink() {
        let link = fs::read_link(&source).map_err(io_error("read", &source))?;
        return symlink(link, &target).map_err(io_error("make symlink", &target));
    }
    fs::copy(&source, &target).map(drop).map_err(io_error("copy", &source))
}

/// Creates the directories above `path` below `to`. Removes a symlink in the place of one, because
/// it may lead out of `to`.
fn make_parents(path: &Path, to: &Path) -> Result<(), HookFilesError> {
    let mut parents: Vec<_> =
        path.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()).collect();
    parents.reverse();
    for parent in parents.into_iter().map(|parent| to.join(parent)) {
        remove_link(&parent)?;
        fs::create_dir_all(&parent).map_err(io_error("make directory", &parent))?;
    }
    fs::create_dir_all(to).map_err(io_error("make directory", to))
}

fn remove_link(path: &Path) -> Result<(), HookFilesError> {
    if path.is_symlink() {
        fs::remove_file(path).map_err(io_error("remove", path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::element::fixture::element;
    use crate::oci::Digest;
    use crate::plan::InputFile;

    /// Returns directories of hooks that leave nothing for the caller.
    fn dirs<'a>(hooks: &'a Path, build: &'a Path, cache: &'a Path) -> HostDirs<'a> {
        HostDirs { hooks, build, cache, work: Path::new("/nonexistent"), beside: None }
    }

    #[test]
    fn files_for_the_caller_are_delivered_from_the_layer() {
        let work = tempfile::tempdir().unwrap();
        let [left, beside, empty, root, caller, images, later] =
            ["left", "beside", "empty", "root", "caller", "images", "later"]
                .map(|name| work.path().join(name));
        for directory in [&empty, &root.join("tmp"), &caller, &images, &later] {
            fs::create_dir_all(directory).unwrap();
        }
        for path in ["web-schema.yaml", "out/notes", ".hidden", "ca.pem", "escape"] {
            write(&left.join(path), path);
        }
        fs::remove_file(left.join("escape")).unwrap();
        symlink("/etc/shadow", left.join("escape")).unwrap();
        write(&beside.join("web.vmlinuz"), "kernel");
        write(&beside.join("plywood/mnt/x"), "mount point");
        let shown =
            InputFile { path: PathBuf::new(), digest: Digest::of(""), is_executable: false, content: None };
        let machine = [(format!("{WORK_DIR_ON_HOST}/ca.pem"), shown)].into();
        let tasks = Tasks { machine, ..Tasks::default() };
        let dirs = |work, beside| HostDirs { hooks: &empty, build: &empty, cache: &empty, work, beside };
        keep(&tasks, &[], dirs(&left, Some(&beside)), &root).unwrap();
        restore(dirs(&later, None), &root).unwrap();
        assert_eq!(fs::read_to_string(later.join("web-schema.yaml")).unwrap(), "web-schema.yaml");
        assert!(
            !later.join("ca.pem").exists(),
            "files of the build host are not kept: every step shows them again"
        );

        let delivered = |file: &LeftFile| (file.is_beside_image, file.path.to_string_lossy().into_owned());
        let files = left_files(&root).unwrap();
        let (deliverable, refused): (Vec<_>, Vec<_>) = files.iter().partition(|file| file.is_deliverable());
        let found: Vec<_> = deliverable.into_iter().map(delivered).collect();
        let expected = [(false, "out/notes"), (false, "web-schema.yaml"), (true, "web.vmlinuz")];
        assert_eq!(found, expected.map(|(beside, path)| (beside, path.to_owned())));
        let refused: Vec<_> = refused.into_iter().map(|file| file.path.as_path()).collect();
        assert_eq!(refused, [Path::new(".hidden"), Path::new("escape")]);
    }

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn added_files_and_mounts_reach_later_steps_through_the_layer() {
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
        keep(&tasks, &mounts, dirs(&first, &build, &cache), &root).unwrap();
        assert_eq!(restore(dirs(&second, &later, &cache), &root).unwrap(), [pip]);
        assert!(cache.join("pip").is_dir());
        let names: Vec<_> = files_below(&second).unwrap();
        assert_eq!(names, [Path::new("install.d/data"), Path::new("keys")]);
        assert_eq!(fs::read_to_string(second.join("keys")).unwrap(), "key");
        assert_eq!(files_below(&later).unwrap(), [Path::new("a/b")]);
    }

    #[test]
    fn added_hooks_are_told_apart_from_laid_out_hooks_and_run_in_one_step() {
        let work = tempfile::tempdir().unwrap();
        let [hooks, build, root] = ["hooks", "build", "root"].map(|name| work.path().join(name));
        let element = Arc::new(element("e").hook("install.d/50-e", "").build());
        let laid_out = [("install.d/50-e".to_owned(), element)].into();
        let tasks = Tasks { hooks: laid_out, phases: vec![Phase::Install], ..Tasks::default() };
        let fragment = format!("environment.d/{INSTALL_TYPE_FRAGMENT}");
        let executable =
            ["install.d/50-e", "install.d/9-x", "install.d/10-x", "install.d/x.sh", "finalise.d/10-x"];
        for path in executable.into_iter().chain(["install.d/data", "environment.d/60-x.sh", &fragment]) {
            write(&hooks.join(path), "");
        }
        for path in executable {
            fs::set_permissions(hooks.join(path), fs::Permissions::from_mode(0o755)).unwrap();
        }
        for directory in [&build, &root.join("tmp")] {
            fs::create_dir_all(directory).unwrap();
        }
        let added = added_hooks(&tasks, Phase::Install, &hooks).unwrap();
        assert_eq!(added, ["9-x", "10-x"]);
        assert!(added_hooks(&tasks, Phase::PostInstall, &hooks).unwrap().is_empty());
        assert_eq!(added_fragments(&tasks, &hooks).unwrap(), ["60-x.sh"]);
        keep(&tasks, &[], dirs(&hooks, &build, &build), &root).unwrap();
        let kept = || files_below(&root.join("tmp/in_target.d")).unwrap();
        let expected = ["environment.d/60-x.sh", "finalise.d/10-x", "install.d/data", "install.d/x.sh"]
            .map(PathBuf::from);
        assert_eq!(kept(), expected);
        forget_hooks(Phase::Finalise, &["10-x".to_owned(), "absent".to_owned()], &root).unwrap();
        assert_eq!(kept().len(), 3);
    }

    #[test]
    fn no_directory_is_kept_without_added_files_and_no_link_is_followed() {
        let work = tempfile::tempdir().unwrap();
        let [hooks, build, root, outside] =
            ["hooks", "build", "root", "outside"].map(|name| work.path().join(name));
        for directory in [&hooks, &build, &root.join("tmp"), &outside] {
            fs::create_dir_all(directory).unwrap();
        }
        let left = dirs(&hooks, &build, &outside);
        keep(&Tasks::default(), &[], left, &root).unwrap();
        assert!(!root.join("tmp/in_target.d").exists());
        write(&hooks.join("keys"), "key");
        symlink(&outside, root.join("tmp/in_target.d")).unwrap();
        keep(&Tasks::default(), &[], left, &root).unwrap();
        assert!(files_below(&outside).unwrap().is_empty());
    }

    /// A hook or a layer from a registry may plant such links.
    #[test]
    fn planted_links_among_kept_files_are_not_followed() {
        let work = tempfile::tempdir().unwrap();
        let [hooks, left, later, root, outside] =
            ["hooks", "left", "later", "root", "outside"].map(|name| work.path().join(name));
        for directory in [&hooks, &later, &root.join("tmp/plywood-left"), &root.join("tmp/in_target.d")] {
            fs::create_dir_all(directory).unwrap();
        }
        write(&outside.join("50-x"), "of the host");
        fs::set_permissions(outside.join("50-x"), fs::Permissions::from_mode(0o755)).unwrap();
        for link in ["plywood-left/work", "plywood-left/beside", "in_target.d/install.d"] {
            symlink(&outside, root.join("tmp").join(link)).unwrap();
        }
        let dirs = |work, beside| HostDirs { hooks: &hooks, build: &hooks, cache: &hooks, work, beside };
        restore(dirs(&later, Some(&later)), &root).unwrap();
        assert!(files_below(&later).unwrap().is_empty(), "files of the host are not handed to hooks");
        let tasks = Tasks::default();
        assert!(added_hooks(&tasks, Phase::Install, &hooks).unwrap().is_empty());
        assert_eq!(left_files(&root).unwrap(), []);
        write(&left.join("new"), "");
        keep(&tasks, &[], dirs(&left, Some(&left)), &root).unwrap();
        forget_hooks(Phase::Install, &["50-x".to_owned()], &root).unwrap();
        assert_eq!(files_below(&outside).unwrap(), [Path::new("50-x")]);
    }

    #[test]
    fn a_link_in_the_place_of_the_list_of_mounts_is_not_followed() {
        let work = tempfile::tempdir().unwrap();
        let [empty, root, outside] = ["empty", "root", "outside"].map(|name| work.path().join(name));
        fs::create_dir(&empty).unwrap();
        write(&outside, "pip\t/of-the-host\n");
        let noted = root.join("tmp/in_target.d/cache-mounts.tsv");
        fs::create_dir_all(noted.parent().unwrap()).unwrap();
        symlink(&outside, &noted).unwrap();
        let dirs = HostDirs { hooks: &empty, build: &empty, cache: &empty, work: &empty, beside: None };
        assert_eq!(restore(dirs, &root).unwrap(), []);
        let mount = CacheMount { source: "pip".to_owned(), target: "/tmp/pip".to_owned() };
        keep(&Tasks::default(), std::slice::from_ref(&mount), dirs, &root).unwrap();
        assert_eq!(fs::read_to_string(&outside).unwrap(), "pip\t/of-the-host\n");
        assert!(!noted.is_symlink());
        assert_eq!(read_mounts(&noted).unwrap(), [mount]);
    }

    #[test]
    fn links_are_carried_over_and_not_followed() {
        let work = tempfile::tempdir().unwrap();
        let [hooks, build, root, outside] =
            ["hooks", "build", "root", "outside"].map(|name| work.path().join(name));
        for directory in [&hooks.join("install.d"), &build, &root.join("tmp"), &outside] {
            fs::create_dir_all(directory).unwrap();
        }
        let left = dirs(&hooks, &build, &outside);
        symlink("../lib/x", hooks.join("install.d/50-x")).unwrap();
        symlink(&outside, hooks.join("d")).unwrap();
        keep(&Tasks::default(), &[], left, &root).unwrap();
        let kept = root.join("tmp/in_target.d");
        assert_eq!(fs::read_link(kept.join("install.d/50-x")).unwrap(), Path::new("../lib/x"));
        fs::remove_file(hooks.join("d")).unwrap();
        write(&hooks.join("d/file"), "inside");
        keep(&Tasks::default(), &[], left, &root).unwrap();
        assert_eq!(fs::read_to_string(kept.join("d/file")).unwrap(), "inside");
        assert!(files_below(&outside).unwrap().is_empty());
    }
}
