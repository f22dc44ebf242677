//! The directories of the build host that hooks of one step see.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::facts::{BUILD_DIR_ON_HOST, HOOKS_IN_TARGET, HOOKS_ON_HOST, IMAGE_DIR_ON_HOST, LOCKS_ON_HOST};
use super::surroundings::Surroundings;
use crate::plan::{ELEMENTS_ON_HOST, Tasks, WORK_DIR_ON_HOST};
use crate::port::{Access, Bind, CacheMount, HostDirs, LayerStore, StoreError, View, Workspace};

/// The name in the store of the directory that hooks on the host see as [`View::CACHE`].
const CACHE: &str = "dib";

/// The name in the store of the directory that they see as `DIB_LOCKFILES`.
const LOCKS: &str = "dib-lockfiles";

/// The lock directory of builds whose cache is a directory of the caller: any image may use that
/// cache, so all of them have to lock the same files.
const SHARED: &str = "shared";

/// Directories of the host that programs need to write to: those of container engines, which
/// elements call that start from a container image, and `/var/tmp`. Hooks get empty ones, which end
/// with the step: nothing there is in a key. Name of the stand-in, place, and mode.
const WRITTEN_ON_HOST: [(&str, &str, u32); 2] =
    [("containers", "/var/lib/containers", 0o755), ("var-tmp", "/var/tmp", 0o1777)];

/// Directories of the build host.
pub(super) struct Places {
    /// The hooks directory, filled by [`crate::port::HookFiles`].
    pub(super) hooks: PathBuf,
    /// Files that hooks on the host leave for each other, filled by the same port.
    pub(super) build: PathBuf,
    /// Whole elements by name, filled by the same port.
    pub(super) elements: PathBuf,
    /// Copies of files of the build host, filled by the same port.
    pub(super) machine: PathBuf,
    /// Temporary files of hooks on the host.
    image: PathBuf,
    /// Replacements of directories that the host has.
    written: Vec<(PathBuf, &'static str)>,
    /// Files that hooks on the host leave in their working directory.
    work: PathBuf,
    /// Files that they leave beside the image, with the path at which they see it; `None` if that
    /// is their working directory.
    beside: Option<(PathBuf, String)>,
    /// Kept between builds.
    cache: PathBuf,
    /// Of files to lock.
    locks: PathBuf,
    /// Those of the caller, in the final stage.
    surroundings: Option<Surroundings>,
}

impl Places {
    /// Makes the directories of a step beside its layer; `surroundings` are shown, too. Downloads
    /// of hooks are kept in the caller's directory, if there is one, or else in that of the store
    /// which the builds of `sharing` have.
    pub(super) fn make(
        workspace: &dyn Workspace,
        store: &dyn LayerStore,
        (cache, sharing): (Option<PathBuf>, &str),
        surroundings: Option<Surroundings>,
        tasks: &Tasks,
    ) -> Result<Self, StoreError> {
        let work = workspace.scratch("work", 0o755)?;
        // The name of an image may be a path, and hooks write files beside that path. Therefore its
        // directory must exist.
        let image = tasks.environment.get("IMAGE_NAME").map(String::as_str).unwrap_or_default();
        let beside = match ImagePlace::of(image) {
            // In the final stage the caller's own directories are shown.
            _ if surroundings.is_some() => None,
            ImagePlace::Within(below) => {
                workspace.scratch(&format!("work/{below}"), 0o755)?;
                None
            }
            ImagePlace::At(directory) => Some((workspace.scratch("beside", 0o755)?, directory)),
            ImagePlace::Hidden => None,
        };
        Ok(Self {
            work,
            beside,
            hooks: workspace.scratch("hooks", 0o755)?,
            build: workspace.scratch("build", 0o755)?,
            elements: workspace.scratch("elements", 0o755)?,
            machine: workspace.scratch("machine", 0o755)?,
            image: workspace.scratch("image", 0o755)?,
            written: written_on_host(workspace)?,
            locks: store.cache(&format!("{LOCKS}/{}", if cache.is_some() { SHARED } else { sharing }))?,
            cache: cache.map_or_else(|| store.cache(&format!("{CACHE}/{sharing}")), Ok)?,
            surroundings,
        })
    }

    /// Returns the directories in which hooks on the host leave files for each other.
    pub(super) fn left(&self) -> HostDirs<'_> {
        HostDirs {
            hooks: &self.hooks,
            build: &self.build,
            cache: &self.cache,
            work: &self.work,
            beside: self.beside.as_ref().map(|(path, _)| path.as_path()),
        }
    }

    /// Returns the same directories if no one keeps the files that hooks leave beside the image and
    /// in their working directory; `None` if these are directories of the caller.
    pub(super) fn lost(&self) -> Option<HostDirs<'_>> {
        self.surroundings.is_none().then(|| self.left())
    }

    /// Returns the mounts of these directories in a job with this view.
    pub(super) fn binds(&self, view: View) -> Vec<Bind> {
        match view {
            View::Target => vec![bind(&self.hooks, HOOKS_IN_TARGET, Access::ReadOnly)],
            // Hooks on the host leave files in the hooks directory for those in the target.
            View::Host | View::HostBare => {
                let own = [
                    bind(&self.hooks, HOOKS_ON_HOST, Access::ReadWrite),
                    bind(&self.build, BUILD_DIR_ON_HOST, Access::ReadWrite),
                    bind(&self.elements, ELEMENTS_ON_HOST, Access::ReadOnly),
                    bind(&self.image, IMAGE_DIR_ON_HOST, Access::ReadWrite),
                    bind(&self.cache, View::CACHE, Access::ReadWrite),
                    bind(&self.locks, LOCKS_ON_HOST, Access::ReadWrite),
                ];
                let work = bind(&self.work, WORK_DIR_ON_HOST, Access::ReadWrite);
                let beside = self.beside.iter().map(|(path, place)| bind(path, place, Access::ReadWrite));
                let written = self.written.iter();
                let written = written.map(|(path, place)| bind(path, place, Access::ReadWrite));
                let surroundings = self.surroundings.iter().flat_map(Surroundings::binds);
                // In the order of mounting: a directory that may contain others comes first. The
                // caller's directories may be below `/var/tmp`, and plywood's own below the
                // directory of the image.
                written.chain(surroundings).chain(beside).chain(own).chain([work]).collect()
            }
        }
    }

    /// Returns the files of the machine that hooks on the host see.
    pub(super) fn machine_binds<'a>(&'a self, tasks: &'a Tasks) -> impl Iterator<Item = Bind> + 'a {
        let inputs = tasks
            .machine
            .keys()
            .enumerate()
            .map(|(number, place)| bind(&self.machine.join(number.to_string()), place, Access::ReadOnly));
        // A log may have been removed since the plan was made.
        let written = tasks.written.iter().filter(|(_, path)| path.exists());
        inputs.chain(written.map(|(place, path)| bind(path, place, Access::ReadWrite)))
    }

    /// Returns where a job with this view starts: hooks on the host may write there, as they do
    /// where diskimage-builder is called.
    pub(super) fn working_directory(&self, view: View) -> String {
        match (view, &self.surroundings) {
            (View::Target, _) => "/".to_owned(),
            (_, Some(callers)) => callers.directory.to_string_lossy().into_owned(),
            (_, None) => WORK_DIR_ON_HOST.to_owned(),
        }
    }

    /// Returns a mount that a hook made, to be made again.
    pub(super) fn cache_bind(&self, mount: &CacheMount, view: View) -> Bind {
        let target = match view {
            View::Target => mount.target.clone(),
            View::Host | View::HostBare => format!("{}{}", View::HOST_MOUNT, mount.target),
        };
        bind(&self.cache.join(&mount.source), &target, Access::ReadWrite)
    }
}

/// Creates replacements of those directories in [`WRITTEN_ON_HOST`] that the host has.
fn written_on_host(workspace: &dyn Workspace) -> Result<Vec<(PathBuf, &'static str)>, StoreError> {
    // A mount at a link to `/tmp` would cover the hooks' own `/tmp`, and with it the target.
    let needs_one =
        |place: &str| fs::canonicalize(place).is_ok_and(|found| found.is_dir() && !found.starts_with("/tmp"));
    let places = WRITTEN_ON_HOST.into_iter().filter(|(_, place, _)| needs_one(place));
    places.map(|(name, place, mode)| Ok((workspace.scratch(name, mode)?, place))).collect()
}

/// The directory of an image, as hooks see it by `IMAGE_NAME`.
#[derive(Debug, PartialEq, Eq)]
enum ImagePlace {
    /// Below the directory that they start in.
    Within(String),
    /// This one.
    At(String),
    /// A directory that holds plywood's own directories: a mount there would cover them.
    Hidden,
}

impl ImagePlace {
    fn of(image: &str) -> Self {
        let directory = Path::new(image).parent().unwrap_or(Path::new(""));
        let steps = directory.components();
        if steps.clone().all(|step| matches!(step, Component::Normal(_) | Component::CurDir)) {
            return ImagePlace::Within(directory.to_string_lossy().into_owned());
        }
        let place = normal(&Path::new(WORK_DIR_ON_HOST).join(directory));
        let is_free = |own: &str| !Path::new(own).starts_with(&place);
        match place == Path::new("/tmp") || is_free(WORK_DIR_ON_HOST) && is_free(View::HOST_MOUNT) {
            true => ImagePlace::At(place.to_string_lossy().into_owned()),
            false => ImagePlace::Hidden,
        }
    }
}

/// Returns an absolute path without steps up. By its names alone: the directories are those of the
/// sandbox, not of this process.
fn normal(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::from("/"), |mut normal, step| {
        match step {
            Component::ParentDir => drop(normal.pop()),
            Component::Normal(name) => normal.push(name),
            _ => {}
        }
        normal
    })
}

fn bind(source: &Path, target: &str, access: Access) -> Bind {
    Bind { source: source.to_owned(), target: target.to_owned(), access }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_image_decides_its_place() {
        let at = |place: &str| ImagePlace::At(place.to_owned());
        for (image, expected) in [
            ("web", ImagePlace::Within(String::new())),
            ("out/web", ImagePlace::Within("out".to_owned())),
            ("/srv/images/web", at("/srv/images")),
            ("/srv/x/../web", at("/srv")),
            ("../out/web", at("/tmp/plywood/caller/up/up/up/out")),
            ("/tmp/web", at("/tmp")),
            ("/tmp/plywood/web", ImagePlace::Hidden),
            ("/web", ImagePlace::Hidden),
        ] {
            assert_eq!(ImagePlace::of(image), expected, "{image}");
        }
    }
}
