//! The hooks directory, and the logs of what ran.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{CacheMount, IoError};
use crate::element::Phase;
use crate::plan::Tasks;

/// Lays out hooks directories.
pub trait HookFiles: Sync {
    /// Fills the empty directory `dir` with the files of the tasks' elements, the fragments in `environment.d`, and the
    /// input files in `files`: what hooks see as `/tmp/in_target.d`. Owners, modes and content depend on the tasks alone.
    ///
    /// # Errors
    /// [`HookFilesError::Changed`] if a file is not what it was when the plan was made.
    fn lay_out(&self, tasks: &Tasks, dir: &Path) -> Result<(), HookFilesError>;

    /// Copies the elements that hooks on the host can look into into the empty directory `dir`, each by its name.
    ///
    /// # Errors
    /// As [`HookFiles::lay_out`].
    fn show_elements(&self, tasks: &Tasks, dir: &Path) -> Result<(), HookFilesError>;

    /// Copies the files of the machine that hooks on the host read into the empty directory `dir`: the first one is called
    /// `0`, and so on.
    ///
    /// # Errors
    /// As [`HookFiles::lay_out`].
    fn show_machine_files(&self, tasks: &Tasks, dir: &Path) -> Result<(), HookFilesError>;

    /// Fills the empty directory `dir`, which hooks on the host see as `TMP_BUILD_DIR`: the target and the hooks directory by the
    /// names that they have there, and `parameters` of the disk.
    fn lay_out_build(&self, parameters: &str, dir: &Path) -> Result<(), HookFilesError>;

    /// Keeps what hooks on the host left in their directories (laid out for `tasks`), and the caches they mounted, for
    /// later steps: below `/tmp` of the root at `root`. What is of the hooks directory is in `/tmp/in_target.d`, where hooks in
    /// the target see that directory.
    fn hand_over(
        &self,
        tasks: &Tasks,
        mounts: &[CacheMount],
        left: HostDirs<'_>,
        root: &Path,
    ) -> Result<(), HookFilesError>;

    /// Adds to the directories what hooks of steps below left there, and returns the caches they mounted; makes those of them that
    /// are not there, as on a machine that has only taken the layers over.
    fn take_over(&self, dirs: HostDirs<'_>, root: &Path) -> Result<Vec<CacheMount>, HookFilesError>;

    /// Returns the names of the hooks of `phase` that other hooks have put into the hooks directory `dir`, which was laid out for
    /// `tasks`, as they would run.
    fn added_hooks(&self, tasks: &Tasks, phase: Phase, dir: &Path) -> Result<Vec<String>, HookFilesError>;

    /// Returns the names of the fragments that hooks have put into its `environment.d`, in byte order.
    fn added_fragments(&self, tasks: &Tasks, dir: &Path) -> Result<Vec<String>, HookFilesError>;

    /// Returns the files in the hooks directory `dir` that hooks have put there for plywood's own work, and that it has not acted on
    /// yet by the notes in the root at `root`: paths, in byte order.
    fn added_data(&self, tasks: &Tasks, dir: &Path, root: &Path) -> Result<Vec<String>, HookFilesError>;

    /// Notes in the root at `root` that these files have been acted on.
    fn note_acted(&self, paths: &[String], root: &Path) -> Result<(), HookFilesError>;

    /// Takes away what [`HookFiles::hand_over`] has kept of these hooks in the root at `root`, for no later step to run them again.
    fn forget_hooks(&self, phase: Phase, names: &[String], root: &Path) -> Result<(), HookFilesError>;
}

/// Directories of the machine in which hooks on the host leave files for each other.
#[derive(Debug, Clone, Copy)]
pub struct HostDirs<'a> {
    /// The hooks directory, `TMP_HOOKS_PATH`.
    pub hooks: &'a Path,
    /// `TMP_BUILD_DIR`.
    pub build: &'a Path,
    /// What builds share, [`super::View::CACHE`].
    pub cache: &'a Path,
    /// The directory that they start in, [`crate::plan::WORK_DIR_ON_HOST`].
    pub work: &'a Path,
    /// The directory that the image is to be in, if that is another one.
    pub beside: Option<&'a Path>,
}

/// A hooks directory that could not be laid out.
#[derive(Debug, thiserror::Error)]
pub enum HookFilesError {
    #[error(transparent)]
    Io(#[from] IoError),
    #[error(
        "`{}` changed during the build, so hooks would not see what their step's key says (build again, or copy it to where \
         nothing changes it)",
        path.display()
    )]
    Changed { path: PathBuf },
}

/// Keeps what jobs print.
pub trait Logs: Sync {
    /// Starts the log of one task; an older one of the same name is replaced.
    fn create(&self, image: &str, step: &str, task: &str) -> io::Result<(PathBuf, Box<dyn Write + Send>)>;
}
