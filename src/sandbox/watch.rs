//! Watches with fanotify which files of the build host a job opens.
//!
//! The job sees each mount of the host through a private read-only overlay. A mark on the overlay's
//! file system reports all opens of the job: also those through `chroot`, bind mounts and mount
//! namespaces that the job makes. It reports neither opens by other processes of the host nor opens
//! in the target. A mount that overlayfs refuses is marked itself. Opens by other processes then
//! come from outside of the job's pid namespace and are ignored.
//!
//! Pid 1 of the sandbox reads the events. After the job it kills the remaining processes of the
//! job, so that the queue is complete when it is emptied.
//!
//! A file that cannot be identified is a gap in the evidence, and is always reported: see
//! [`Watch::lose`].
//!
//! Source: fanotify(7), fanotify_init(2), fanotify_mark(2). All that is used here is in Linux 5.1;
//! mount ids of statx(2) are in Linux 5.8.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::libc::{FAN_NOFD, fanotify_event_metadata};
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxFlags, StatxTimestamp, readlinkat, statx};
use rustix::io::Errno;

use super::mount;
use super::mountinfo::Line;
use crate::plan::{Aspect, Stamp};
use crate::port::{HostOpen, HostOpens};

/// Whether the files of the host that a job opens are recorded.
pub(super) enum Trace {
    NotAsked,
    /// The reason why they cannot be recorded.
    Impossible(String),
    Watched(Box<Watch>),
}

impl Trace {
    pub(super) fn watch(&mut self) -> Option<&mut Watch> {
        match self {
            Trace::Watched(watch) => Some(watch),
            Trace::NotAsked | Trace::Impossible(_) => None,
        }
    }

    /// Returns the files that were opened; `None` if the trace was not asked for.
    pub(super) fn finish(self) -> Option<HostOpens> {
        match self {
            Trace::NotAsked => None,
            Trace::Impossible(gap) => Some(HostOpens { files: Vec::new(), gap: Some(gap) }),
            Trace::Watched(watch) => Some(watch.finish()),
        }
    }
}

/// Device and inode number of a file.
type FileId = (u32, u32, u64);

/// A file in one state.
type Version = (FileId, Stamp);

/// One event of the kernel.
struct Opened {
    /// The file, opened for this process; `None` if the queue of events overflowed.
    file: Option<OwnedFd>,
    /// The pid in the namespace of this process; 0 for a process outside of it.
    process: i32,
}

/// The files of the host that a job has opened.
pub(super) struct Watch {
    group: Fanotify,
    /// Paths of the watched mounts on the host, by mount id.
    mounts: HashMap<u64, PathBuf>,
    /// The same paths, by device number of the file system.
    devices: HashMap<String, PathBuf>,
    /// `/proc` of the job, and `/proc/self/fd`, opened in advance: the job may mount over them.
    proc: Option<[OwnedFd; 2]>,
    /// Mounts that the job made, by mount id: their mount point, and the path of the host that they
    /// show.
    made: HashMap<u64, (PathBuf, PathBuf)>,
    /// Files whose path on the host is already recorded.
    named: HashMap<FileId, Stamp>,
    opened: BTreeMap<(String, Aspect), Version>,
    gap: Option<String>,
}

impl Watch {
    /// Makes a watch without marks.
    ///
    /// # Errors
    /// Without `CAP_SYS_ADMIN` in the first user namespace, or if the kernel has no fanotify.
    pub(super) fn new() -> io::Result<Box<Self>> {
        // Without a limit of the queue. Otherwise the kernel drops events when hooks open files
        // faster than this process reads them.
        let flags = InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK | InitFlags::FAN_UNLIMITED_QUEUE;
        // Nonblocking: the kernel opens each file for its event, and opening a fifo would wait for
        // a writer.
        let files = EventFFlags::O_RDONLY
            | EventFFlags::O_CLOEXEC
            | EventFFlags::O_NONBLOCK
            | EventFFlags::O_NOATIME
            | EventFFlags::O_LARGEFILE;
        Ok(Box::new(Self {
            group: Fanotify::init(flags, files)?,
            mounts: HashMap::new(),
            devices: HashMap::new(),
            proc: None,
            made: HashMap::new(),
            named: HashMap::new(),
            opened: BTreeMap::new(),
            gap: None,
        }))
    }

    /// Watches the file system of `mount`, which shows the directory `path` of the host.
    pub(super) fn add(&mut self, mount: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
        // Through `/proc`: a detached mount has no other path, and fanotify_mark(2) refuses a
        // descriptor opened with O_PATH.
        let name = format!("/proc/self/fd/{}", mount.as_raw_fd());
        let flags = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_FILESYSTEM;
        self.group.mark(flags, MaskFlags::FAN_OPEN | MaskFlags::FAN_ONDIR, mount, Some(name.as_str()))?;
        let found = examine(mount)?;
        self.mounts.insert(found.stx_mnt_id, path.to_owned());
        let device = format!("{}:{}", found.stx_dev_major, found.stx_dev_minor);
        self.devices.insert(device, path.to_owned());
        Ok(())
    }

    /// Records the file at `path` as opened, whether or not the job opens it. A single mounted file
    /// cannot be marked without its whole file system.
    pub(super) fn assume(&mut self, path: &Path) -> io::Result<()> {
        let found = examine(mount::place(path)?.as_fd())?;
        let name = path.to_str().ok_or_else(|| io::Error::other("its name is not UTF-8"))?;
        self.opened.insert((name.to_owned(), aspect_of(&found)), (id_of(&found), stamp_of(&found)));
        Ok(())
    }

    /// Opens the files that name opened files. Call it when the view is complete, before the job
    /// starts.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        let open = |path| rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        self.proc = Some([open("/proc")?, open("/proc/self/fd")?]);
        Ok(())
    }

    /// Reads all pending events.
    pub(super) fn drain(&mut self) {
        loop {
            match self.next_event() {
                Ok(event) => self.note(&event),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(error) => {
                    self.lose(format!(
                        "cannot read the kernel's reports of opened files: {}",
                        io::Error::from(error)
                    ));
                    return;
                }
            }
        }
    }

    /// Reads one event. Given a buffer for several, the kernel stops at an event whose file it
    /// cannot open for this process, and returns the events before it without the error. The loss
    /// would go unnoticed.
    fn next_event(&self) -> Result<Opened, Errno> {
        let mut event = [0; size_of::<fanotify_event_metadata>()];
        rustix::io::read(&self.group, &mut event)?;
        // SAFETY: the kernel has written the structure, all of whose fields are numbers.
        let event: fanotify_event_metadata = unsafe { std::ptr::read_unaligned(event.as_ptr().cast()) };
        // SAFETY: the kernel has made the descriptor for this event, and nothing else in this
        // process has it.
        let file = (event.fd != FAN_NOFD).then(|| unsafe { OwnedFd::from_raw_fd(event.fd) });
        Ok(Opened { file, process: event.pid })
    }

    /// Returns the files that were opened.
    pub(super) fn finish(mut self) -> HostOpens {
        self.drain();
        let opened = self.opened.into_iter();
        let files = opened.map(|((path, aspect), (_, stamp))| HostOpen { path, aspect, stamp }).collect();
        HostOpens { files, gap: self.gap }
    }

    fn note(&mut self, event: &Opened) {
        let Some(file) = &event.file else {
            return self.lose("the kernel has dropped reports of opened files".to_owned());
        };
        // 0 is a process outside of the job. 1 is this process, while it makes the job's view.
        if matches!(event.process, 0 | 1) {
            return;
        }
        let (path, aspect, found) = match self.opened(file.as_fd(), event.process) {
            Ok(Some((path, aspect, found))) => (path, aspect, found),
            Ok(None) => return,
            Err(error) => {
                return self.lose(format!("cannot identify a file that a hook has opened: {error}"));
            }
        };
        // Two files at one path. Either the host has replaced the file, or the kernel has reused
        // the id of a mount that is gone, so that `made` has a wrong path. In both cases the
        // evidence would name the first file only.
        if *self.opened.entry((path.clone(), aspect)).or_insert_with(|| found.clone()) != found {
            self.lose(format!("`{path}` was replaced while hooks ran"));
        }
    }

    /// Records that the trace is incomplete. The first reason is kept.
    pub(super) fn lose(&mut self, reason: String) {
        self.gap.get_or_insert(reason);
    }

    /// Returns path, aspect and identity of an opened file; `None` if another path of it is
    /// recorded already.
    fn opened(
        &mut self,
        file: BorrowedFd<'_>,
        process: i32,
    ) -> io::Result<Option<(String, Aspect, Version)>> {
        let found = examine(file)?;
        let (id, stamp) = (id_of(&found), stamp_of(&found));
        let [_, descriptors] = self.proc.as_ref().ok_or(io::ErrorKind::NotFound)?;
        let name = readlinkat(descriptors, file.as_raw_fd().to_string(), Vec::new())?;
        let name = name.into_string().map_err(|_| io::Error::other("its name is not UTF-8"))?;
        match self.path_on_host(&found, Path::new(&name), process) {
            Some(path) => {
                self.named.insert(id, stamp.clone());
                let path = path.into_os_string().into_string().expect("made of text");
                Ok(Some((path, aspect_of(&found), (id, stamp))))
            }
            // Opened through a mount that is gone, but recorded by another path before.
            None if self.named.get(&id) == Some(&stamp) => Ok(None),
            None => Err(io::Error::other(format!("`{name}` is in a mount that no longer exists"))),
        }
    }

    /// Returns the path on the host of the file that `process` opened as `name`.
    fn path_on_host(&mut self, found: &Statx, name: &Path, process: i32) -> Option<PathBuf> {
        let id = found.stx_mnt_id;
        if self.mounts.contains_key(&id) {
            // Mounted by the view, which shows host files at their own paths.
            return Some(name.to_owned());
        }
        if !self.made.contains_key(&id) {
            // The process may have ended. Others may still be in its mount namespace, so all are
            // tried.
            let others = self.processes();
            let all = ["self".to_owned(), process.to_string()].into_iter().chain(others);
            for process in all {
                self.learn_mounts(&process);
                if self.made.contains_key(&id) {
                    break;
                }
            }
        }
        let (target, source) = self.made.get(&id)?;
        Some(join(source, name.strip_prefix(target).ok()?))
    }

    /// Returns the processes of the job.
    fn processes(&self) -> Vec<String> {
        let Some([proc, _]) = &self.proc else { return Vec::new() };
        let entries = fs::read_dir(mount::path_of(proc)).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).collect()
    }

    /// Reads the mounts in the mount namespace of a process, which may have ended.
    fn learn_mounts(&mut self, process: &str) {
        let Some([proc, _]) = &self.proc else { return };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(proc, format!("{process}/mountinfo"), flags, Mode::empty());
        let mut text = Vec::new();
        // An error is no loss yet: an opened file in an unknown mount becomes a gap.
        let _ = file.map(|file| fs::File::from(file).read_to_end(&mut text));
        for Line { id, device, root, place, .. } in Line::all(&text) {
            let Some(host) = self.devices.get(&device) else { continue };
            let source = join(host, root.strip_prefix("/").unwrap_or(&root));
            self.made.insert(id, (place, source));
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }
}

fn examine(file: BorrowedFd<'_>) -> io::Result<Statx> {
    let found = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)?;
    match StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::MNT_ID) {
        true => Ok(found),
        false => Err(io::Error::other("the kernel has no mount ids: Linux 5.8 has")),
    }
}

/// Returns the aspect of a file that a process can read after it opens the file.
fn aspect_of(found: &Statx) -> Aspect {
    match FileType::from_raw_mode(found.stx_mode.into()) {
        FileType::Directory => Aspect::Listing,
        FileType::RegularFile => Aspect::Content,
        _ => Aspect::Entry,
    }
}

fn id_of(found: &Statx) -> FileId {
    (found.stx_dev_major, found.stx_dev_minor, found.stx_ino)
}

fn stamp_of(found: &Statx) -> Stamp {
    let time = |time: StatxTimestamp| (time.tv_sec, time.tv_nsec);
    Stamp::new(found.stx_size, time(found.stx_mtime), time(found.stx_ctime))
}

/// Joins paths. Unlike [`Path::join`], adds no slash if `rest` is empty.
fn join(path: &Path, rest: &Path) -> PathBuf {
    path.components().chain(rest.components()).collect()
}
