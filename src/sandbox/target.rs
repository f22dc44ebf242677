//! Mount points inside a root: resolved through the root's own symlinks, made if absent, and
//! removed without a trace.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, utimensat};

use super::mount;
use super::shape::Shape;

/// Limit of symlinks in one path; the same as the kernel's.
const MOST_LINKS: usize = 40;

/// The entries that plywood made in a root as mount points.
#[derive(Debug, Default)]
pub(super) struct MadeTargets(Vec<Made>);

/// Both paths lead through `_directory`: a job may replace a directory by a symlink, which would
/// lead out of its root.
#[derive(Debug)]
struct Made {
    path: PathBuf,
    shape: Shape,
    parent: PathBuf,
    _directory: OwnedFd,
    parent_time_before: Timespec,
    parent_time_after: Timespec,
}

impl MadeTargets {
    /// Makes `target` and the directories above it if they are absent, and resolves symlinks
    /// beneath `root`. Returns the resolved path relative to `root`. At or below the paths
    /// `elsewhere` (relative to `root`) it makes nothing and returns `None`, because something else
    /// will be mounted there.
    ///
    /// No other process may change `root` during the call.
    pub(super) fn make(
        &mut self,
        root: &Path,
        target: &str,
        shape: Shape,
        elsewhere: &[&str],
    ) -> io::Result<Option<PathBuf>> {
        let mut pending = components_reversed(Path::new(target));
        let mut here = PathBuf::new();
        let mut links = 0;
        while let Some(name) = pending.pop() {
            if name == ".." {
                here.pop();
                continue;
            }
            let path = here.join(&name);
            if elsewhere.iter().any(|mount| path == Path::new(mount)) {
                return Ok(None);
            }
            match fs::symlink_metadata(root.join(&path)) {
                Ok(entry) if entry.is_symlink() => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(io::Error::from_raw_os_error(nix::libc::ELOOP));
                    }
                    let link = fs::read_link(root.join(&path))?;
                    if link.is_absolute() {
                        here.clear();
                    }
                    pending.extend(components_reversed(&link));
                }
                Ok(_) => here = path,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let shape = if pending.is_empty() { shape } else { Shape::Directory };
                    self.0.push(Made::make(root.join(&path), shape)?);
                    here = path;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Some(here))
    }

    /// Removes the made entries, except for those that a job has filled or replaced, and restores
    /// the times of the directories.
    pub(super) fn remove(self) -> io::Result<()> {
        // In reverse: an entry must go before the directory that holds it.
        self.0.into_iter().rev().try_for_each(Made::remove)
    }
}

impl Made {
    fn make(path: PathBuf, shape: Shape) -> io::Result<Self> {
        // By path only here, where no job runs yet. Later uses go through the descriptor.
        let directory = mount::place(path.parent().unwrap_or(Path::new("/")))?;
        // With the dot, calls that do not follow symlinks reach the directory. Without it, they
        // would reach the symlink in `/proc`.
        let parent = mount::path_of(&directory).join(".");
        let path = mount::path_of(&directory).join(path.file_name().unwrap_or_default());
        let parent_time_before = modification_time(&parent)?;
        match shape {
            Shape::File => drop(File::create_new(&path)?),
            Shape::Directory => fs::DirBuilder::new().mode(0o755).create(&path)?,
        }
        let parent_time_after = modification_time(&parent)?;
        Ok(Self { path, shape, parent, _directory: directory, parent_time_before, parent_time_after })
    }

    fn remove(self) -> io::Result<()> {
        let Some(time) = absent_is_none(modification_time(&self.parent))? else { return Ok(()) };
        // A job may have filled or replaced the entry. Then it belongs to the layer.
        let is_used = |entry: fs::Metadata| match self.shape {
            Shape::File => !entry.is_file() || entry.len() > 0,
            Shape::Directory => !entry.is_dir(),
        };
        let removed = match self.shape {
            _ if fs::symlink_metadata(&self.path).is_ok_and(is_used) => return Ok(()),
            Shape::File => fs::remove_file(&self.path),
            Shape::Directory => fs::remove_dir(&self.path),
        };
        match removed {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            other => {
                absent_is_none(other)?;
                // If a job changed the directory, its time belongs to the layer. Otherwise the time
                // before this program's own changes is restored: it must not make a layer of a step
                // that changed nothing.
                let unchanged = time == self.parent_time_after;
                set_modification_time(&self.parent, if unchanged { self.parent_time_before } else { time })
            }
        }
    }
}

/// Returns the names of `path`, last first, so that `pop` gives the next one.
fn components_reversed(path: &Path) -> Vec<OsString> {
    path.components()
        .rev()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
        })
        .collect()
}

pub(super) fn modification_time(path: &Path) -> io::Result<Timespec> {
    let entry = fs::symlink_metadata(path)?;
    Ok(Timespec { tv_sec: entry.mtime(), tv_nsec: entry.mtime_nsec() })
}

pub(super) fn set_modification_time(path: &Path, time: Timespec) -> io::Result<()> {
    let untouched = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let times = Timestamps { last_access: untouched, last_modification: time };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Makes a root with `/etc` (of a known time), `/run`, and a few symlinks.
    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for directory in ["etc", "run", "usr/sbin"] {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        for (link, to) in [
            ("etc/resolv.conf", "../run/systemd/stub.conf"),
            ("sbin", "usr/sbin"),
            ("escape", "../../../../etc/escaped"),
            ("absolute", "/etc"),
            ("loop", "loop"),
        ] {
            symlink(to, root.path().join(link)).unwrap();
        }
        let old = Timespec { tv_sec: 1_000_000_000, tv_nsec: 7 };
        for directory in ["etc", "usr/sbin", "usr", ""] {
            set_modification_time(&root.path().join(directory), old).unwrap();
        }
        root
    }

    #[test]
    fn targets_are_made_beneath_the_root_and_removed_without_a_trace() {
        let cases = [
            ("/etc/new", Shape::File, "etc/new"),
            ("/etc/a/b/c", Shape::Directory, "etc/a/b/c"),
            ("/sbin/policy", Shape::File, "usr/sbin/policy"),
            ("/escape", Shape::File, "etc/escaped"),
            ("/absolute/x", Shape::File, "etc/x"),
            ("/../../etc/../etc/y", Shape::Directory, "etc/y"),
        ];
        for (target, shape, place) in cases {
            let root = root();
            let mut made = MadeTargets::default();
            made.make(root.path(), target, shape, &[]).unwrap();
            let entry = fs::symlink_metadata(root.path().join(place)).expect(target);
            assert_eq!(entry.is_dir(), shape == Shape::Directory, "{target}");
            made.remove().unwrap();
            assert!(!root.path().join(place).exists(), "{target}");
            for directory in ["etc", "usr/sbin", "usr", ""] {
                let time = modification_time(&root.path().join(directory)).unwrap();
                assert_eq!((time.tv_sec, time.tv_nsec), (1_000_000_000, 7), "{target}: {directory}");
            }
        }
    }

    #[test]
    fn nothing_is_made_below_a_later_mount() {
        let root = root();
        let mut made = MadeTargets::default();
        for target in ["/run/x/y", "/etc/resolv.conf", "/run"] {
            made.make(root.path(), target, Shape::File, &["run"]).unwrap();
        }
        assert!(made.0.is_empty());
    }

    #[test]
    fn files_that_a_job_wrote_beside_mount_points_stay() {
        let root = root();
        let mut made = MadeTargets::default();
        made.make(root.path(), "/etc/a/b", Shape::Directory, &[]).unwrap();
        fs::write(root.path().join("etc/a/kept"), "").unwrap();
        fs::write(root.path().join("etc/added"), "").unwrap();
        let etc_time = modification_time(&root.path().join("etc")).unwrap();
        made.remove().unwrap();
        assert!(root.path().join("etc/a/kept").exists());
        assert!(!root.path().join("etc/a/b").exists());
        assert_eq!(modification_time(&root.path().join("etc")).unwrap(), etc_time);
    }

    #[test]
    fn what_a_job_puts_in_the_place_of_a_mount_point_stays() {
        let root = root();
        let mut made = MadeTargets::default();
        let path = made.make(root.path(), "/etc/new", Shape::File, &[]).unwrap().unwrap();
        let path = root.path().join(path);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        made.remove().unwrap();
        assert!(path.is_dir());
    }

    #[test]
    fn a_job_may_remove_the_directory_of_a_mount_point() {
        let root = root();
        let mut made = MadeTargets::default();
        made.make(root.path(), "/etc/a/b", Shape::File, &[]).unwrap();
        fs::remove_dir_all(root.path().join("etc")).unwrap();
        made.remove().unwrap();
    }

    #[test]
    fn symlink_loops_are_refused() {
        let root = root();
        let refusal = MadeTargets::default().make(root.path(), "/loop/x", Shape::File, &[]).unwrap_err();
        assert_eq!(refusal.raw_os_error(), Some(nix::libc::ELOOP));
    }
}
