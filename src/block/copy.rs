//! Copying a tree onto a mounted disk.
//!
//! One thread walks the tree in byte order of the names and makes everything; others fill the regular files that it has made, and
//! complete them. So directories get no new names once the walk has left them, hard links have their target, and
//! a file's place on the disk depends on its path alone. Memory: the handles of files in flight, one buffer a thread, and a name for
//! each hard-linked file.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use rustix::fs::{AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, Stat};
use rustix::fs::{fallocate, fstat, linkat, mkdirat, mknodat, openat, readlinkat, statat, symlinkat};
use rustix::io::Errno;

use super::error::failed;
use super::node::Node;
use super::sparse::{has_holes, next_data};
use super::walk::{child, open_directory, sorted_names};
use crate::port::DiskError;

/// Enough to make system calls cheap, small enough to stay in the processor's cache.
const BUFFER_BYTES: usize = 256 << 10;

/// Files that are made and wait to be filled. Each holds two open files.
const IN_FLIGHT: usize = 64;

/// Copies everything below the directory `source` into the directory `target`; sockets, which nothing could answer, are left out.
///
/// Stops early when `interrupt` becomes true.
pub(super) fn copy_tree(source: &Path, target: &Path, interrupt: &AtomicBool) -> Result<(), DiskError> {
    let from = open_directory(CWD, source).map_err(failed("open", source))?;
    let to = open_directory(CWD, target).map_err(failed("open", target))?;
    let (sender, receiver) = sync_channel(IN_FLIGHT);
    let (receiver, has_failed) = (Mutex::new(receiver), AtomicBool::new(false));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let fill =
            || fill_files(&receiver, &has_failed).inspect_err(|_| has_failed.store(true, Ordering::Relaxed));
        let fillers: Vec<_> = (0..threads).map(|_| scope.spawn(fill)).collect();
        let walk = Walk {
            root: &to,
            source,
            files: sender,
            links: HashMap::new(),
            has_failed: &has_failed,
            interrupt,
        };
        let walked = walk.run(&from);
        let filled = fillers.into_iter().map(|filler| filler.join().expect("filling files does not panic"));
        // Where both failed, the walk only noticed that a filler had.
        filled.collect::<Result<(), _>>().and(walked)
    })
}

/// A regular file that is made, and empty.
struct Unfilled {
    from: File,
    to: File,
    stat: Stat,
    path: PathBuf,
}

struct Walk<'a> {
    root: &'a OwnedFd,
    source: &'a Path,
    files: SyncSender<Unfilled>,
    /// Where the first name of a hard-linked file was made, from `root`.
    links: HashMap<(u64, u64), PathBuf>,
    has_failed: &'a AtomicBool,
    interrupt: &'a AtomicBool,
}

impl Walk<'_> {
    fn run(mut self, from: &OwnedFd) -> Result<(), DiskError> {
        let root = self.root;
        self.directory(from, root, Path::new(""))
    }

    /// Copies the content of a directory, then the directory's own metadata: its time changes with each new name.
    fn directory(&mut self, from: &OwnedFd, to: &OwnedFd, path: &Path) -> Result<(), DiskError> {
        let source = self.source.join(path);
        let names = sorted_names(from).map_err(failed("read directory", &source))?;
        for name in names {
            if self.interrupt.load(Ordering::Relaxed) {
                return Err(DiskError::Interrupted);
            }
            if self.has_failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            self.entry(from, to, &name, &child(path, &name))?;
        }
        let stat = fstat(from).map_err(failed("examine", &source))?;
        let metadata = Node::Open(to.as_fd()).copy_metadata(Node::Open(from.as_fd()), &stat);
        metadata.map_err(failed("set owner, mode and times of the copy of", &source))
    }

    fn entry(&mut self, from: &OwnedFd, to: &OwnedFd, name: &CString, path: &Path) -> Result<(), DiskError> {
        let source = self.source.join(path);
        let failed = |action| failed(action, &source);
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("examine"))?;
        let copied = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let to = make_directory(to, name).map_err(failed("copy directory"))?;
                let from = open_directory(from, name).map_err(failed("open"))?;
                return self.directory(&from, &to, path);
            }
            FileType::RegularFile => self.file(from, to, name, path, stat),
            FileType::Symlink => copy_symlink(from, to, name, &stat),
            FileType::Socket => Ok(()),
            kind => copy_special(from, to, name, &stat, kind),
        };
        copied.map_err(failed("copy"))
    }

    fn file(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        name: &CString,
        path: &Path,
        stat: Stat,
    ) -> Result<(), Errno> {
        if stat.st_nlink > 1 {
            let id = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&id) {
                return linkat(self.root, first, to, name, AtFlags::empty());
            }
            self.links.insert(id, path.to_owned());
        }
        let reading = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let making = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let from = openat(from, name, reading, Mode::empty())?.into();
        let to: File = openat(to, name, making, Mode::RUSR | Mode::WUSR)?.into();
        if !has_holes(&stat) {
            reserve(&to, stat.st_size as u64)?;
        }
        // The send fails once every filler has failed. Their errors are reported.
        let _ = self.files.send(Unfilled { from, to, stat, path: self.source.join(path) });
        Ok(())
    }
}

/// The file system may have it already: ext4 makes `lost+found`.
fn make_directory(parent: &OwnedFd, name: &CString) -> Result<OwnedFd, Errno> {
    match mkdirat(parent, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => open_directory(parent, name),
        Err(errno) => Err(errno),
    }
}

fn copy_symlink(from: &OwnedFd, to: &OwnedFd, name: &CString, stat: &Stat) -> Result<(), Errno> {
    symlinkat(readlinkat(from, name, Vec::new())?, to, name)?;
    Node::Named(to.as_fd(), name).copy_metadata(Node::Named(from.as_fd(), name), stat)
}

fn copy_special(
    from: &OwnedFd,
    to: &OwnedFd,
    name: &CString,
    stat: &Stat,
    kind: FileType,
) -> Result<(), Errno> {
    mknodat(to, name, kind, Mode::RUSR | Mode::WUSR, stat.st_rdev)?;
    Node::Named(to.as_fd(), name).copy_metadata(Node::Named(from.as_fd(), name), stat)
}

fn fill_files(files: &Mutex<Receiver<Unfilled>>, has_failed: &AtomicBool) -> Result<(), DiskError> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let next = files.lock().expect("no filler panics").recv();
        let Ok(Unfilled { mut from, mut to, stat, path }) = next else { return Ok(()) };
        // After a failure elsewhere the rest is taken and dropped, so that the walk does not wait for us.
        if !has_failed.load(Ordering::Relaxed) {
            copy_bytes(&mut from, &mut to, &stat, &mut buffer).map_err(failed("copy", &path))?;
            let metadata = Node::Open(to.as_fd()).copy_metadata(Node::Open(from.as_fd()), &stat);
            metadata.map_err(failed("set owner, mode and times of the copy of", &path))?;
        }
    }
}

/// Takes room for a file before others are made. Otherwise the kernel chooses a place when it writes the file back, and disks of
/// the same files are different everywhere.
fn reserve(file: &File, bytes: u64) -> Result<(), Errno> {
    match bytes {
        0 => Ok(()),
        _ => match fallocate(file, FallocateFlags::empty(), 0, bytes) {
            // Of file systems that cannot, the kernel's choice is good enough.
            Err(Errno::OPNOTSUPP) => Ok(()),
            result => result,
        },
    }
}

/// Copies a file's bytes; holes stay holes.
fn copy_bytes(from: &mut File, to: &mut File, stat: &Stat, buffer: &mut [u8]) -> io::Result<()> {
    let size = stat.st_size as u64;
    if !has_holes(stat) {
        return copy_range(from, to, u64::MAX, buffer);
    }
    to.set_len(size)?;
    let mut position = 0;
    while let Some((start, end)) = next_data(&*from, position, size)? {
        from.seek(SeekFrom::Start(start))?;
        to.seek(SeekFrom::Start(start))?;
        copy_range(from, to, end - start, buffer)?;
        position = end;
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

    use super::*;

    /// A tree with what needs no root to make.
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
    fn holes_stay_holes_and_sockets_stay_away() {
        let copy = copy_of(tree().path());
        let sparse = fs::read(copy.path().join("sparse")).unwrap();
        assert_eq!((&sparse[5 << 20..][..6], sparse.len()), (&b"middle"[..], 10 << 20));
        assert!(fs::metadata(copy.path().join("sparse")).unwrap().blocks() < 1000);
        assert!(!copy.path().join("socket").exists());
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
