//! Open roots: an overlay, a read-only view or a directory, mounted for this process alone.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, unmount};
use tracing::debug;

use super::files::Files;
use super::mount::{self, Mount};
use super::overlay::{self, Top};
use super::wire::Ended;
use super::{Namespaces, moved, run, setup};
use crate::port::{CacheMount, EntryKind, Exit, HostOpens, Job, Network, Root, RootSpec, SandboxError, View};

/// A root that is mounted below [`super::ROOTS`].
pub(super) struct MountedRoot {
    path: PathBuf,
    sandbox: Namespaces,
    /// Flags for unmounting; `None` after that.
    unmount: Option<UnmountFlags>,
    cache_mounts: RefCell<Vec<CacheMount>>,
    host_opens: RefCell<HostOpens>,
    /// The upper directory of an overlay.
    upper: Option<PathBuf>,
}

impl MountedRoot {
    pub(super) fn open(spec: &RootSpec, sandbox: Namespaces) -> Result<Self, SandboxError> {
        let path = new_mount_point()?;
        // Without the separation, unmounting the copy of a disk would also unmount the disk's own
        // file systems, which are in the same peer group.
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

    /// Records the mounts that a job left and the files that it opened. Returns how the job ended.
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

    /// Completes the renamed directories in the upper directory.
    fn complete_moved(&self) -> Result<(), SandboxError> {
        let Some(upper) = &self.upper else { return Ok(()) };
        for path in moved::find(upper).map_err(setup("look for moved directories"))? {
            moved::replace(&self.path, &path, |from, to| self.copy(from, to))?;
        }
        Ok(())
    }

    /// Copies a directory within this root, with owners, times and extended attributes. A job does
    /// it, so that an interrupt ends it.
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
        let job = Job { argv, env, cwd: "/".to_owned(), view, binds, network, traced: false, tools: None };
        let mut said = Vec::new();
        let Ended { exit, .. } =
            run::run(&self.sandbox, &self.path, &job, &mut |output| said.extend_from_slice(output))?;
        if exit.is_success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&said).trim_end().to_owned();
        Err(setup("copy a moved directory")(io::Error::other(format!("{exit}: {said}"))))
    }

    /// Calls `work` with the files of this root. `action` and `path` describe it in an error.
    fn files<T>(
        &self,
        action: &'static str,
        path: &str,
        work: impl FnOnce(&Files) -> io::Result<T>,
    ) -> Result<T, SandboxError> {
        let done = Files::of(&self.path).and_then(|files| work(&files));
        done.map_err(|source| SandboxError::File { action, path: path.to_owned(), source })
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

    fn look(&self, path: &str) -> Result<Option<EntryKind>, SandboxError> {
        self.files("look for", path, |files| files.look(path))
    }

    fn read(&self, path: &str, most_bytes: u64) -> Result<Option<Vec<u8>>, SandboxError> {
        self.files("read", path, |files| files.read(path, most_bytes))
    }

    fn list(&self, path: &str) -> Result<Vec<String>, SandboxError> {
        self.files("list", path, |files| files.list(path))
    }

    fn write(&self, path: &str, content: &[u8], seconds: i64) -> Result<(), SandboxError> {
        self.files("write", path, |files| files.write(path, content, seconds))
    }

    fn remove(&self, path: &str) -> Result<(), SandboxError> {
        self.files("remove", path, |files| files.remove(path))
    }

    fn cache_mounts(&self) -> Vec<CacheMount> {
        self.cache_mounts.borrow().clone()
    }

    fn take_host_opens(&self) -> HostOpens {
        self.host_opens.take()
    }

    fn close(mut self: Box<Self>) -> Result<(), SandboxError> {
        // Before unmounting: only the merged view has the files of a renamed directory.
        self.complete_moved()?;
        self.unmount(UnmountFlags::empty())
            .map_err(|source| SandboxError::Unmount { target: self.path.clone(), source })
    }
}

impl Drop for MountedRoot {
    fn drop(&mut self) {
        // A caller that needs the error calls `close`. Detached, because after an error a process
        // may still use the root; the mount then ends with its last user.
        let _ = self.unmount(UnmountFlags::DETACH);
    }
}

/// Makes an empty directory for one root of this process.
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
            // overlayfs refuses a single lower directory without an upper one.
            [single] => Mount::tree(single)?.read_only(),
            several => overlay::mount(several, None),
        },
        RootSpec::Directory(path) => Mount::tree(path),
    }
}

/// Returns the flags that unmount the root of `spec`.
///
/// - A directory may have the file systems of a disk mounted below it. Only a detaching unmount
///   takes them all at once; the caller that mounted the disk waits until they are no longer in
///   use.
/// - The store reads the upper directory of an overlay as soon as it is unmounted. A process that
///   still uses the overlay could change it meanwhile, so it makes this unmount fail.
fn unmount_flags(spec: &RootSpec) -> UnmountFlags {
    match spec {
        RootSpec::Directory(_) => UnmountFlags::DETACH,
        RootSpec::Overlay { .. } | RootSpec::ReadOnly { .. } => UnmountFlags::empty(),
    }
}

/// Returns the lower directory of a first layer. Overlayfs requires one; without an overlay, the
/// hooks of the first layer would wait for the disk at each fsync(2).
///
/// It must be on the file system of the upper directory. Otherwise overlayfs makes up inode numbers
/// for directories, and a directory that the kernel has dropped from memory gets another number
/// afterwards. Programs such as tar then report that it changed.
fn empty_directory(work: &Path) -> io::Result<PathBuf> {
    // Beside `work`, which is on that file system.
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
