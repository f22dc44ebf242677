//! Roots that are open: an overlay, a read-only view or a directory, mounted for this process alone.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};
use tracing::debug;

use super::mount::{self, Mount};
use super::overlay::{self, Top};
use super::wire::Ended;
use super::{Namespaces, moved, run, setup};
use crate::port::{CacheMount, Exit, HostOpens, Job, Network, Root, RootSpec, SandboxError, View};

/// A root that is mounted below [`super::ROOTS`].
pub(super) struct MountedRoot {
    path: PathBuf,
    sandbox: Namespaces,
    /// How it is unmounted; `None` when it is.
    unmount: Option<UnmountFlags>,
    cache_mounts: RefCell<Vec<CacheMount>>,
    host_opens: RefCell<HostOpens>,
    /// What receives the changes of an overlay.
    upper: Option<PathBuf>,
}

impl MountedRoot {
    pub(super) fn open(spec: &RootSpec, sandbox: Namespaces) -> Result<Self, SandboxError> {
        let path = new_mount_point()?;
        // A copy of a disk parts from it: unmounting the copy would unmount the disk's own file systems as well.
        let mounted = mount_spec(spec)
            .and_then(|mount| mount.attach_at(&path))
            .and_then(|()| mount::part_from_original(&path));
        debug!(what = describe(spec), at = %path.display(), ?mounted, "mounts a root");
        mounted.map_err(mount::error(describe(spec), &path))?;
        let upper = match spec {
            RootSpec::Overlay { upper, .. } => Some(upper.clone()),
            RootSpec::ReadOnly { .. } | RootSpec::Directory(_) => None,
        };
        let unmount = Some(unmount_flags(spec));
        Ok(Self {
            path,
            sandbox,
            unmount,
            cache_mounts: RefCell::default(),
            host_opens: RefCell::default(),
            upper,
        })
    }

    /// Keeps what a job has left mounted and opened, and returns how it ended.
    fn note(&self, Ended { exit, mounts, opens }: Ended) -> Result<Exit, SandboxError> {
        let HostOpens { files, gap } = opens.unwrap_or_default();
        let mut opens = self.host_opens.borrow_mut();
        opens.files.extend(files);
        opens.gap = opens.gap.take().or(gap);

        let mut known = self.cache_mounts.borrow_mut();
        for mount in mounts {
            if !known.contains(&mount) {
                known.push(mount);
            }
        }
        Ok(exit)
    }

    /// Makes whole what overlayfs keeps of moved directories.
    fn complete_moved(&self) -> Result<(), SandboxError> {
        let Some(upper) = &self.upper else { return Ok(()) };
        for path in moved::find(upper).map_err(setup("look for moved directories"))? {
            moved::replace(&self.path, &path, |from, to| self.copy(from, to))?;
        }
        Ok(())
    }

    /// Copies a directory of this root within it, with all that belongs to its files. As a job, it ends when plywood is to end.
    fn copy(&self, from: &Path, to: &Path) -> Result<(), SandboxError> {
        let absolute = |path: &Path| Path::new(View::HOST_MOUNT).join(path).into_os_string().into_string();
        let [from, to] = [absolute(from), absolute(to)].map(|path| {
            path.map_err(|path| {
                let problem = io::Error::other(format!("{path:?} is not UTF-8"));
                setup("copy a moved directory")(problem)
            })
        });
        let argv = ["cp", "-a", "-T", "--"].map(str::to_owned).into_iter().chain([from?, to?]).collect();
        let (view, network) = (View::HostBare, Network::None);
        let (env, binds) = (BTreeMap::new(), Vec::new());
        let job = Job { argv, env, cwd: "/".to_owned(), view, binds, network, traced: false };
        let mut said = Vec::new();
        let Ended { exit, .. } =
            run::run(&self.sandbox, &self.path, &job, &mut |output| said.extend_from_slice(output))?;
        if exit.is_success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&said).trim_end().to_owned();
        Err(setup("copy a moved directory")(io::Error::other(format!("{exit}: {said}"))))
    }

    fn unmount(&mut self, flags: UnmountFlags) -> io::Result<()> {
        if let Some(own) = self.unmount.take() {
            let unmounted = unmount(&self.path, own | flags);
            debug!(at = %self.path.display(), flags = ?(own | flags), ?unmounted, "unmounts a root");
            unmounted?;
            fs::remove_dir(&self.path)?;
        }
        Ok(())
    }
}

impl Root for MountedRoot {
    fn path(&self) -> &Path {
        &self.path
    }

    fn run(&self, job: &Job, output: &mut dyn FnMut(&[u8])) -> Result<Exit, SandboxError> {
        self.note(run::run(&self.sandbox, &self.path, &self.sandbox.restricted(job), output)?)
    }

    fn run_interactive(&self, job: &Job) -> Result<Exit, SandboxError> {
        self.note(run::run_interactive(&self.sandbox, &self.path, &self.sandbox.restricted(job))?)
    }

    fn cache_mounts(&self) -> Vec<CacheMount> {
        self.cache_mounts.borrow().clone()
    }

    fn take_host_opens(&self) -> HostOpens {
        self.host_opens.take()
    }

    fn close(mut self: Box<Self>) -> Result<(), SandboxError> {
        self.complete_moved()?;
        self.unmount(UnmountFlags::empty())
            .map_err(|source| SandboxError::Unmount { target: self.path.clone(), source })
    }
}

impl Drop for MountedRoot {
    fn drop(&mut self) {
        // A caller that wants the error calls `close`. Detached, the mount ends with its last user.
        let _ = self.unmount(UnmountFlags::DETACH);
    }
}

/// Makes an empty directory that no other root of this process has.
fn new_mount_point() -> Result<PathBuf, SandboxError> {
    mount::make_unused(|path| fs::create_dir(path)).map_err(setup("make a mount point"))
}

fn mount_spec(spec: &RootSpec) -> io::Result<Mount> {
    match spec {
        RootSpec::Overlay { lowers, upper, work } => {
            let nothing = [empty_directory(work)?];
            let lowers = if lowers.is_empty() { nothing.as_slice() } else { lowers };
            overlay::mount(lowers, Some(Top { upper, work }))
        }
        RootSpec::ReadOnly { lowers } => match lowers.as_slice() {
            [single] => Mount::tree(single)?.read_only(),
            several => overlay::mount(several, None),
        },
        RootSpec::Directory(path) => Mount::tree(path),
    }
}

/// Returns the flags that unmount the root of `spec`. A directory comes with the file systems of a disk that are mounted below it. One
/// call unmounts them together only if it ignores processes that use them; the caller that mounted the disk waits for their last user.
/// An overlay's upper directory is read as soon as it is unmounted, so a process that still uses the overlay is an error.
fn unmount_flags(spec: &RootSpec) -> UnmountFlags {
    match spec {
        RootSpec::Directory(_) => UnmountFlags::DETACH,
        RootSpec::Overlay { .. } | RootSpec::ReadOnly { .. } => UnmountFlags::empty(),
    }
}

/// Returns what stands below a first layer: an overlay wants something there, and spares that layer the waiting for the
/// disk as it does all others.
///
/// It is on the file system of the upper directory: else overlayfs numbers directories as they come into memory, and a directory
/// that the kernel forgot for want of memory has another number afterwards. Programs such as tar then take it for another one.
fn empty_directory(work: &Path) -> io::Result<PathBuf> {
    let path = work.with_added_extension("empty");
    fs::create_dir_all(&path)?;
    Ok(path)
}

fn describe(spec: &RootSpec) -> String {
    match spec {
        RootSpec::Overlay { upper, .. } => format!("overlay of `{}`", upper.display()),
        RootSpec::ReadOnly { lowers } => format!("read-only view of {} layers", lowers.len()),
        RootSpec::Directory(path) => path.display().to_string(),
    }
}
