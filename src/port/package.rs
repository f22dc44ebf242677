//! What package managers need beyond the root file system: mirrors, indices, downloads.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::{Bind, Job};
use crate::distro::{BaseDefinition, Mmdebstrap};
use crate::element::Place;

/// Gives steps access to package repositories. Mirrors, indices and downloads never get into a layer.
pub trait Packages: Sync {
    /// Opens a session for one step: private copies of the shared downloads, in `scratch`, so that two builds at once do
    /// not wait for each other's locks. Without a base, the image has package sources of its own.
    fn session<'a>(
        &'a self,
        base: Option<&'a BaseDefinition>,
        scratch: &Path,
    ) -> Result<Box<dyn PackageSession + 'a>, PackageError>;
}

/// Package runs of one step.
pub trait PackageSession {
    /// Returns the job that makes the root file system `source` in an empty root.
    fn bootstrap(&self, source: &Mmdebstrap, source_date_epoch: i64) -> Result<Job, PackageError>;

    /// Returns the mounts that a job on the root at `root` needs. They change with the root's own package sources, so
    /// they are asked for before each job.
    fn binds(&self, root: &Path) -> Result<Vec<Bind>, PackageError>;

    /// Says whether package runs have something of their own at this place of the target.
    fn serves(&self, target: &str) -> bool;

    /// Returns the mounts that every job needs to reach the network as the caller does, on the host, too.
    fn network_binds(&self) -> Vec<Bind>;

    /// Returns the variables that go with the mounts of a job at `place`: never a part of a key.
    fn environment(&self, place: Place) -> BTreeMap<String, String>;

    /// Says whether the package indices are older than the package sources of the root at `root`.
    fn is_index_stale(&self, root: &Path) -> Result<bool, PackageError>;

    /// Notes that the indices were refreshed for the root at `root`.
    fn index_refreshed(&self, root: &Path) -> Result<(), PackageError>;

    /// Says whether an update of the initramfs was asked for and put off, and forgets it.
    fn take_initramfs_request(&self) -> bool;

    /// Hands new downloads to later builds.
    fn close(self: Box<Self>) -> Result<(), PackageError>;
}

/// Package repositories that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The machine's own configuration names no mirror that fits.
    #[error("no mirror for {distro} `{release}`: `{variable}` is not set, and `{}` names none", etc_apt.display())]
    NoMirror {
        /// The distribution.
        distro: String,
        /// Its release.
        release: String,
        /// The variable that could name one.
        variable: &'static str,
        /// Where the machine's own configuration was looked for.
        etc_apt: PathBuf,
    },
    /// The program that makes the base is not installed.
    #[error("program `{program}` not found")]
    ToolMissing {
        /// Its name.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// Reading or writing failed.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried, in the imperative.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}
