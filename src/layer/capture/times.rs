//! Times of a build.

use std::collections::BTreeSet;
use std::sync::Arc;

/// The times that a rewrite depends on, in seconds since 1970-01-01 UTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Times {
    /// Limits the times of files.
    pub clamp: Clamp,
    /// When the first captured hook started.
    pub started: i64,
    /// When the last captured hook ended.
    pub ended: i64,
}

/// The limit of modification times in layers.
///
/// The times of files are those of the build, so they are clamped. Some later times are known to be
/// the same in every build: an rpm has the times of its files, and `rpm --verify` compares them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clamp {
    /// The source date epoch: later times are clamped to it.
    pub epoch: i64,
    kept: Kept,
}

/// The times of regular files after the epoch that stay as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kept {
    These(Arc<BTreeSet<i64>>),
    All,
}

impl Clamp {
    /// Clamps all times after `epoch`.
    pub fn to(epoch: i64) -> Self {
        Self { epoch, kept: Kept::These(Arc::default()) }
    }

    /// Clamps no time.
    pub fn none() -> Self {
        Self::to(i64::MAX)
    }

    /// Leaves these times of regular files as they are.
    pub fn keeping(self, kept: BTreeSet<i64>) -> Self {
        Self { kept: Kept::These(Arc::new(kept)), ..self }
    }

    /// Leaves all times of regular files as they are: those of layers are right already.
    pub fn keeping_all(self) -> Self {
        Self { kept: Kept::All, ..self }
    }

    /// Returns the time of a regular file.
    pub fn file(&self, mtime: i64) -> i64 {
        match &self.kept {
            Kept::These(kept) if !kept.contains(&mtime) => self.other(mtime),
            Kept::These(_) | Kept::All => mtime,
        }
    }

    /// Returns the time of a directory, link or device. Directories get their times from changes in
    /// them, whose order may differ.
    pub fn other(&self, mtime: i64) -> i64 {
        mtime.min(self.epoch)
    }
}
