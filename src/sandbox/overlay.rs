//! Overlays of unpacked layers.
//!
//! plywood mounts them with mount(2), whose options must fit into one page. The newer calls take
//! one layer at a time, but overlayfs supports that only since Linux 6.5. So each directory gets a
//! short temporary name: a symlink in a directory that is the current one of the mounting thread.
//! This also hides colons and commas in the paths of the layers, which are separators in the
//! options.
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
use super::shape::Shape;

/// The kernel's limit of lower layers in one overlay (`OVL_MAX_STACK`).
const MOST_LOWERS: usize = 500;

/// The writable top of an overlay.
#[derive(Debug, Clone, Copy)]
pub(super) struct Top<'a> {
    /// Receives every change.
    pub(super) upper: &'a Path,
    /// Scratch directory of overlayfs, on the file system of `upper`.
    pub(super) work: &'a Path,
}

/// Makes the merged view of `lowers`, lowest first. Needs at least one with a top, and at least two
/// without.
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
    let message = format!("{} layers are too many: the kernel stacks at most {MOST_LOWERS}", lowers.len());
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

/// Removes the mark that stops a volatile overlay from being mounted a second time. The mark
/// protects against a crash of the build host between the mounts. Here that cannot happen: no
/// workspace outlives the process that made it.
fn forget_earlier_mount(work: &Path) -> io::Result<()> {
    match fs::remove_dir_all(work.join("work/incompat")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns the options of an overlay whose directories have the names of [`Names`].
///
/// - `metacopy=off`: after a `chown`, the upper directory has the whole file. Otherwise it would
///   have the metadata alone, and the layer would lack the content.
/// - `index=off`: no index in the work directory that the layer would depend on.
/// - `redirect_dir=on`: jobs can rename directories of lower layers; [`super::moved`] completes the
///   layer afterwards. Without a top there is nothing to rename.
/// - `volatile`: fsync(2) returns at once, which makes package managers much faster. After a crash
///   of the build host the layer may be damaged, but only committed layers are used again, and the
///   store syncs their blobs itself.
fn options(lowers: usize, has_top: bool) -> String {
    // overlayfs wants the highest layer first, and plywood counts from the lowest.
    let highest_first: Vec<_> = (0..lowers).rev().map(|number| number.to_string()).collect();
    let top = if has_top { "upperdir=u,workdir=w,volatile,redirect_dir=on" } else { "redirect_dir=off" };
    format!("lowerdir={},{top},metacopy=off,index=off", highest_first.join(":"))
}

/// A directory of symlinks to the directories of an overlay. The names of the lower ones are their
/// numbers, from 0 for the lowest. Dropping it removes the directory.
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

    /// Calls `body` in a new thread whose current directory is this one. Other threads resolve
    /// relative paths at the same time, so the process must keep its own.
    fn work_in(&self, body: impl FnOnce() -> io::Result<()> + Send) -> io::Result<()> {
        let work = || {
            // SAFETY: unshares the working directory, the root directory and the umask; no
            // descriptors.
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
        // On the tmpfs of this process: a leftover costs one name and ends with the process.
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
        assert_eq!(refusal, "501 layers are too many: the kernel stacks at most 500");
        assert!(check_depth(&layers[1..]).is_ok());
    }

    #[test]
    fn forgetting_an_earlier_mount_works_without_one() {
        let work = tempfile::tempdir().unwrap();
        forget_earlier_mount(work.path()).unwrap();
        fs::create_dir_all(work.path().join("work/incompat/volatile")).unwrap();
        forget_earlier_mount(work.path()).unwrap();
        assert!(!work.path().join("work/incompat").exists());
    }

    /// mount(2) copies one page of options, including the terminating NUL.
    #[test]
    fn options_for_the_highest_stack_fit_into_a_page() {
        assert!(options(MOST_LOWERS, true).len() < 4096);
        assert_eq!(
            options(3, true),
            "lowerdir=2:1:0,upperdir=u,workdir=w,volatile,redirect_dir=on,metacopy=off,index=off"
        );
        assert_eq!(options(2, false), "lowerdir=1:0,redirect_dir=off,metacopy=off,index=off");
    }
}
