//! Temporary directories that do not outlive their process.
//!
//! The process that owns `work/<start>-<process>-<number>/` holds a lock on it, which the kernel
//! releases when the process ends. A directory without a lock belongs to a killed process, and
//! [`sweep`] removes it. The start (seconds since 1970) tells the garbage collector which parts a
//! running process may use.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::file::{failed, remove_path};
use crate::port::StoreError;

/// A locked directory, removed when dropped.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    /// Holds the lock. `drop` removes the directory before this handle is closed.
    _lock: File,
}

impl Scratch {
    /// Creates a directory in `work`. The caller holds the lock of the store, so that no sweep sees
    /// the directory before it is locked.
    pub(super) fn create(work: &Path) -> Result<Self, StoreError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let path = work.join(format!("{}-{}-{number}", seconds_now(), std::process::id()));
            match std::fs::create_dir(&path) {
                // A process in another container may have the same process id.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                result => result.map_err(failed("create directory", &path))?,
            }
            let lock = File::open(&path).map_err(failed("open", &path))?;
            rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(failed("lock", &path))?;
            return Ok(Self { path, _lock: lock });
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // If this fails, the next sweep removes the rest.
        let _ = remove_path(&self.path);
    }
}

/// Returns the seconds since 1970, for names of scratch directories and times of last use. No layer
/// depends on it.
pub(super) fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Returns the directories in `work` without a running owner. The caller holds the exclusive lock
/// of the store.
pub(super) fn orphans(work: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut orphans = Vec::new();
    for path in list(work)? {
        if !is_owned(&path)? {
            orphans.push(path);
        }
    }
    Ok(orphans)
}

/// Returns the start of the oldest running owner, in seconds since 1970.
pub(super) fn oldest_owner(work: &Path) -> Result<Option<u64>, StoreError> {
    let mut oldest = None;
    for path in list(work)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // An unreadable name counts as the oldest, so that a collection does not remove parts that
        // are in use.
        let start = name.split('-').next().and_then(|start| start.parse().ok()).unwrap_or(0);
        if is_owned(&path)? {
            oldest = Some(oldest.map_or(start, |oldest: u64| oldest.min(start)));
        }
    }
    Ok(oldest)
}

fn list(work: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = std::fs::read_dir(work).map_err(failed("read directory", work))?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed("read directory", work))).collect()
}

fn is_owned(path: &Path) -> Result<bool, StoreError> {
    let directory = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        result => result.map_err(failed("open", path))?,
    };
    match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        // This lock is released when the function returns.
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(failed("lock", path)(error)),
    }
}
