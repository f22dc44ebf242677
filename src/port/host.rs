//! The build host's own files, as evidence of earlier builds is compared with them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::oci::Digest;
use crate::plan::{Aspect, Stamp};

/// Looks at the build host. Reads only.
pub trait HostFiles: Sync {
    /// Returns the stamp of `path` itself, not of what a symlink leads to; `None` if there is nothing.
    fn stamp(&self, path: &str) -> Option<Stamp>;

    /// Returns what is at `path`; `None` if there is nothing that has this aspect and can be read.
    fn observe(&self, path: &str, aspect: Aspect) -> Option<Observation>;

    /// Returns the first path that this user may not read and that `aspect` of `path` depends on, if any. The aspect `None` is that
    /// of all names below `path`.
    fn hidden(&self, path: &str, aspect: Option<Aspect>) -> Option<PathBuf>;

    /// Returns a digest of all names below each entry of the directories [`crate::plan::NAMES`], by the entry's path, as it
    /// was at most a second ago.
    fn names(&self) -> BTreeMap<String, Digest>;
}

/// What is found at a path of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Of the aspect that was asked for.
    pub digest: Digest,
    /// The same before and after the digest was computed; `None` if the file was written to meanwhile.
    pub stamp: Option<Stamp>,
    /// Whether the stamp is old enough that any later change gives another one.
    pub is_settled: bool,
}

/// A file or directory of the host that a job opened.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct HostOpen {
    /// On the host, without symlinks.
    pub path: String,
    /// What opening it gave the job.
    pub aspect: Aspect,
    pub stamp: Stamp,
}

/// What jobs have opened of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HostOpens {
    /// Sorted by path.
    pub files: Vec<HostOpen>,
    /// Why some may be missing.
    pub gap: Option<String>,
}
