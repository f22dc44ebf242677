//! What package managers need beyond the root file system: mirrors, indices, downloads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Bind, IoError, Job};
use crate::distro::{BaseDefinition, Mmdebstrap};
use crate::element::{Environment, Place};

/// Gives steps access to package repositories. Mirrors, indices and downloads never get into a layer.
pub trait Packages: Sync {
    /// Opens a session for one step: private copies of the shared downloads, in `scratch`, so that two builds at once do
    /// not wait for each other's locks. Without a base, the image has package sources of its own. Jobs see `hooks` as their hooks
    /// directory: package sources may lead there.
    fn session<'a>(
        &'a self,
        base: Option<&'a BaseDefinition>,
        scratch: &Path,
        hooks: Option<&Path>,
    ) -> Result<Box<dyn PackageSession + 'a>, PackageError>;

    /// Returns passwords of the machine that jobs can read, each under the name of a secret: no output shows them.
    fn secrets(&self) -> Environment;
}

/// Package runs of one step.
pub trait PackageSession {
    /// Returns the job that makes the root file system `source` in an empty root.
    fn bootstrap(
        &self,
        source: &Mmdebstrap,
        source_date_epoch: i64,
        earlier: EarlierDownloads,
    ) -> Result<Job, PackageError>;

    /// Returns false if the bootstrap may have used an earlier download that its package indices name with another digest.
    fn downloads_fitted(&self) -> Result<bool, PackageError>;

    /// Returns the mounts that a job on the root at `root` needs. They change with the root's own package sources, so
    /// they are asked for before each job.
    fn binds(&self, root: &Path) -> Result<Vec<Bind>, PackageError>;

    /// Returns the mounts of the job that refreshes the package indices of the root at `root`. It alone may change the indices
    /// that builds share, and starts from those: it sees nothing that hooks wrote to theirs.
    fn refresh_binds(&self, root: &Path) -> Result<Vec<Bind>, PackageError>;

    /// Returns true if package runs have something of their own at this place of the target.
    fn serves(&self, target: &str) -> bool;

    /// Returns the mounts that every job needs to reach the network as the caller does, on the host, too.
    fn network_binds(&self) -> Vec<Bind>;

    /// Returns the variables that go with the mounts of a job at `place`: never a part of a key.
    fn environment(&self, place: Place) -> BTreeMap<String, String>;

    /// Prepares package runs on the root at `root`, and returns whether its package indices have to be refreshed. If not, jobs see the
    /// earlier downloads that these indices name.
    ///
    /// # Errors
    /// [`PackageError::NoIndices`] in an offline build without indices.
    fn prepare_index(&self, root: &Path) -> Result<IndexState, PackageError>;

    /// Lets jobs use the indices of an earlier build in place of those that could not be fetched; returns false if there are none,
    /// or if this machine has a network, so that something is wrong.
    fn use_kept_indices(&self, root: &Path) -> Result<bool, PackageError>;

    /// Returns true if this build must not use the network.
    fn is_offline(&self) -> bool;

    /// Keeps the indices that a refresh or a bootstrap has fetched for the root at `root`; jobs see them, and the earlier downloads
    /// that they name.
    fn index_refreshed(&self, root: &Path) -> Result<(), PackageError>;

    /// Returns true if an update of the initramfs was asked for and put off, and forgets it.
    fn take_initramfs_request(&self) -> bool;

    /// Hands new downloads to later builds.
    fn close(self: Box<Self>) -> Result<(), PackageError>;
}

/// Whether a bootstrap sees packages that were downloaded earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlierDownloads {
    /// It does. Its indices are not known before, so [`PackageSession::downloads_fitted`] tells afterwards.
    Offered,
    /// It downloads everything.
    Withheld,
}

/// How package indices stand to the package sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexState {
    /// This process has fetched them, or there are no package sources.
    Fresh,
    /// They have to be fetched.
    Stale,
    /// An earlier build has fetched them, and they cannot or need not be fetched again.
    Kept,
}

/// Package repositories that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    #[error("no mirror for {distro} `{release}`: `{variable}` is not set, and `{}` names none", etc_apt.display())]
    NoMirror {
        distro: String,
        release: String,
        /// The variable that could name one.
        variable: &'static str,
        /// Where the machine's own configuration was looked for.
        etc_apt: PathBuf,
    },
    #[error("program `{program}` not found")]
    ToolMissing {
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    #[error("cannot make the base {distro} `{release}` in an offline build")]
    OfflineBase { distro: String, release: String },
    #[error("no indices of these package sources are in the store, and this build is offline")]
    NoIndices,
    #[error("packages are not in the store, and this build is offline: {}", files.join(", "))]
    NotDownloaded {
        /// The files of packages, as apt calls them.
        files: Vec<String>,
    },
    #[error("cannot ask `{program}` for the proxy of a package archive (`Acquire::http::Proxy-Auto-Detect`)")]
    ProxyDetector {
        /// As apt's configuration names it.
        program: String,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error(transparent)]
    Io(#[from] IoError),
}
