//! Opens a directory, one component of its path after the other.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat};
use rustix::io::Errno;

use super::PATH_ONLY;

/// Limit of symbolic links in a path; the same as the kernel's.
const MAX_LINKS: u32 = 40;

/// What to do about a missing directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Fail,
    Make,
}

/// A symbolic link of another user in a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignLink {
    /// Its path, as the caller or an earlier link wrote it.
    pub path: PathBuf,
    /// The user id of its owner.
    pub owner: u32,
}

impl fmt::Display for ForeignLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, owner } = self;
        write!(
            f,
            "`{}` is a symbolic link of user {owner}, who could lead plywood anywhere: name the directory itself",
            path.display()
        )
    }
}

impl std::error::Error for ForeignLink {}

/// Opens (`O_PATH`) the directory at `path`.
pub(super) fn walk(path: &Path, missing: Missing) -> io::Result<OwnedFd> {
    Walk { missing, trusted: trusted_users(), links: 0 }.from(None, path, Path::new(""))
}

/// Returns the users whose links are always followed: root, this process' user, the caller of
/// `sudo`.
pub(super) fn trusted_users() -> BTreeSet<u32> {
    let own = rustix::process::geteuid().as_raw();
    // Anybody can set the variable. Only a process of root can rely on `sudo` to have set it.
    let caller = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok());
    [0, own].into_iter().chain(caller.filter(|_| own == 0)).collect()
}

struct Walk {
    missing: Missing,
    trusted: BTreeSet<u32>,
    links: u32,
}

impl Walk {
    /// Walks from `start`, or from the current directory. `shown` is the path of `start` for
    /// messages.
    fn from(&mut self, start: Option<OwnedFd>, path: &Path, shown: &Path) -> io::Result<OwnedFd> {
        let open = |path| rustix::fs::open(path, PATH_ONLY | OFlags::DIRECTORY, Mode::empty());
        let mut here = start.map_or_else(|| open("."), Ok)?;
        let mut shown = shown.to_owned();
        for component in path.components() {
            here = match component {
                Component::RootDir | Component::Prefix(_) => open("/")?,
                Component::CurDir => here,
                Component::ParentDir => rustix::fs::openat(&here, "..", PATH_ONLY, Mode::empty())?,
                Component::Normal(name) => self.enter(here, name, &shown)?,
            };
            shown.push(component);
        }
        Ok(here)
    }

    fn enter(&mut self, here: OwnedFd, name: &OsStr, shown: &Path) -> io::Result<OwnedFd> {
        // Opened before it is examined, so that type and owner belong to the entry that is entered.
        let found = match rustix::fs::openat(&here, name, PATH_ONLY, Mode::empty()) {
            Err(Errno::NOENT) if self.missing == Missing::Make => make(&here, name)?,
            result => result?,
        };
        let status = fstat(&found)?;
        match FileType::from_raw_mode(status.st_mode) {
            FileType::Directory => Ok(found),
            FileType::Symlink => self.follow(here, &found, &status, &shown.join(name)),
            _ => Err(Errno::NOTDIR.into()),
        }
    }

    fn follow(&mut self, here: OwnedFd, link: &OwnedFd, status: &Stat, path: &Path) -> io::Result<OwnedFd> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::LOOP.into());
        }
        let target = rustix::fs::readlinkat(link, "", Vec::new())?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        let may_decide = self.trusted.contains(&status.st_uid) || !is_risky(&here)?;
        // A link of another user must not make this process create directories elsewhere.
        let missing = self.missing;
        if !may_decide {
            self.missing = Missing::Fail;
        }
        let found = self.from(Some(here), &target, path.parent().unwrap_or(Path::new("")))?;
        self.missing = missing;
        // The owner of the link also owns the target, so the link gives no access that its owner
        // lacks.
        if may_decide || fstat(&found)?.st_uid == status.st_uid {
            return Ok(found);
        }
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            ForeignLink { path: path.to_owned(), owner: status.st_uid },
        ))
    }
}

/// Returns true if links of other users in this directory are dangerous: for root everywhere, for
/// ordinary users in sticky directories that all users can write to. The kernel's
/// `fs.protected_symlinks` covers the latter only.
fn is_risky(directory: &OwnedFd) -> io::Result<bool> {
    const STICKY_AND_SHARED: u32 = 0o1002;
    let mode = fstat(directory)?.st_mode;
    Ok(rustix::process::geteuid().is_root() || mode & STICKY_AND_SHARED == STICKY_AND_SHARED)
}

fn make(here: &OwnedFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdirat(here, name, Mode::from_raw_mode(0o777)) {
        // Another process made it at the same time.
        Ok(()) | Err(Errno::EXIST) => rustix::fs::openat(here, name, PATH_ONLY, Mode::empty()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn number(path: &Path, missing: Missing) -> io::Result<u64> {
        Ok(fstat(walk(path, missing)?)?.st_ino)
    }

    #[test]
    fn relative_absolute_and_looping_links_are_resolved_as_by_the_kernel() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        symlink("../a", at("a/up")).unwrap();
        symlink(at("a/up/b"), at("far")).unwrap();
        symlink("loop", at("loop")).unwrap();
        fs::write(at("file"), "").unwrap();
        let expected = fs::metadata(at("a/b")).unwrap().ino();
        for path in ["a/b", "a/up/up/b", "far", "far/../b/.", "./a//b"] {
            assert_eq!(number(&at(path), Missing::Fail).unwrap(), expected, "{path}");
        }
        let error = |path: &str| number(&at(path), Missing::Fail).unwrap_err().raw_os_error();
        assert_eq!(error("loop"), Some(Errno::LOOP.raw_os_error()));
        assert_eq!(error("file"), Some(Errno::NOTDIR.raw_os_error()));
        assert_eq!(error("none"), Some(Errno::NOENT.raw_os_error()));
        number(&at("far/new/deeper"), Missing::Make).unwrap();
        assert!(at("a/b/new/deeper").is_dir());
    }
}
