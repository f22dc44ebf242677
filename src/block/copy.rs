//! Copies a tree to a mounted disk.
//!
//! One thread walks the tree in byte order of the names and creates all entries. Other threads copy
//! the content and metadata of regular files. Directories therefore get no new names after the walk
//! has left them, hard links have their target, and the place of a file on the disk depends only on
//! its path. In memory are the handles of unfinished files, one buffer for each thread, and one
//! name for each hard-linked file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::fs::{fallocate, linkat, mkdirat, mknodat, openat, symlinkat};
use rustix::io::Errno;

use super::error::failed;
use super::sparse::next_granules;
use crate::layer::{Clamp, Kind, Meta};
use crate::port::{DiskError, IoError};
use crate::tree::{Dir, Entry, FileRef, Links, has_holes, meta, open_directory};

/// Large enough for few system calls, small enough for the cache of the processor.
const BUFFER_BYTES: usize = 256 << 10;

/// The largest number of created files that wait for their content. Each needs two open files.
const IN_FLIGHT: usize = 64;

/// Copies everything below the directory `source` into the directory `target`, without sockets,
/// because their processes have ended.
///
/// Stops early when `interrupt` becomes true.
pub(super) fn copy_tree(source: &Path, target: &Path, interrupt: &AtomicBool) -> Result<(), DiskError> {
    let from = Dir::open(source)?;
    let to = open_directory(CWD, target).map_err(failed("open directory", target))?;
    let (sender, receiver) = sync_channel(IN_FLIGHT);
    let (receiver, has_failed) = (Mutex::new(receiver), AtomicBool::new(false));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let fill =
            || fill_files(&receiver, &has_failed).inspect_err(|_| has_failed.store(true, Ordering::Relaxed));
        let fillers: Vec<_> = (0..threads).map(|_| scope.spawn(fill)).collect();
        let (root, links) = (to.as_fd(), Links::default());
        let mut walk = Walk { root, files: sender, links, has_failed: &has_failed, interrupt };
        let walked = walk.directory(&from, &to);
        // The fillers end when the sender is dropped.
        drop(walk);
        let filled = fillers.into_iter().map(|filler| filler.join().expect("filling files does not panic"));
        // If both failed, the error of the filler is the cause: the walk ended because of it.
        filled.collect::<Result<(), _>>().and(walked)
    })
}

/// A created regular file without its content.
struct Unfilled {
    from: File,
    to: File,
    stat: Stat,
    path: PathBuf,
}

struct Walk<'a> {
    root: BorrowedFd<'a>,
    files: SyncSender<Unfilled>,
    /// The path of the first name of each hard-linked file, relative to `root`.
    links: Links<Vec<u8>>,
    has_failed: &'a AtomicBool,
    interrupt: &'a AtomicBool,
}

impl Walk<'_> {
    /// Copies the content of a directory, and then its metadata, because each new name changes its
    /// time.
    fn directory(&mut self, from: &Dir<'_>, to: &OwnedFd) -> Result<(), DiskError> {
        for entry in from.entries()? {
            if self.interrupt.load(Ordering::Relaxed) {
                return Err(DiskError::Interrupted);
            }
            if self.has_failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            self.entry(&entry?, to)?;
        }
        let (stat, to) = (from.status()?, FileRef::Open(to.as_fd()));
        copy_metadata(from.file(), to, &Kind::Directory, &stat)
            .map_err(failed(SET_METADATA, &from.location()))
    }

    fn entry(&mut self, entry: &Entry<'_>, to: &OwnedFd) -> Result<(), DiskError> {
        match entry.kind()? {
            None => Ok(()),
            Some(Kind::Directory) => {
                let to = make_directory(to, &entry.name).map_err(entry.failed("copy directory"))?;
                self.directory(&entry.enter()?, &to)
            }
            Some(Kind::File(_)) => Ok(self.file(entry, to)?),
            Some(kind) => Ok(copy_special(entry, to, &kind).map_err(entry.failed("copy"))?),
        }
    }

    fn file(&mut self, entry: &Entry<'_>, to: &OwnedFd) -> Result<(), IoError> {
        if let Some(first) = self.links.first(&entry.stat, || entry.path.clone()) {
            return link(self.root, first, to, &entry.name).map_err(entry.failed("copy"));
        }
        let from = entry.open()?;
        let to = make_file(to, &entry.name, &entry.stat).map_err(entry.failed("copy"))?;
        // The send fails after every filler has failed. Their errors are reported.
        let _ = self.files.send(Unfilled { from, to, stat: entry.stat, path: entry.location() });
        Ok(())
    }
}

/// Gives the file at the path `first` below `root` another name. The path may be longer than any
/// system call accepts.
fn link(root: BorrowedFd<'_>, first: &[u8], to: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    let (mut parent, mut rest) = (root.try_clone_to_owned().map_err(|_| Errno::MFILE)?, first);
    loop {
        match linkat(&parent, rest, to, name, AtFlags::empty()) {
            Err(Errno::NAMETOOLONG) => {}
            result => return result,
        }
        let slash = rest.iter().position(|byte| *byte == b'/').ok_or(Errno::NAMETOOLONG)?;
        parent = open_directory(&parent, &rest[..slash])?;
        rest = &rest[slash + 1..];
    }
}

const SET_METADATA: &str = "set owner, mode and times of the copy of";

/// Copies the metadata of `from`, a file of this kind and status, to `to`. Times keep their
/// fractions of seconds.
fn copy_metadata(from: FileRef<'_>, to: FileRef<'_>, kind: &Kind, stat: &Stat) -> io::Result<()> {
    let meta = Meta { xattrs: from.content()?, ..meta(stat, &Clamp::none()) };
    let modified = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as i64 };
    to.set_meta(kind, &meta, &Timestamps { last_access: modified, last_modification: modified })
}

/// Creates a directory. It may exist already: `mkfs.ext4` creates `lost+found`.
fn make_directory(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    match mkdirat(parent, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => open_directory(parent, name),
        Err(errno) => Err(errno),
    }
}

fn make_file(parent: &OwnedFd, name: &[u8], stat: &Stat) -> Result<File, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?.into();
    if !has_holes(stat) {
        reserve(&file, stat.st_size as u64)?;
    }
    Ok(file)
}

/// Copies a link, a device or a FIFO.
fn copy_special(entry: &Entry<'_>, to: &OwnedFd, kind: &Kind) -> io::Result<()> {
    let name = &*entry.name;
    match kind {
        Kind::Symlink(target) => symlinkat(&**target, to, name)?,
        _ => mknodat(to, name, entry.file_type(), Mode::RUSR | Mode::WUSR, entry.stat.st_rdev)?,
    }
    copy_metadata(entry.file(), FileRef::Named(to.as_fd(), name), kind, &entry.stat)
}

fn fill_files(files: &Mutex<Receiver<Unfilled>>, has_failed: &AtomicBool) -> Result<(), DiskError> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let next = files.lock().expect("no filler panics").recv();
        let Ok(Unfilled { mut from, mut to, stat, path }) = next else { return Ok(()) };
        // After a failure, the rest is received and dropped, so that the walk does not wait
        // forever.
        if !has_failed.load(Ordering::Relaxed) {
            copy_bytes(&mut from, &mut to, &stat, &mut buffer).map_err(failed("copy", &path))?;
            let (from, to) = (FileRef::Open(from.as_fd()), FileRef::Open(to.as_fd()));
            copy_metadata(from, to, &Kind::File(0), &stat).map_err(failed(SET_METADATA, &path))?;
        }
    }
}

/// Allocates the blocks of a file before other files are created. Otherwise the kernel chooses them
/// at write-back, in an order that differs from build to build.
fn reserve(file: &File, bytes: u64) -> Result<(), Errno> {
    match bytes {
        0 => Ok(()),
        _ => match fallocate(file, FallocateFlags::empty(), 0, bytes) {
            // A file system without this feature gets the kernel's choice. The image works all the
            // same.
            Err(Errno::OPNOTSUPP) => Ok(()),
            result => result,
        },
    }
}

/// Copies the content of a file. Holes stay holes.
fn copy_bytes(from: &mut File, to: &mut File, stat: &Stat, buffer: &mut [u8]) -> io::Result<()> {
    let size = stat.st_size as u64;
    if !has_holes(stat) {
        return copy_range(from, to, u64::MAX, buffer);
    }
    to.set_len(size)?;
    let mut position = 0;
    while let Some(data) = next_granules(&*from, position, size)? {
        from.seek(SeekFrom::Start(data.start))?;
        to.seek(SeekFrom::Start(data.start))?;
        copy_range(from, to, data.end - data.start, buffer)?;
        position = data.end;
    }
    Ok(())
}

fn copy_range(from: &mut File, to: &mut File, bytes: u64, buffer: &mut [u8]) -> io::Result<()> {
    let mut from = from.take(bytes);
    loop {
        match from.read(buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&buffer[..count])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
    use std::{fs, os::unix::net::UnixListener};

    use rustix::fs::FileType;

    use super::*;
    use crate::tree::MAX_LEVELS;

    /// Returns a tree of entries that an ordinary user can create.
    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        let at = |path: &str| tree.path().join(path);
        fs::create_dir_all(at("b/deep")).unwrap();
        fs::write(at("b/deep/file"), vec![1; 1_000_000]).unwrap();
        fs::write(at("a"), "linked").unwrap();
        fs::hard_link(at("a"), at("b/also-a")).unwrap();
        symlink("../nowhere", at("b/link")).unwrap();
        mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        UnixListener::bind(at("socket")).unwrap();
        let sparse = File::create(at("sparse")).unwrap();
        sparse.set_len(10 << 20).unwrap();
        sparse.write_all_at(b"middle", 5 << 20).unwrap();
        fs::set_permissions(at("a"), fs::Permissions::from_mode(0o4751)).unwrap();
        rustix::fs::setxattr(at("a"), "user.name", b"value", rustix::fs::XattrFlags::empty()).unwrap();
        for (path, seconds) in [("b/deep", 1000), ("b", 2000), ("a", 3000), ("", 4000)] {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            File::open(at(path)).unwrap().set_modified(time).unwrap();
        }
        tree
    }

    fn copy_of(tree: &Path) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        copy_tree(tree, copy.path(), &AtomicBool::new(false)).unwrap();
        copy
    }

    #[test]
    fn content_links_modes_times_and_attributes_are_copied() {
        let (source, copy) = (tree(), copy_of(tree().path()));
        let stat = |path: &str| fs::symlink_metadata(copy.path().join(path)).unwrap();
        for path in ["", "a", "b", "b/deep", "b/deep/file", "b/link", "pipe", "sparse"] {
            let (was, is) = (fs::symlink_metadata(source.path().join(path)).unwrap(), stat(path));
            assert_eq!((was.mode(), was.nlink(), was.uid()), (is.mode(), is.nlink(), is.uid()), "{path}");
            assert!(was.is_dir() || was.len() == is.len(), "{path}");
        }
        assert_eq!(
            [stat("").mtime(), stat("a").mtime(), stat("b").mtime(), stat("b/deep").mtime()],
            [4000, 3000, 2000, 1000]
        );
        assert_eq!(stat("a").ino(), stat("b/also-a").ino());
        assert_eq!(fs::read(copy.path().join("b/deep/file")).unwrap(), vec![1; 1_000_000]);
        assert_eq!(fs::read_link(copy.path().join("b/link")).unwrap(), Path::new("../nowhere"));
        let mut value = [0; 16];
        assert_eq!(rustix::fs::getxattr(copy.path().join("a"), "user.name", &mut value), Ok(5));
    }

    #[test]
    fn holes_stay_holes_and_sockets_are_left_out() {
        let copy = copy_of(tree().path());
        let sparse = fs::read(copy.path().join("sparse")).unwrap();
        assert_eq!((&sparse[5 << 20..][..6], sparse.len()), (&b"middle"[..], 10 << 20));
        assert!(fs::metadata(copy.path().join("sparse")).unwrap().blocks() < 1000);
        assert!(!copy.path().join("socket").exists());
    }

    /// Makes nested directories of this name, and returns the innermost one.
    fn nest(root: &Path, name: &str, levels: usize) -> OwnedFd {
        let mut inner = open_directory(CWD, root).unwrap();
        for _ in 0..levels {
            inner = make_directory(&inner, name.as_bytes()).unwrap();
        }
        inner
    }

    #[test]
    fn a_hard_link_whose_path_is_too_long_for_a_system_call_is_a_link() {
        let (source, name) = (tempfile::tempdir().unwrap(), "d".repeat(250));
        let inner = nest(source.path(), &name, 20);
        make_new(&inner, b"a");
        linkat(&inner, "a", &inner, "b", AtFlags::empty()).unwrap();
        let copy = copy_of(source.path());
        let inner = nest(copy.path(), &name, 20);
        let inode = |name| rustix::fs::statat(&inner, name, AtFlags::empty()).unwrap().st_ino;
        assert_eq!(inode("a"), inode("b"));
    }

    #[test]
    fn a_deep_tree_is_copied_and_a_deeper_one_refused() {
        // The stack of a main thread. Without optimization, tests have larger frames than plywood.
        let deep = thread::Builder::new().stack_size(8 << 20).spawn(copy_deep_trees).unwrap();
        deep.join().unwrap();
    }

    fn copy_deep_trees() {
        crate::exec::raise_open_files();
        let source = tempfile::tempdir().unwrap();
        make_new(&nest(source.path(), "d", MAX_LEVELS), b"a");
        let copy = copy_of(source.path());
        let inner = nest(copy.path(), "d", MAX_LEVELS);
        rustix::fs::statat(&inner, "a", AtFlags::empty()).unwrap();
        nest(source.path(), "d", MAX_LEVELS + 1);
        let copy = tempfile::tempdir().unwrap();
        let error = copy_tree(source.path(), copy.path(), &AtomicBool::new(false)).unwrap_err();
        assert!(matches!(&error, DiskError::Io(error) if error.kind() == io::ErrorKind::InvalidInput));
    }

    fn make_new(directory: &OwnedFd, name: &[u8]) {
        openat(directory, name, OFlags::WRONLY | OFlags::CREATE, Mode::RUSR).unwrap();
    }

    #[test]
    fn an_interrupt_stops_the_copy() {
        let copy = tempfile::tempdir().unwrap();
        let result = copy_tree(tree().path(), copy.path(), &AtomicBool::new(true));
        assert!(matches!(result, Err(DiskError::Interrupted)));
    }

    #[test]
    fn a_failing_file_is_named() {
        let (tree, copy) = (tree(), tempfile::tempdir().unwrap());
        fs::write(copy.path().join("a"), "in the way").unwrap();
        let error = copy_tree(tree.path(), copy.path(), &AtomicBool::new(false)).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot copy `{}`", tree.path().join("a").display()));
    }
}
