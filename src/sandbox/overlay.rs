//! Overlays of unpacked layers.
//!
//! They are mounted by mount(2), whose options have to fit into one page: overlayfs knows the newer calls, which take a layer at a
//! time, from Linux 6.5 on. So each directory gets a short name for the moment, a symlink in a directory that the mounting thread
//! works in. Colons and commas in the directories' own paths then mean nothing either.
//!
//! Source: the kernel's `Documentation/filesystems/overlayfs.rst`.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::mount::MountFlags;
use rustix::thread::UnshareFlags;
use tracing::debug;

use super::mount::{Mount, TemporaryPlace, make_unused};
use super::target::Shape;

/// The kernel's limit of lower layers in one overlay.
const MOST_LOWERS: usize = 500;

/// The writable top of an overlay.
#[derive(Debug, Clone, Copy)]
pub(super) struct Top<'a> {
    /// Receives every change.
    pub(super) upper: &'a Path,
    /// Overlayfs' own, on the file system of `upper`.
    pub(super) work: &'a Path,
}

/// Makes the merged view of `lowers`, lowest first: at least one with a top, at least two without.
pub(super) fn mount(lowers: &[PathBuf], top: Option<Top<'_>>) -> io::Result<Mount> {
    check_depth(lowers)?;
    if let Some(top) = top {
        forget_earlier_mount(top.work)?;
    }
    let names = Names::make(lowers, top)?;
    let place = TemporaryPlace::new(Shape::Directory)?;
    let options = CString::new(options(lowers.len(), top.is_some()))?;
    debug!(?options, ?lowers, ?top, at = %place.path().display(), "mounts an overlay");
    names.work_in(|| {
        Ok(rustix::mount::mount("overlay", place.path(), "overlay", MountFlags::empty(), options.as_c_str())?)
    })?;
    Mount::tree(place.path())
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

/// Returns the options of an overlay whose directories have the names of [`Names`].
///
/// A layer must depend on nothing but itself and the names below it: no files that are only half copied, no index beside the
/// layer. Directories below may be moved, and the layer is completed afterwards (see [`super::moved`]). The top is volatile:
/// nothing waits for the disk, since a layer that is not committed is worth nothing.
fn options(lowers: usize, has_top: bool) -> String {
    let highest_first: Vec<_> = (0..lowers).rev().map(|number| number.to_string()).collect();
    let top = if has_top { "upperdir=u,workdir=w,volatile,redirect_dir=on" } else { "redirect_dir=off" };
    format!("lowerdir={},{top},metacopy=off,index=off", highest_first.join(":"))
}

/// A directory of symlinks to the directories of an overlay: lower ones by their number, the lowest is 0. Removed when dropped.
struct Names(PathBuf);

impl Names {
    fn make(lowers: &[PathBuf], top: Option<Top<'_>>) -> io::Result<Self> {
        let names = Self(make_unused(|path| fs::create_dir(path))?);
        let top = top.map(|top| [("u", top.upper), ("w", top.work)]);
        let lowers = lowers.iter().enumerate().map(|(number, lower)| (number.to_string(), lower.as_path()));
        let all = lowers.chain(top.into_iter().flatten().map(|(name, path)| (name.to_owned(), path)));
        for (name, path) in all {
            symlink(path, names.0.join(name))?;
        }
        Ok(names)
    }

    /// Calls `body` in a thread whose working directory this is; other threads keep theirs.
    fn work_in(&self, body: impl FnOnce() -> io::Result<()> + Send) -> io::Result<()> {
        let work = || {
            // SAFETY: unshares the working directory, the root directory and the umask; no descriptors.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }?;
            rustix::process::chdir(&self.0)?;
            body()
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().spawn_scoped(scope, work)?;
            thread.join().unwrap_or_else(|_| Err(io::Error::other("the mounting thread panicked")))
        })
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        // On the tmpfs of this process: what stays takes a name and ends with it.
        let _ = fs::remove_dir_all(&self.0);
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

    /// mount(2) copies one page of options, the terminating NUL included.
    #[test]
    fn as_many_layers_as_the_kernel_stacks_fit_into_the_options_of_a_mount() {
        assert!(options(MOST_LOWERS, true).len() < 4096);
        assert_eq!(
            options(3, true),
            "lowerdir=2:1:0,upperdir=u,workdir=w,volatile,redirect_dir=on,metacopy=off,index=off"
        );
        assert_eq!(options(2, false), "lowerdir=1:0,redirect_dir=off,metacopy=off,index=off");
    }
}
