//! Normalizes the files that hooks change in place on a mounted disk, by the rules of layers.
//!
//! A changed file has an inode change time after the moment when the observation began. Hooks cannot set that time, and all file
//! systems of one machine take it from the same clock. FAT keeps no such time, and is not mounted here: its content lies in the
//! file system around it until the hooks have ended.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{
    AtFlags, IFlags, Mode, OFlags, Stat, ioctl_getflags, ioctl_setflags, openat, statat, utimensat,
};
use rustix::io::Errno;

use super::file::{DIRECTORY, failed, names, open_directory, remove_tree};
use super::node::apply_meta;
use super::scan::{empty, kind, meta, replace, timestamps};
use super::scratch::seconds_now;
use crate::layer::{Action, Kind, Times};
use crate::port::{Commit, ObservedTree, StoreError};

/// How far the clock that dates inodes may lag behind the one that is read here: a tick of the slowest kernel (10 ms).
const TICK: Duration = Duration::from_millis(20);

/// The clock counts as set back if it advanced so much less than the monotonic clock.
const TOLERANCE: Duration = Duration::from_millis(100);

/// A tree under observation, and the moment when that began.
pub(super) struct Observed {
    root: PathBuf,
    began: Duration,
    clock: Instant,
}

impl Observed {
    pub(super) fn start(root: &Path) -> Self {
        let (began, clock) = (since_1970(), Instant::now());
        // Later changes must not get a time before this moment.
        std::thread::sleep(TICK);
        Self { root: root.to_owned(), began, clock }
    }

    /// Returns the latest inode change time of unchanged files, in seconds and nanoseconds.
    fn mark(&self) -> (i64, u64) {
        let lasted = since_1970().saturating_sub(self.began);
        // If the clock was set back, changed files may look old: then all files count as changed.
        match lasted + TOLERANCE < self.clock.elapsed() {
            true => (i64::MIN, 0),
            false => (self.began.as_secs() as i64, self.began.subsec_nanos().into()),
        }
    }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl ObservedTree for Observed {
    fn normalize(self: Box<Self>, below: &Path, commit: &Commit) -> Result<(), StoreError> {
        let times = Times {
            epoch: commit.source_date_epoch,
            started: self.began.as_secs() as i64,
            ended: seconds_now() as i64,
        };
        let pass = Pass { root: &self.root, commit, times, mark: self.mark() };
        let root = open_directory(&self.root)?;
        let stat = statat(&root, ".", AtFlags::empty()).map_err(failed("inspect", &self.root))?;
        pass.directory(root.as_fd(), b".", b"", &stat, Some(open_directory(below)?))
    }
}

struct Pass<'a> {
    root: &'a Path,
    commit: &'a Commit,
    times: Times,
    mark: (i64, u64),
}

impl Pass<'_> {
    fn is_changed(&self, stat: &Stat) -> bool {
        (stat.st_ctime, stat.st_ctime_nsec) > self.mark
    }

    /// Normalizes the directory `name` in `parent` with everything in it; `below` is the same directory before the hooks ran.
    fn directory(
        &self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        stat: &Stat,
        below: Option<OwnedFd>,
    ) -> Result<(), StoreError> {
        let absolute = self.absolute(path);
        let directory = openat(parent, name, DIRECTORY, Mode::empty());
        let directory = directory.map_err(failed("open directory", &absolute))?;
        let mut removed = false;
        for name in names(&directory).map_err(failed("read directory", &absolute))? {
            let child = if path.is_empty() { name.clone() } else { [path, &name].join(&b'/') };
            removed |= self.entry(directory.as_fd(), &name, &child, below.as_ref())?;
        }
        // Last, as every change in the directory sets its time.
        if self.is_changed(stat) {
            let mtime =
                self.time_of_directory(&directory, stat, below).map_err(failed("inspect", &absolute))?;
            return self.date(parent, name, path, mtime);
        }
        if removed { self.date(parent, name, path, stat.st_mtime) } else { Ok(()) }
    }

    /// Returns the time that the directory would have in a layer. A directory that differs in its time alone is in no layer, and
    /// keeps the time that it had.
    fn time_of_directory(
        &self,
        directory: &OwnedFd,
        stat: &Stat,
        below: Option<OwnedFd>,
    ) -> Result<i64, Errno> {
        let epoch = self.times.epoch;
        if let Some(below) = below {
            let was = rustix::fs::fstat(&below)?;
            let sorted = |directory: &OwnedFd| {
                names(directory).map(|mut names| {
                    names.sort_unstable();
                    names
                })
            };
            if same_owner_and_mode(stat, &was) && sorted(directory)? == sorted(&below)? {
                return Ok(was.st_mtime);
            }
        }
        Ok(stat.st_mtime.min(epoch))
    }

    /// Normalizes one entry. Returns true if it was removed.
    fn entry(
        &self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        below: Option<&OwnedFd>,
    ) -> Result<bool, StoreError> {
        let absolute = self.absolute(path);
        let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = stat.map_err(failed("inspect", &absolute))?;
        let kind = kind(directory, name, &stat).map_err(failed("read link", &absolute))?;
        let is_directory = kind == Some(Kind::Directory);
        // A directory is always entered: a change deeper in it does not show in its own inode.
        if !is_directory && !self.is_changed(&stat) {
            return Ok(false);
        }
        let inner = below.filter(|_| is_directory);
        let inner = inner.and_then(|below| openat(below, name, DIRECTORY, Mode::empty()).ok());
        let action = match &kind {
            Some(Kind::Directory) if !self.is_changed(&stat) => Action::Keep,
            // A socket: nothing answers behind it.
            None => Action::Drop,
            // Its entries are decided one by one, as those of the layers below stay.
            Some(Kind::Directory) if inner.is_some() => Action::Keep,
            Some(kind) => self.commit.rules.action(path, kind),
        };
        match action {
            Action::Drop => {
                // A layer without the file would let the file of the layer below show through.
                let old = below.and_then(|below| open_file(below.as_fd(), name).ok());
                if let (Some(Kind::File(_)), Some(old)) = (kind, old) {
                    return restore(directory, name, old)
                        .map_err(failed("restore", &absolute))
                        .map(|()| false);
                }
                remove_tree(directory, name).map_err(failed("remove", &absolute))?;
                return Ok(true);
            }
            Action::Keep if is_directory => {
                return self.directory(directory, name, path, &stat, inner).map(|()| false);
            }
            Action::Keep => {}
            Action::Empty => empty(directory, name).map(drop).map_err(failed("empty", &absolute))?,
            Action::Rewrite(rewrite) => replace(directory, name, rewrite, &self.times)
                .map(drop)
                .map_err(failed("rewrite", &absolute))?,
        }
        self.date(directory, name, path, stat.st_mtime.min(self.times.epoch))?;
        Ok(false)
    }

    fn date(
        &self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        mtime: i64,
    ) -> Result<(), StoreError> {
        let set = || utimensat(directory, name, &timestamps(mtime), AtFlags::SYMLINK_NOFOLLOW);
        // Only after a refusal, as changing the flags is two more system calls and a change of the inode.
        let result = match set() {
            Err(Errno::PERM) => with_changes_allowed(directory, name, set),
            result => result,
        };
        result.map_err(failed("set the times of", &self.absolute(path)))
    }

    fn absolute(&self, path: &[u8]) -> PathBuf {
        self.root.join(std::ffi::OsStr::from_bytes(path))
    }
}

/// Returns true if two directories have the same owner and mode.
fn same_owner_and_mode(a: &Stat, b: &Stat) -> bool {
    (a.st_mode, a.st_uid, a.st_gid) == (b.st_mode, b.st_uid, b.st_gid)
}

/// Opens a regular file to read.
fn open_file(directory: BorrowedFd<'_>, name: &[u8]) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file: File = openat(directory, name, flags, Mode::empty())?.into();
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Gives the file `name` the content and the meta data of `old`.
fn restore(directory: BorrowedFd<'_>, name: &[u8], mut old: File) -> io::Result<()> {
    // In place, so that other names of the file show the same.
    let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file: File = openat(directory, name, flags, Mode::empty())?.into();
    io::copy(&mut old, &mut file)?;
    let meta = meta(&rustix::fs::fstat(&old)?, i64::MAX);
    apply_meta(directory, name, &Kind::File(0), &meta)
}

/// Calls `change` while the file is neither immutable nor append-only; hooks set these flags with `chattr`. Sets them again.
fn with_changes_allowed(
    directory: BorrowedFd<'_>,
    name: &[u8],
    change: impl FnOnce() -> Result<(), Errno>,
) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(directory, name, flags, Mode::empty())?;
    let locked = ioctl_getflags(&file)?;
    ioctl_setflags(&file, locked - (IFlags::IMMUTABLE | IFlags::APPEND))?;
    let changed = change();
    // Also after a failure: the caller may go on with other files.
    ioctl_setflags(&file, locked)?;
    changed
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::layer::CaptureRules;

    const EPOCH: i64 = 1_700_000_000;

    /// A disk and the layers that it was filled from, both with these files, dated before the epoch.
    fn filled(files: &[(&str, &str)]) -> tempfile::TempDir {
        let scratch = tempfile::tempdir().unwrap();
        for tree in ["disk", "below"] {
            for (path, text) in files {
                let path = scratch.path().join(tree).join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, text).unwrap();
                for path in path.ancestors().take_while(|path| *path != scratch.path()) {
                    date_path(path, EPOCH - 9);
                }
            }
        }
        scratch
    }

    fn date_path(path: &Path, mtime: i64) {
        utimensat(rustix::fs::CWD, path, &timestamps(mtime), AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }

    fn mtime(path: &Path) -> i64 {
        fs::symlink_metadata(path).unwrap().mtime()
    }

    /// Returns the disk after `hooks` ran on it.
    fn normalized(scratch: &tempfile::TempDir, hooks: impl FnOnce(&Path)) -> PathBuf {
        let (disk, below) = (scratch.path().join("disk"), scratch.path().join("below"));
        let observed = Box::new(Observed::start(&disk));
        hooks(&disk);
        let commit = Commit { source_date_epoch: EPOCH, rules: CaptureRules::standard() };
        observed.normalize(&below, &commit).unwrap();
        disk
    }

    #[test]
    fn changes_are_dropped_emptied_rewritten_and_dated_as_in_a_layer() {
        let scratch = filled(&[("etc/ssh/sshd_config", ""), ("etc/shadow", ""), ("var/log/a.log", "old")]);
        let id = "0123456789abcdef0123456789abcdef\n";
        let disk = normalized(&scratch, |disk| {
            let write = |path: &str, text: &str| {
                fs::create_dir_all(disk.join(path).parent().unwrap()).unwrap();
                fs::write(disk.join(path), text).unwrap();
            };
            write("etc/ssh/ssh_host_rsa_key", "secret");
            write("run/sshd/pid", "1");
            write("etc/machine-id", id);
            write("var/log/a.log", "new");
            write("var/cache/apt/archives/hello.deb", "deb");
            write("srv/new", "new");
            write("srv/later", "later");
            date_path(&disk.join("srv/later"), 4_102_444_800);
            let old = disk.join("srv/old");
            write("srv/old", "old");
            date_path(&old, 5);
            std::os::unix::fs::symlink("new", disk.join("srv/link")).unwrap();
            let today = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 86_400;
            write("etc/shadow", &format!("a:x:{today}:0:90:7:::\n"));
        });
        for gone in ["etc/ssh/ssh_host_rsa_key", "run/sshd", "var/cache/apt/archives/hello.deb"] {
            assert!(!disk.join(gone).exists(), "{gone}");
        }
        for (path, text) in [
            ("etc/machine-id", ""),
            ("var/log/a.log", ""),
            ("etc/shadow", "a:x:47482:0:90:7:::\n"),
            ("srv/new", "new"),
        ] {
            assert_eq!(fs::read_to_string(disk.join(path)).unwrap(), text, "{path}");
            assert_eq!(mtime(&disk.join(path)), EPOCH, "{path}");
        }
        for (path, expected) in [
            ("srv", EPOCH),
            ("srv/later", EPOCH),
            ("srv/link", EPOCH),
            ("srv/old", 5),
            ("etc", EPOCH),
            // Nothing remains of what happened there.
            ("etc/ssh", EPOCH - 9),
            ("etc/ssh/sshd_config", EPOCH - 9),
            ("var/log", EPOCH - 9),
        ] {
            assert_eq!(mtime(&disk.join(path)), expected, "{path}");
        }
    }

    /// Layers of an image base are kept as they are, and show through where a step's own version is dropped.
    #[test]
    fn what_came_with_the_base_stays() {
        let files = [
            ("etc/ssh/ssh_host_rsa_key", "of the base"),
            ("var/lib/apt/lists/index", "of the base"),
            ("run/base/file", "of the base"),
            ("var/log/kept.log", "of the base"),
        ];
        let scratch = filled(&files);
        let disk = normalized(&scratch, |disk| {
            fs::write(disk.join("var/lib/apt/lists/index"), "newer").unwrap();
            fs::write(disk.join("run/base/other"), "pid").unwrap();
            fs::remove_file(disk.join("etc/ssh/ssh_host_rsa_key")).unwrap();
        });
        assert!(!disk.join("etc/ssh/ssh_host_rsa_key").exists(), "a removal stays");
        assert!(!disk.join("run/base/other").exists());
        for (path, text) in &files[1..] {
            assert_eq!(fs::read_to_string(disk.join(path)).unwrap(), *text, "{path}");
            assert_eq!(mtime(&disk.join(path)), EPOCH - 9, "{path}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_hides_no_change() {
        let mut observed = Observed::start(Path::new("/"));
        assert!(observed.mark() > (0, 0));
        observed.clock -= Duration::from_secs(3600);
        assert_eq!(observed.mark(), (i64::MIN, 0));
    }
}
