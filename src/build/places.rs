//! The directories of the machine that hooks of one step see.

use std::path::{Path, PathBuf};

use super::facts::{BUILD_DIR_ON_HOST, HOOKS_ON_HOST, IMAGE_DIR_ON_HOST, LOCKS_ON_HOST};
use super::step::HOOKS_IN_TARGET;
use super::surroundings::Surroundings;
use crate::plan::{ELEMENTS_ON_HOST, Tasks};
use crate::port::{Access, Bind, CacheMount, HostDirs, LayerStore, StoreError, View, Workspace};

/// What hooks on the host see as [`View::CACHE`], by its name in the store.
const CACHE: &str = "dib";

/// What they see as `DIB_LOCKFILES`, likewise.
const LOCKS: &str = "dib-lockfiles";

/// Directories of the machine.
pub(super) struct Places {
    /// The hooks directory, filled by [`crate::port::HookFiles`].
    pub(super) hooks: PathBuf,
    /// For what hooks on the host leave for each other, filled likewise.
    pub(super) build: PathBuf,
    /// Whole elements by name, filled likewise.
    pub(super) elements: PathBuf,
    /// Copies of the machine's files, filled likewise.
    pub(super) machine: PathBuf,
    /// For what hooks on the host leave beside the image.
    image: PathBuf,
    /// Kept between builds.
    cache: PathBuf,
    /// Of files to lock.
    locks: PathBuf,
    /// Those of the caller, in the final stage.
    surroundings: Option<Surroundings>,
}

impl Places {
    /// Makes the directories of a step beside its layer, but for the caller's cache, if there is one; `surroundings` are shown, too.
    pub(super) fn make(
        workspace: &dyn Workspace,
        store: &dyn LayerStore,
        cache: Option<PathBuf>,
        surroundings: Option<Surroundings>,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            hooks: workspace.scratch("hooks")?,
            build: workspace.scratch("build")?,
            elements: workspace.scratch("elements")?,
            machine: workspace.scratch("machine")?,
            image: workspace.scratch("image")?,
            cache: cache.map_or_else(|| store.cache(CACHE), Ok)?,
            locks: store.cache(LOCKS)?,
            surroundings,
        })
    }

    /// Returns those in which hooks on the host leave files for each other.
    pub(super) fn left(&self) -> HostDirs<'_> {
        HostDirs { hooks: &self.hooks, build: &self.build, cache: &self.cache }
    }

    /// Returns what a job with this view sees of them.
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
                self.surroundings.iter().flat_map(Surroundings::binds).chain(own).collect()
            }
        }
    }

    /// Returns the files of the machine that hooks on the host see.
    pub(super) fn machine_binds<'a>(&'a self, tasks: &'a Tasks) -> impl Iterator<Item = Bind> + 'a {
        let places = tasks.machine.keys().enumerate();
        places.map(|(number, place)| bind(&self.machine.join(number.to_string()), place, Access::ReadOnly))
    }

    /// Returns where a job with this view starts: hooks on the host may write there, as they do where diskimage-builder is called.
    pub(super) fn working_directory(&self, view: View) -> String {
        match (view, &self.surroundings) {
            (View::Target, _) => "/".to_owned(),
            (_, Some(callers)) => callers.directory.to_string_lossy().into_owned(),
            (_, None) => IMAGE_DIR_ON_HOST.to_owned(),
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

fn bind(source: &Path, target: &str, access: Access) -> Bind {
    Bind { source: source.to_owned(), target: target.to_owned(), access }
}
