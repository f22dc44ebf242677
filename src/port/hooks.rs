//! The hooks directory, and the logs of hooks.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{CacheMount, IoError};
use crate::element::Phase;
use crate::plan::{StepName, Tasks};

/// Lays out hooks directories.
pub trait HookFiles: Sync {
    /// Fills the empty directory `dir` with the files of the tasks' elements, the fragments in
    /// `environment.d`, and the input files in `files`. Hooks see it as `/tmp/in_target.d`. Owners,
    /// modes and content depend only on the tasks.
    ///
    /// # Errors
    /// [`HookFilesError::Changed`] if a file changed after the plan was made.
    fn lay_out(&self, tasks: &Tasks, dir: &Path) -> Result<(), HookFilesError>;

    /// Copies the elements that hooks on the host can read into the empty directory `dir`, each
    /// under its name.
    ///
    /// # Errors
    /// As [`HookFiles::lay_out`].
    fn show_elements(&self, tasks: &Tasks, dir: &Path) -> Result<(), HookFilesError>;

    /// Copies the files of the build host that hooks on the host read into the empty directory
    /// `dir`, named `0`, `1` and so on in order.
    ///
    /// # Errors
    /// As [`HookFiles::lay_out`].
    fn show_machine_files(&self, tasks: &Tasks, dir: &Path) -> Result<(), HookFilesError>;

    /// Fills the empty directory `dir`, which hooks on the host see as `TMP_BUILD_DIR`, with the
    /// names of the target and the hooks directory there, and with `parameters` of the disk.
    fn lay_out_build(&self, parameters: &str, dir: &Path) -> Result<(), HookFilesError>;

    /// Keeps the files that hooks on the host left in their directories (laid out for `tasks`), and
    /// the list of caches that they mounted, for later steps. Stores them below `/tmp` of the root
    /// at `root`. The files of the hooks directory go to `/tmp/in_target.d`, where hooks in the
    /// target see that directory.
    fn hand_over(
        &self,
        tasks: &Tasks,
        mounts: &[CacheMount],
        left: HostDirs<'_>,
        root: &Path,
    ) -> Result<(), HookFilesError>;

    /// Copies the files that hooks of lower steps left into the directories, and returns the caches
    /// that they mounted. Creates missing cache directories: on another host, only the layers were
    /// fetched.
    fn take_over(&self, dirs: HostDirs<'_>, root: &Path) -> Result<Vec<CacheMount>, HookFilesError>;

    /// Returns the states of the files that hooks on the host left in their working directory and
    /// beside the image. Leaves out files that it cannot read.
    fn left_states(&self, left: HostDirs<'_>) -> BTreeSet<LeftState>;

    /// Returns the names of the hooks of `phase` that other hooks added to the hooks directory
    /// `dir`, in the order in which they run. `dir` was laid out for `tasks`.
    fn added_hooks(&self, tasks: &Tasks, phase: Phase, dir: &Path) -> Result<Vec<String>, HookFilesError>;

    /// Returns the names of the fragments that hooks added to its `environment.d`, in byte order.
    fn added_fragments(&self, tasks: &Tasks, dir: &Path) -> Result<Vec<String>, HookFilesError>;

    /// Returns the files that hooks added to the hooks directory `dir` as input for plywood's own
    /// tasks, without those that the notes in the root at `root` list as done. The result holds
    /// paths in byte order.
    fn added_data(&self, tasks: &Tasks, dir: &Path, root: &Path) -> Result<Vec<String>, HookFilesError>;

    /// Records in the root at `root` that plywood has processed these files.
    fn note_acted(&self, paths: &[String], root: &Path) -> Result<(), HookFilesError>;

    /// Removes these hooks from the files that [`HookFiles::hand_over`] kept in the root at `root`,
    /// so that no later step runs them again.
    fn forget_hooks(&self, phase: Phase, names: &[String], root: &Path) -> Result<(), HookFilesError>;
}

/// Directories of the build host in which hooks on the host leave files for each other.
#[derive(Debug, Clone, Copy)]
pub struct HostDirs<'a> {
    /// The hooks directory, `TMP_HOOKS_PATH`.
    pub hooks: &'a Path,
    /// `TMP_BUILD_DIR`.
    pub build: &'a Path,
    /// The directory that builds share, [`super::View::CACHE`].
    pub cache: &'a Path,
    /// The working directory of hooks, [`crate::plan::WORK_DIR_ON_HOST`].
    pub work: &'a Path,
    /// The directory of the outputs, if it is another one.
    pub beside: Option<&'a Path>,
}

/// The state of a file that a hook has left. Another one means that the file was written again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftState {
    /// Its path in the directory.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Modification time, in seconds since 1970 and nanoseconds.
    pub modified: (i64, u64),
}

/// A hooks directory that could not be laid out.
#[derive(Debug, thiserror::Error)]
pub enum HookFilesError {
    #[error(transparent)]
    Io(#[from] IoError),
    #[error(
        "`{}` changed during the build and no longer matches the key of its step (build again, or copy it to a directory where \
         nothing changes it)",
        path.display()
    )]
    Changed { path: PathBuf },
}

/// Keeps the output of jobs.
pub trait Logs: Sync {
    /// Starts the log of one task; replaces an older log of the same name.
    fn create(
        &self,
        image: &str,
        step: &StepName,
        task: &str,
    ) -> io::Result<(PathBuf, Box<dyn Write + Send>)>;
}
