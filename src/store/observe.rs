//! Normalizes files that hooks have changed on a mounted disk, by the rules of layers.
//!
//! A file counts as changed if its inode change time is later than the start of the observation.
//! Hooks cannot set that time, and all file systems of one machine take it from the same clock. FAT
//! has no such time, but it is not mounted here: until the hooks have ended, its content is in the
//! file system around it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{FileType, IFlags, Mode, OFlags, Stat, ioctl_getflags, ioctl_setflags, openat};
use rustix::io::Errno;

use super::file::remove_tree;
use super::overlay::apply_meta;
use super::scan::{empty, replace};
use super::scratch::seconds_now;
use crate::layer::{Action, Clamp, Kind, Meta, Times};
use crate::port::{Commit, IoError, ObservedTree, StoreError};
use crate::tree::{Dir, Entry, clamped_time, meta, timestamps};

/// The kernel sets inode times by a clock that may lag behind by one tick: 10 ms on the slowest
/// kernels. This is more.
const TICK: Duration = Duration::from_millis(20);

/// If the clock advanced less than the monotonic clock by this much, it was set back.
const TOLERANCE: Duration = Duration::from_millis(100);

/// An observed tree, and the time when the observation began.
pub(super) struct Observed {
    root: PathBuf,
    began: Duration,
    clock: Instant,
}

impl Observed {
    pub(super) fn start(root: &Path) -> Self {
        let (began, clock) = (since_1970(), Instant::now());
        // Every later change must get a time after `began`.
        std::thread::sleep(TICK);
        Self { root: root.to_owned(), began, clock }
    }

    /// Returns the latest inode change time of unchanged files, in seconds and nanoseconds.
    fn mark(&self) -> (i64, u64) {
        let lasted = since_1970().saturating_sub(self.began);
        // If the clock was set back, changed files may look old. All files count as changed then.
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
            clamp: commit.clamp.clone(),
            started: self.began.as_secs() as i64,
            ended: seconds_now() as i64,
        };
        let (root, below) = (Dir::open(&self.root)?, Dir::open(below)?);
        Pass { commit, times, mark: self.mark() }.directory(&root.itself()?, Some(below))
    }
}

struct Pass<'a> {
    commit: &'a Commit,
    times: Times,
    mark: (i64, u64),
}

impl Pass<'_> {
    fn is_changed(&self, stat: &Stat) -> bool {
        (stat.st_ctime, stat.st_ctime_nsec) > self.mark
    }

    /// Normalizes a directory with everything in it. `below` is the same directory before the hooks
    /// ran.
    fn directory(&self, entry: &Entry<'_>, below: Option<Dir<'_>>) -> Result<(), StoreError> {
        let directory = entry.enter()?;
        let mut removed = false;
        for inner in directory.entries()? {
            removed |= self.entry(&inner?, below.as_ref())?;
        }
        // Last, because every change in the directory sets its time.
        if self.is_changed(&entry.stat) {
            return Ok(date(entry, self.time_of_directory(&directory, &entry.stat, below)?)?);
        }
        if removed { Ok(date(entry, entry.stat.st_mtime)?) } else { Ok(()) }
    }

    /// Returns the time that the directory would have in a layer. If only its time has changed, the
    /// directory would not be in a layer, so it gets its old time.
    fn time_of_directory(
        &self,
        directory: &Dir<'_>,
        stat: &Stat,
        below: Option<Dir<'_>>,
    ) -> Result<i64, IoError> {
        if let Some(below) = below {
            let was = below.status()?;
            if same_owner_and_mode(stat, &was) && directory.names()? == below.names()? {
                return Ok(was.st_mtime);
            }
        }
        Ok(self.times.clamp.other(stat.st_mtime))
    }

    /// Normalizes one entry. Returns true if it was removed.
    fn entry(&self, entry: &Entry<'_>, below: Option<&Dir<'_>>) -> Result<bool, StoreError> {
        // Directories are always entered: a change deeper in the tree does not change their own
        // inode.
        if !entry.is_directory() && !self.is_changed(&entry.stat) {
            return Ok(false);
        }
        let kind = entry.kind()?;
        let old = below.and_then(|below| below.entry(entry.name.clone()).ok());
        let old_directory = old.as_ref().filter(|_| entry.is_directory()).and_then(|old| old.enter().ok());
        let action = match &kind {
            Some(Kind::Directory) if !self.is_changed(&entry.stat) => Action::Keep,
            // A socket: its process has ended.
            None => Action::Drop,
            // Rules apply to its entries one by one, because the entries of the layers below stay.
            Some(Kind::Directory) if old_directory.is_some() => Action::Keep,
            Some(kind) => self.commit.rules.action(&entry.path, kind),
        };
        match action {
            Action::Drop => {
                // As in a layer: if the layer lacks the file, the image shows the file of the layer
                // below.
                if let (Some(Kind::File(_)), Some(old)) = (kind, old.filter(is_file)) {
                    restore(entry, &old).map_err(entry.failed("restore"))?;
                    return Ok(false);
                }
                remove_tree(entry.directory(), &entry.name).map_err(entry.failed("remove"))?;
                return Ok(true);
            }
            Action::Keep if entry.is_directory() => {
                return self.directory(entry, old_directory).map(|()| false);
            }
            Action::Keep => {}
            Action::Empty => drop(empty(entry)?),
            Action::Rewrite(rewrite) => drop(replace(entry, rewrite, &self.times)?),
        }
        date(entry, clamped_time(&entry.stat, &self.times.clamp))?;
        Ok(false)
    }
}

fn date(entry: &Entry<'_>, mtime: i64) -> Result<(), IoError> {
    let set = || entry.file().set_times(&timestamps(mtime));
    // Only after a refusal, because changing the flags takes more system calls and changes the
    // inode.
    let result = match set() {
        Err(Errno::PERM) => with_changes_allowed(entry, set),
        result => result,
    };
    result.map_err(entry.failed("set the times of"))
}

/// Returns true if two directories have the same owner and mode.
fn same_owner_and_mode(a: &Stat, b: &Stat) -> bool {
    (a.st_mode, a.st_uid, a.st_gid) == (b.st_mode, b.st_uid, b.st_gid)
}

fn is_file(entry: &Entry<'_>) -> bool {
    entry.file_type() == FileType::RegularFile
}

/// Copies content, metadata and extended attributes of `old` to a file.
fn restore(entry: &Entry<'_>, old: &Entry<'_>) -> io::Result<()> {
    let mut content = old.open()?;
    // In place, so that hard links of the file get the same content.
    let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file: File = openat(entry.directory(), &*entry.name, flags, Mode::empty())?.into();
    io::copy(&mut content, &mut file)?;
    // After the content: a write removes file capabilities.
    let xattrs = old.file().content()?;
    for key in entry.file().content()?.keys().filter(|key| !xattrs.contains_key(*key)) {
        entry.file().remove_attribute(key)?;
    }
    let meta = Meta { xattrs, ..meta(&old.stat, &Clamp::none()) };
    apply_meta(entry.directory(), &entry.name, &Kind::File(0), &meta)
}

/// Clears the flags `immutable` and `append-only`, which hooks set with `chattr`, calls `change`,
/// and sets the flags again.
fn with_changes_allowed(entry: &Entry<'_>, change: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(entry.directory(), &*entry.name, flags, Mode::empty())?;
    let locked = ioctl_getflags(&file)?;
    ioctl_setflags(&file, locked - (IFlags::IMMUTABLE | IFlags::APPEND))?;
    let changed = change();
    // Also after a failure, so that the disk keeps the flags that the hook has set.
    ioctl_setflags(&file, locked)?;
    changed
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::layer::CaptureRules;
    use crate::tree::FileRef;

    const EPOCH: i64 = 1_700_000_000;

    /// Returns a disk and the layers that it was filled from. Both have these files, with times
    /// before the epoch.
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
        FileRef::Named(rustix::fs::CWD, path.as_os_str().as_bytes()).set_times(&timestamps(mtime)).unwrap();
    }

    fn mtime(path: &Path) -> i64 {
        fs::symlink_metadata(path).unwrap().mtime()
    }

    /// Returns the disk after `hooks` ran on it.
    fn normalized(scratch: &tempfile::TempDir, hooks: impl FnOnce(&Path)) -> PathBuf {
        let (disk, below) = (scratch.path().join("disk"), scratch.path().join("below"));
        let observed = Box::new(Observed::start(&disk));
        hooks(&disk);
        let commit = Commit { clamp: Clamp::to(EPOCH), rules: CaptureRules::standard() };
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
            // The changes in it were undone, so it keeps its old time.
            ("etc/ssh", EPOCH - 9),
            ("etc/ssh/sshd_config", EPOCH - 9),
            ("var/log", EPOCH - 9),
        ] {
            assert_eq!(mtime(&disk.join(path)), expected, "{path}");
        }
    }

    /// Layers of an imported base keep their files. If a rule drops a step's version of a file, the
    /// image has the version of the base.
    #[test]
    fn files_of_the_base_stay() {
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
        assert!(!disk.join("etc/ssh/ssh_host_rsa_key").exists(), "the file stays removed");
        assert!(!disk.join("run/base/other").exists());
        for (path, text) in &files[1..] {
            assert_eq!(fs::read_to_string(disk.join(path)).unwrap(), *text, "{path}");
            assert_eq!(mtime(&disk.join(path)), EPOCH - 9, "{path}");
        }
    }

    #[test]
    fn a_restored_file_has_its_old_extended_attributes() {
        use rustix::fs::{XattrFlags, lgetxattr, lremovexattr, lsetxattr};
        let scratch = filled(&[("var/lib/apt/lists/index", "of the base")]);
        let set = |path: &Path, name: &str| lsetxattr(path, name, b"1", XattrFlags::empty()).unwrap();
        for tree in ["disk", "below"] {
            set(&scratch.path().join(tree).join("var/lib/apt/lists/index"), "user.base");
        }
        let disk = normalized(&scratch, |disk| {
            let index = disk.join("var/lib/apt/lists/index");
            fs::write(&index, "newer").unwrap();
            lremovexattr(&index, "user.base").unwrap();
            set(&index, "user.hook");
        });
        let has =
            |name: &str| lgetxattr(disk.join("var/lib/apt/lists/index"), name, &mut [0u8; 8][..]).is_ok();
        assert_eq!((has("user.base"), has("user.hook")), (true, false));
    }

    #[test]
    fn changes_are_noticed_although_the_clock_was_set_back() {
        let mut observed = Observed::start(Path::new("/"));
        assert!(observed.mark() > (0, 0));
        observed.clock -= Duration::from_secs(3600);
        assert_eq!(observed.mark(), (i64::MIN, 0));
    }
}
