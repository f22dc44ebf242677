//! The resolver configuration of the build host in a root: present while a job runs, and absent
//! from layers.
//!
//! plywood writes it into the root and does not mount it, because a mount point cannot be renamed,
//! linked or removed, and hooks do make `/etc/resolv.conf` a symlink. A symlink or text that a hook
//! writes stays in the image. If the file still has the text of the host, plywood restores the
//! former content.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::libc::O_NOFOLLOW;

use super::mount;
use super::shape::Shape;
use super::target::MadeTargets;

/// The path of the resolver configuration in every root.
pub(super) const RESOLVER: &str = "/etc/resolv.conf";

/// A file that has the configuration of the build host until [`Planted::remove`].
pub(super) struct Planted {
    /// Leads through `_directory`: a job may replace `/etc` by a symlink, which would lead to the
    /// file of the host itself.
    path: PathBuf,
    _directory: OwnedFd,
    content: Vec<u8>,
    modified: SystemTime,
    text: Vec<u8>,
}

impl Planted {
    /// Writes `text` to the resolver configuration of `root`. If the file is absent, `targets`
    /// makes it.
    ///
    /// Returns `None` if the configuration must be mounted instead: the root is read-only, or the
    /// file is a symlink into one of the paths `elsewhere` (relative to `root`).
    pub(super) fn plant(
        root: &Path,
        targets: &mut MadeTargets,
        elsewhere: &[&str],
        text: &[u8],
    ) -> io::Result<Option<Self>> {
        let found = match targets.make(root, RESOLVER, Shape::File, elsewhere) {
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => return Ok(None),
            found => found?,
        };
        let Some(path) = found.map(|path| root.join(path)) else { return Ok(None) };
        let directory = mount::place(path.parent().unwrap_or(root))?;
        let path = mount::path_of(&directory).join(path.file_name().unwrap_or_default());
        let entry = fs::symlink_metadata(&path)?;
        if !entry.is_file() {
            return Ok(None);
        }
        let (content, modified) = (fs::read(&path)?, entry.modified()?);
        let planted = Self { path, _directory: directory, content, modified, text: text.to_owned() };
        match planted.write(text) {
            Ok(_) => Ok(Some(planted)),
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes the configuration of the host if the path is still a regular file. Other text, which
    /// a job has written, stays. If a job has appended lines, only the lines of the host are
    /// removed.
    pub(super) fn remove(self) -> io::Result<()> {
        match fs::symlink_metadata(&self.path) {
            Ok(entry) if entry.is_file() => self.replace(&fs::read(&self.path)?),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Replaces `found`, the present content of the file, by the content that it would have without
    /// the host's configuration.
    fn replace(&self, found: &[u8]) -> io::Result<()> {
        match found.strip_prefix(self.text.as_slice()) {
            // With its former time: an unchanged file must not be in the layer.
            Some([]) => self.write(&self.content)?.set_modified(self.modified),
            Some(appended) if !self.text.is_empty() => {
                self.write(&[&self.content, appended].concat()).map(drop)
            }
            _ => Ok(()),
        }
    }

    fn write(&self, content: &[u8]) -> io::Result<File> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).truncate(true).custom_flags(O_NOFOLLOW).open(&self.path)?;
        file.write_all(content)?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Plants the text `machine` in a root with this `/etc/resolv.conf`, calls `job`, and removes
    /// the text again.
    fn after(own: Option<&str>, job: impl Fn(&Path)) -> (PathBuf, tempfile::TempDir) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("etc/resolv.conf");
        fs::create_dir(path.parent().unwrap()).unwrap();
        own.into_iter().for_each(|own| fs::write(&path, own).unwrap());
        let mut targets = MadeTargets::default();
        let planted = Planted::plant(root.path(), &mut targets, &["run"], b"machine").unwrap().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "machine");
        job(&path);
        planted.remove().unwrap();
        targets.remove().unwrap();
        (path, root)
    }

    #[test]
    fn a_job_may_write_append_link_and_remove() {
        let link = |path: &Path| {
            fs::remove_file(path).unwrap();
            symlink("../run/stub.conf", path).unwrap();
        };
        let write = |path: &Path| fs::write(path, "job").unwrap();
        let append = |path: &Path| {
            let machine = fs::read_to_string(path).unwrap();
            fs::write(path, machine + "\njob").unwrap();
        };
        let remove = |path: &Path| fs::remove_file(path).unwrap();
        for own in [Some("own"), Some(""), None] {
            let (path, _root) = after(own, |_| ());
            assert_eq!(fs::read_to_string(&path).ok().as_deref(), own);
            let (path, _root) = after(own, write);
            assert_eq!(fs::read_to_string(&path).unwrap(), "job");
            let (path, _root) = after(own, append);
            assert_eq!(fs::read_to_string(&path).unwrap(), own.unwrap_or_default().to_owned() + "\njob");
            let (path, _root) = after(own, link);
            assert_eq!(fs::read_link(&path).unwrap(), Path::new("../run/stub.conf"));
            let (path, _root) = after(own, remove);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_job_that_puts_a_link_in_the_place_of_etc_reaches_no_file_of_the_host() {
        let host = tempfile::tempdir().unwrap();
        fs::write(host.path().join("resolv.conf"), "machine").unwrap();
        let (path, _root) = after(Some("own"), |path| {
            let etc = path.parent().unwrap();
            fs::rename(etc, etc.with_file_name("moved")).unwrap();
            symlink(host.path(), etc).unwrap();
        });
        assert_eq!(fs::read_to_string(host.path().join("resolv.conf")).unwrap(), "machine");
        let moved = path.parent().unwrap().with_file_name("moved/resolv.conf");
        assert_eq!(fs::read_to_string(moved).unwrap(), "own");
    }

    #[test]
    fn the_time_of_the_roots_own_file_is_put_back() {
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("etc/resolv.conf");
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(&path, "own").unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        let mut targets = MadeTargets::default();
        let planted = Planted::plant(root.path(), &mut targets, &[], b"machine").unwrap().unwrap();
        planted.remove().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), time);
    }

    #[test]
    fn a_symlink_to_where_something_is_mounted_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        symlink("../run/stub.conf", root.path().join("etc/resolv.conf")).unwrap();
        let mut targets = MadeTargets::default();
        assert!(Planted::plant(root.path(), &mut targets, &["run"], b"machine").unwrap().is_none());
        assert!(!root.path().join("run").exists());
    }
}
