//! Access to files of the build host, to compare them with the evidence of earlier builds.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::oci::Digest;
use crate::plan::{Aspect, Stamp};

/// Examines files of the build host without changing them.
pub trait HostFiles: Sync {
    /// Returns the stamp of `path` itself, without following a symlink; `None` if nothing exists
    /// there.
    fn stamp(&self, path: &str) -> Option<Stamp>;

    /// Returns the observation of `path`; `None` if nothing readable with this aspect exists there.
    fn observe(&self, path: &str, aspect: Aspect) -> Option<Observation>;

    /// Returns the first path that `aspect` of `path` depends on and that this user may not read,
    /// if any. The aspect `None` stands for all names below `path`.
    fn hidden(&self, path: &str, aspect: Option<Aspect>) -> Option<PathBuf>;

    /// Returns a digest of all names below each entry of the directories [`crate::plan::NAMES`], by
    /// the entry's path. The result is at most one second old.
    fn names(&self) -> BTreeMap<String, Digest>;
}

/// The observed state of a path of the build host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// The digest of the requested aspect.
    pub digest: Digest,
    /// The stamp, if it was the same before and after the digest was computed; `None` if the file
    /// was written to in between.
    pub stamp: Option<Stamp>,
    /// Whether the stamp is old enough that any later change gives a different stamp.
    pub is_settled: bool,
}

/// A file or directory of the build host that a job opened.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct HostOpen {
    /// The path on the build host, without symlinks.
    pub path: String,
    /// The aspect that the job could see.
    pub aspect: Aspect,
    pub stamp: Stamp,
}

/// The files of the build host that jobs opened.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HostOpens {
    /// Sorted by path.
    pub files: Vec<HostOpen>,
    /// The reason why the list may be incomplete.
    pub gap: Option<String>,
}
