//! Runs one program on a root file system, isolated from the build host by Linux namespaces.
//!
//! ```text
//! plywood        private mount namespace from the first moment on; opens roots (overlays) in it
//!   | executes itself as `plywood-sandbox`, dies with it
//! supervisor     new mount, pid, uts, ipc (and network) namespaces
//!   | fork, dies with it
//! pid 1          mounts the job's view, pivots into it, reaps; when it ends the kernel ends all others
//!   | fork
//! job            session of its own, signals and limits reset, nothing inherited but its output
//! ```
//!
//! Invariants:
//! - The kernel releases everything made for a job when the job's processes end. They end when
//!   plywood ends, even by SIGKILL. So nothing is left to clean up.
//! - A job can write to its root and to its writable binds only. plywood removes the mount points
//!   that it made in a root, and restores the time of their directories: a layer has no trace of
//!   the sandbox.
//! - Paths inside a root are resolved beneath it: symlinks cannot lead out of it.

mod child;
mod devices;
mod files;
mod init;
mod left;
mod limit;
mod machine;
mod mount;
mod mountinfo;
mod moved;
mod network;
mod overlay;
mod parent;
mod resolver;
mod root;
mod run;
mod shape;
mod target;
mod tools;
mod view;
mod watch;
mod wire;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::thread::UnshareFlags;

use crate::port::{Job, Limits, Network, Root, RootSpec, Sandbox, SandboxError};

pub use child::run_if_asked;

/// The directory where roots are mounted, under a tmpfs that only this process sees. The directory
/// itself stays on the build host; it is the same for all processes.
const ROOTS: &str = "/run/plywood";

/// Proof that this process has a mount namespace of its own. Its mounts end with it.
#[derive(Debug, Clone, Copy)]
pub struct PrivateMounts(());

/// Moves the calling thread, and the threads and processes that it starts later, into a mount
/// namespace of their own.
///
/// Call it at the start of `main`, before any thread starts. Mounts and unmounts of the build host
/// still reach this namespace; those made here never reach the host. They do reach the namespaces
/// of sandboxes, so that unmounting a disk here also unmounts it in a job that is just starting.
///
/// # Errors
/// [`SandboxError::NotRoot`] without the right to mount.
pub fn enter_private_mounts() -> Result<PrivateMounts, SandboxError> {
    if !rustix::process::geteuid().is_root() {
        return Err(SandboxError::NotRoot);
    }
    // SAFETY: no descriptors are unshared, only the namespace.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }
        .map_err(setup("make a mount namespace"))?;
    part_root().map_err(setup("separate mounts"))?;
    std::fs::create_dir_all(ROOTS).map_err(setup("make `/run/plywood`"))?;
    mount::Mount::filesystem("tmpfs", &[("mode", "0700")])
        .and_then(|tmpfs| tmpfs.attach_at(ROOTS.as_ref()))
        .map_err(mount::error("tmpfs", ROOTS))?;
    Ok(PrivateMounts(()))
}

/// Stops mounts of this process from reaching the build host.
fn part_root() -> io::Result<()> {
    match mount::part_from_original("/".as_ref()) {
        // In a chroot, `/` may be a plain directory, and only a mount has a propagation type.
        Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => {
            mount::make_root_a_mount()?;
            mount::part_from_original("/".as_ref())
        }
        result => result,
    }
}

/// A sandbox made of namespaces and mounts. Needs root.
#[derive(Debug, Clone)]
pub struct Namespaces {
    launcher: PathBuf,
    interrupted: Arc<AtomicBool>,
    limits: Limits,
    network: Network,
    hidden: Option<PathBuf>,
}

impl Namespaces {
    /// Makes a sandbox that starts jobs through this program, and ends them within 0.1 s once
    /// `interrupted` is true.
    pub fn new(_mounts: PrivateMounts, interrupted: Arc<AtomicBool>) -> Self {
        let (limits, network) = (Limits::default(), Network::Host);
        Self { launcher: PathBuf::from("/proc/self/exe"), interrupted, limits, network, hidden: None }
    }

    /// Sets limits for each job that is not interactive.
    ///
    /// # Errors
    /// [`SandboxError::NoController`] if the control groups of this host cannot enforce them.
    pub fn limited(self, limits: Limits) -> Result<Self, SandboxError> {
        // A trial: a host that cannot enforce the limits should refuse before the build, and not at
        // the first hook.
        limit::Groups::make(&limits)?;
        Ok(Self { limits, ..self })
    }

    /// Hides this directory of the build host from jobs. They see only the parts of it that their
    /// binds show.
    pub fn hiding(self, directory: &Path) -> Self {
        Self { hidden: Some(directory.to_owned()), ..self }
    }

    /// Runs every job without a network.
    pub fn offline(self) -> Self {
        Self { network: Network::None, ..self }
    }

    /// Returns `job`, without a network if this sandbox is offline.
    fn restricted(&self, job: &Job) -> Job {
        match self.network {
            Network::Host => job.clone(),
            Network::None => Job { network: Network::None, ..job.clone() },
        }
    }

    /// Starts jobs through `launcher`, a program whose `main` begins with [`run_if_asked`]. For
    /// tests, whose own program is another one.
    pub fn with_launcher(self, launcher: PathBuf) -> Self {
        Self { launcher, ..self }
    }
}

impl Sandbox for Namespaces {
    fn open(&self, spec: &RootSpec) -> Result<Box<dyn Root>, SandboxError> {
        Ok(Box::new(root::MountedRoot::open(spec, self.clone())?))
    }
}

/// Returns a function for `map_err` that adds the failed action, as a verb in the imperative.
fn setup<E: Into<io::Error>>(action: impl Into<String>) -> impl FnOnce(E) -> SandboxError {
    move |error| SandboxError::Setup { action: action.into(), source: error.into() }
}
