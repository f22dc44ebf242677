//! Roots that are open: an overlay, a read-only view or a directory, mounted for this process alone.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::mount::{MountAttrFlags, UnmountFlags, unmount};

use super::mount::{self, Mount};
use super::wire::Ended;
use super::{Namespaces, ROOTS, run, setup};
use crate::port::{CacheMount, Exit, Job, Root, RootSpec, SandboxError};

/// The kernel's limit of lower layers in one overlay.
const MOST_LOWERS: usize = 500;

/// A root that is mounted below [`ROOTS`].
pub(super) struct MountedRoot {
    path: PathBuf,
    sandbox: Namespaces,
    mounted: bool,
    cache_mounts: RefCell<Vec<CacheMount>>,
}

impl MountedRoot {
    pub(super) fn open(spec: &RootSpec, sandbox: Namespaces) -> Result<Self, SandboxError> {
        let path = new_mount_point()?;
        mount_spec(spec)
            .and_then(|mount| mount.attach_at(&path))
            .map_err(mount::error(describe(spec), &path))?;
        Ok(Self { path, sandbox, mounted: true, cache_mounts: RefCell::default() })
    }

    /// Keeps what a job has left mounted, and returns how it ended.
    fn note(&self, (exit, mounts): Ended) -> Result<Exit, SandboxError> {
        let mut known = self.cache_mounts.borrow_mut();
        for mount in mounts {
            if !known.contains(&mount) {
                known.push(mount);
            }
        }
        Ok(exit)
    }

    fn unmount(&mut self, flags: UnmountFlags) -> io::Result<()> {
        if std::mem::take(&mut self.mounted) {
            unmount(&self.path, flags)?;
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
        self.note(run::run(&self.sandbox, &self.path, job, output)?)
    }

    fn run_interactive(&self, job: &Job) -> Result<Exit, SandboxError> {
        self.note(run::run_interactive(&self.sandbox, &self.path, job)?)
    }

    fn cache_mounts(&self) -> Vec<CacheMount> {
        self.cache_mounts.borrow().clone()
    }

    fn close(mut self: Box<Self>) -> Result<(), SandboxError> {
        self.unmount(UnmountFlags::empty())
            .map_err(|source| SandboxError::Unmount { target: self.path.clone(), source })
    }
}

impl Drop for MountedRoot {
    fn drop(&mut self) {
        // Whoever wants the error calls `close`; detached, the mount ends with its last user.
        let _ = self.unmount(UnmountFlags::DETACH);
    }
}

/// Makes an empty directory that no other root of this process has.
fn new_mount_point() -> Result<PathBuf, SandboxError> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let path = Path::new(ROOTS).join(format!("root-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir(&path).map_err(setup(format!("make `{}`", path.display())))?;
    Ok(path)
}

fn mount_spec(spec: &RootSpec) -> io::Result<Mount> {
    match spec {
        RootSpec::Overlay { lowers, upper, work } => {
            check_depth(lowers)?;
            forget_earlier_mount(work)?;
            let nothing = [empty_directory()?];
            let lowers = if lowers.is_empty() { nothing.as_slice() } else { lowers };
            Mount::overlay(lowers, Some((upper, work)))
        }
        RootSpec::ReadOnly { lowers } => match lowers.as_slice() {
            [single] => Mount::tree(single)?.with(MountAttrFlags::MOUNT_ATTR_RDONLY),
            several => check_depth(several).and_then(|()| Mount::overlay(several, None)),
        },
        RootSpec::Directory(path) => Mount::tree(path),
    }
}

/// Returns what stands below a first layer: an overlay wants something there, and spares that layer the waiting for the
/// disk as it does all others.
fn empty_directory() -> io::Result<PathBuf> {
    let path = Path::new(ROOTS).join("empty");
    fs::create_dir_all(&path)?;
    Ok(path)
}

fn check_depth(lowers: &[PathBuf]) -> io::Result<()> {
    if lowers.len() <= MOST_LOWERS {
        return Ok(());
    }
    let message = format!("{} layers, and the kernel stacks {MOST_LOWERS} at most", lowers.len());
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

/// Removes the mark by which a volatile overlay refuses to be mounted again. It guards against a crash of the machine
/// in between, and no workspace outlives the process that made it.
fn forget_earlier_mount(work: &Path) -> io::Result<()> {
    match fs::remove_dir_all(work.join("work/incompat")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn describe(spec: &RootSpec) -> String {
    match spec {
        RootSpec::Overlay { upper, .. } => format!("overlay of `{}`", upper.display()),
        RootSpec::ReadOnly { lowers } => format!("read-only view of {} layers", lowers.len()),
        RootSpec::Directory(path) => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_layers_are_refused_with_the_limit() {
        let layers = vec![PathBuf::from("/layer"); MOST_LOWERS + 1];
        let refusal = check_depth(&layers).unwrap_err().to_string();
        assert_eq!(refusal, "501 layers, and the kernel stacks 500 at most");
        assert!(check_depth(&layers[1..]).is_ok());
    }

    #[test]
    fn forgetting_an_earlier_mount_needs_none() {
        let work = tempfile::tempdir().unwrap();
        forget_earlier_mount(work.path()).unwrap();
        fs::create_dir_all(work.path().join("work/incompat/volatile")).unwrap();
        forget_earlier_mount(work.path()).unwrap();
        assert!(!work.path().join("work/incompat").exists());
    }
}
