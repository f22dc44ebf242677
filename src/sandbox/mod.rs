//! Runs one program on a root file system, shut off from the machine, by Linux namespaces.
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
//! - Everything made for a job is released by the kernel when its processes end, and its processes end when
//!   plywood ends, by whatever signal: nothing is ever left to clean up.
//! - A job writes to its root, to what its binds allow, and nowhere else. Mount points that had to be made in the
//!   root are removed again, and their directory's time is put back: no trace of the sandbox is in a layer.
//! - Paths inside a root are resolved beneath it, whatever symlinks it holds.

mod child;
mod devices;
mod init;
mod left;
mod limit;
mod machine;
mod mount;
mod mountinfo;
mod moved;
mod network;
mod overlay;
mod resolver;
mod root;
mod run;
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

/// Where roots are mounted: a directory that exists for good, under a tmpfs that only this process sees.
const ROOTS: &str = "/run/plywood";

/// Proof that this process has a mount namespace of its own: what it mounts is gone with it.
#[derive(Debug, Clone, Copy)]
pub struct PrivateMounts(());

/// Gives the calling thread, and what it starts from now on, a mount namespace of its own.
///
/// To be called at the start of `main`, before any thread. The machine's own mounts and unmounts are still seen
/// here; ours are never seen there. Ours are shared with the sandboxes' copies, so that a disk unmounted here is
/// unmounted in every job that was just starting.
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

/// Parts the mounts of this process from those of the machine.
fn part_root() -> io::Result<()> {
    match mount::part_from_original("/".as_ref()) {
        // The root of a chroot may be a plain directory, and only mounts have propagation.
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
    /// Makes a sandbox that starts its jobs through this very program, and ends them once `interrupted` is true.
    pub fn new(_mounts: PrivateMounts, interrupted: Arc<AtomicBool>) -> Self {
        let (limits, network) = (Limits::default(), Network::Host);
        Self { launcher: PathBuf::from("/proc/self/exe"), interrupted, limits, network, hidden: None }
    }

    /// Gives each job that is not interactive these limits.
    ///
    /// # Errors
    /// [`SandboxError::NoController`] if this host cannot hold them.
    pub fn limited(self, limits: Limits) -> Result<Self, SandboxError> {
        // Now, and not at the first hook.
        limit::Groups::make(&limits)?;
        Ok(Self { limits, ..self })
    }

    /// Hides this directory of the host from jobs. They see only the parts of it that their binds show.
    pub fn hiding(self, directory: &Path) -> Self {
        Self { hidden: Some(directory.to_owned()), ..self }
    }

    /// Keeps every job off the network.
    pub fn offline(self) -> Self {
        Self { network: Network::None, ..self }
    }

    /// Returns a job with no more of the network than this sandbox gives.
    fn restricted(&self, job: &Job) -> Job {
        match self.network {
            Network::Host => job.clone(),
            Network::None => Job { network: Network::None, ..job.clone() },
        }
    }

    /// Starts jobs through `launcher`, a program whose `main` begins with [`run_if_asked`].
    pub fn with_launcher(self, launcher: PathBuf) -> Self {
        Self { launcher, ..self }
    }
}

impl Sandbox for Namespaces {
    fn open(&self, spec: &RootSpec) -> Result<Box<dyn Root>, SandboxError> {
        Ok(Box::new(root::MountedRoot::open(spec, self.clone())?))
    }
}

/// Returns a function for `map_err` that adds the step that failed.
fn setup<E: Into<io::Error>>(action: impl Into<String>) -> impl FnOnce(E) -> SandboxError {
    move |error| SandboxError::Setup { action: action.into(), source: error.into() }
}
