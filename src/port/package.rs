//! The needs of package managers besides the root file system: mirrors, indices, downloads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Bind, IoError, Job};
use crate::distro::{BaseDefinition, Dnf, Mmdebstrap};
use crate::element::{Environment, Place};

/// Gives steps access to package repositories. Mirrors, indices and downloads never get into a
/// layer.
pub trait Packages: Sync {
    /// Opens a session for one step. It uses private copies of the shared downloads, in `scratch`,
    /// so that concurrent builds do not wait for each other's locks. Without a base, the image has
    /// package sources of its own. Jobs see `hooks` as their hooks directory, which package sources
    /// may refer to.
    fn session<'a>(
        &'a self,
        base: Option<&'a BaseDefinition>,
        scratch: &Path,
        hooks: Option<&Path>,
    ) -> Result<Box<dyn PackageSession + 'a>, PackageError>;

    /// Returns the passwords of the build host that jobs can read, by secret name. Outputs redact
    /// them.
    fn secrets(&self) -> Environment;
}

/// The package operations of one step.
pub trait PackageSession {
    /// Returns the job that creates the root file system `source` in an empty root.
    fn bootstrap(
        &self,
        source: &Mmdebstrap,
        source_date_epoch: i64,
        earlier: EarlierDownloads,
    ) -> Result<Job, PackageError>;

    /// Returns a job of the creation of the root file system `source` in an empty root: its caller
    /// runs one for each stage, in order, with the tools of [`crate::distro::dnf::tools`].
    fn bootstrap_dnf(
        &self,
        source: &Dnf,
        source_date_epoch: i64,
        stage: DnfStage,
    ) -> Result<Job, PackageError>;

    /// Returns false if the bootstrap may have used an earlier download whose digest differs from
    /// its package indices.
    fn downloads_fitted(&self) -> Result<bool, PackageError>;

    /// Returns the mounts that a job on the root at `root` needs. They depend on the root's own
    /// package sources, so callers ask before each job.
    fn binds(&self, root: &Path) -> Result<Vec<Bind>, PackageError>;

    /// Returns the job that refreshes the package indices of the root at `root`. Only this job may
    /// change the indices that builds share. It starts from the shared indices and sees nothing
    /// that hooks wrote to theirs.
    fn refresh(&self, root: &Path) -> Result<Refresh, PackageError>;

    /// Returns true if the session mounts something of its own at this path of the target.
    fn serves(&self, target: &str) -> bool;

    /// Returns the mounts that every job, also on the host, needs to reach the network as the
    /// caller does.
    fn network_binds(&self) -> Vec<Bind>;

    /// Returns the variables that belong to the mounts of a job at `place`. They are never part of
    /// a key.
    fn environment(&self, place: Place) -> BTreeMap<String, String>;

    /// Prepares package operations on the root at `root`, and returns whether its package indices
    /// have to be refreshed. If they need no refresh, jobs see the earlier downloads that these
    /// indices name.
    ///
    /// # Errors
    /// [`PackageError::NoIndices`] in an offline build without indices.
    fn prepare_index(&self, root: &Path) -> Result<IndexState, PackageError>;

    /// Lets jobs use the indices of an earlier build after a refresh failed. Returns false if there
    /// are none, or if this host has a network, because the failure then has another reason.
    fn use_kept_indices(&self, root: &Path) -> Result<bool, PackageError>;

    /// Returns true if this build must not use the network.
    fn is_offline(&self) -> bool;

    /// Keeps the indices that a refresh or a bootstrap fetched for the root at `root`. Jobs then
    /// see them, and the earlier downloads that they name.
    fn index_refreshed(&self, root: &Path) -> Result<(), PackageError>;

    /// Returns true if an update of the initramfs was requested and deferred, and clears the
    /// request.
    fn take_initramfs_request(&self) -> bool;

    /// Shares new downloads with later builds.
    fn close(self: Box<Self>) -> Result<(), PackageError>;
}

/// The command that refreshes package indices, and its mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refresh {
    pub argv: Vec<String>,
    pub binds: Vec<Bind>,
}

/// The stages of a bootstrap by dnf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnfStage {
    /// Fetches the indices, so that earlier downloads can be compared with them.
    Index,
    /// Installs the packages.
    Install,
}

/// Whether a bootstrap sees packages that were downloaded earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlierDownloads {
    /// The bootstrap sees them. Its indices are unknown beforehand, so
    /// [`PackageSession::downloads_fitted`] checks afterwards.
    Offered,
    /// The bootstrap downloads everything.
    Withheld,
}

/// Whether package indices match the package sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexState {
    /// This process has fetched them, or there are no package sources.
    Fresh,
    /// They have to be fetched.
    Stale,
    /// An earlier build has fetched them, and this build cannot or need not fetch them again.
    Kept,
}

/// A failure to use package repositories.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    #[error("cannot find a mirror for {distro} `{release}`: `{variable}` is not set, and `{}` names none", etc_apt.display())]
    NoMirror {
        distro: String,
        release: String,
        /// The variable that can name one.
        variable: &'static str,
        etc_apt: PathBuf,
    },
    #[error("cannot verify the packages of {distro} `{release}`: the keyring `{}` does not exist", path.display())]
    NoKeyring {
        distro: String,
        release: String,
        path: PathBuf,
        /// The variable that can name another.
        variable: &'static str,
    },
    #[error("program `{program}` not found")]
    ToolMissing { program: &'static str, package: &'static str },
    #[error("cannot build the base {distro} `{release}` in an offline build")]
    OfflineBase { distro: String, release: String },
    #[error(
        "cannot refresh package indices: this build is offline, and the store has none for these package sources"
    )]
    NoIndices,
    #[error("cannot download packages in an offline build, and the store lacks {}", files.join(", "))]
    NotDownloaded {
        /// The file names that apt uses.
        files: Vec<String>,
    },
    #[error("cannot ask `{program}` for the proxy of a package archive (`Acquire::http::Proxy-Auto-Detect`)")]
    ProxyDetector {
        /// The name in apt's configuration.
        program: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error(transparent)]
    Io(#[from] IoError),
}
