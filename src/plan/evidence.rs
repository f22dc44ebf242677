//! Evidence: the files of the build host that hooks of host phases read, besides the inputs in the
//! key of their step.
//!
//! A hook on the build host sees the host's own files, and no key can know beforehand which of them
//! it reads. The sandbox therefore traces the files that it opens, and the step's record keeps the
//! evidence. A lookup compares the evidence with the current state of the host: a difference is a
//! miss. The evidence contains:
//!
//! | read | evidence | on another host |
//! |---|---|---|
//! | a file that was opened | its bytes, mode, owner and attributes | counts, unless [`belongs_to_distribution`] |
//! | a directory that was listed | its entries, with their types, modes, owners and link targets | the same |
//! | a path in a hook's text | the same of the path, whether it exists, whether it is empty | the same |
//! | a path below a directory in a hook's text | the same of everything below it | the same |
//! | symlinks on the path of a file that was opened | those in the directories above the file | the same |
//! | a search for a file by a computed name | all names below [`NAMES`] | does not count |
//!
//! All rows except the first two cover reads that no trace shows: searches for missing files,
//! `stat`, and symlinks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::distribution::belongs_to_distribution;
use crate::oci::Digest;

/// Directories in which all names count, for hooks that search files there by computed names.
pub const NAMES: [&str; 3] = ["/etc", "/opt", "/usr/local"];

/// Directories whose entries change with the distribution's packages or the activity of the host.
/// If a hook's text contains one of them, only the directory itself counts.
const BUSY: [&str; 5] = ["/usr", "/usr/share", "/var", "/var/lib", "/"];

/// Like [`BUSY`], including everything below.
const BUSY_BELOW: [&str; 5] = ["/boot", "/var/backups", "/var/cache", "/var/log", "/var/spool"];

/// Paths at which the sandbox mounts its own files, so that nothing there is a file of the host.
pub const NOT_OF_HOST: [&str; 9] =
    ["/dev", "/home", "/proc", "/root", "/run", "/sys", "/tmp", "/var/lib/containers", "/var/tmp"];

/// The host state that the hooks of one step read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Sorted by path; one per path and aspect.
    pub reads: Vec<HostRead>,
    /// A digest of all names below each entry of [`NAMES`], by the entry's path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub names: BTreeMap<String, Digest>,
    /// The reason why the evidence is incomplete. The step is then a miss in every lookup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<String>,
}

/// One read of a hook.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRead {
    /// Absolute, without symlinks where a file or directory was opened.
    pub path: String,
    pub aspect: Aspect,
    /// The digest of the observed state; `None` if nothing existed.
    pub digest: Option<Digest>,
    /// The hook that read it first: `extra-data.d/50-web`.
    pub by: String,
    /// While the path has this stamp, it has this digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<Stamp>,
}

/// The part of a path's state that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Aspect {
    /// Bytes, mode, owner and extended attributes of a file.
    Content,
    /// The entries of a directory, each in the form of [`Aspect::Entry`].
    Listing,
    /// Type, mode, owner, link target, and whether a file is empty.
    Entry,
    /// The same for everything below a directory.
    Names,
    /// The symlinks in a directory, and their targets.
    Links,
}

/// Size and times of a file. Equal stamps mean that nothing was written in between.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stamp(String);

impl Stamp {
    /// Returns a stamp of the size in bytes and the times of the last modification and change, each
    /// in seconds since 1970 and nanoseconds.
    pub fn new(bytes: u64, modified: (i64, u32), changed: (i64, u32)) -> Self {
        Self(format!("{bytes} {}.{:09} {}.{:09}", modified.0, modified.1, changed.0, changed.1))
    }
}

/// A difference between the current host and the host at the time of the build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HostDifference {
    /// The state at the path changed.
    Changed,
    /// The path did not exist.
    Appeared,
    /// The path does not exist any more.
    Gone,
}

/// A path of the host whose state changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HostChange {
    pub path: String,
    /// The part that differs; `None` for the names below the path.
    pub aspect: Option<Aspect>,
    pub difference: HostDifference,
    /// The hook that read it; `None` for names.
    pub by: Option<String>,
}

impl std::fmt::Display for HostChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, aspect, difference, by } = self;
        let (kind, verb, are_several) = match aspect {
            Some(Aspect::Content) => ("host file", "read", false),
            Some(Aspect::Listing) => ("host directory", "listed", false),
            Some(Aspect::Entry) => ("host path", "names", false),
            Some(Aspect::Names) => ("host names below", "names", true),
            Some(Aspect::Links) => ("host symlinks in", "read from", true),
            None => ("host names at and below", "", true),
        };
        write!(f, "{kind} `{path}`")?;
        if let Some(by) = by {
            write!(f, ", which `{by}` {verb},")?;
        }
        f.write_str(match (difference, are_several) {
            (HostDifference::Changed, true) => " have changed",
            (HostDifference::Appeared, true) => " have appeared",
            (HostDifference::Gone, true) => " are gone",
            (HostDifference::Changed, false) => " has changed",
            (HostDifference::Appeared, false) => " has appeared",
            (HostDifference::Gone, false) => " is gone",
        })
    }
}

impl Evidence {
    /// Returns the evidence that counts on other hosts: without names, stamps, and files that
    /// [belong to the distribution](belongs_to_distribution).
    pub fn published(&self) -> Self {
        let reads = self.reads.iter().filter(|read| !belongs_to_distribution(&read.path));
        let reads = reads.map(|read| HostRead { stamp: None, ..read.clone() }).collect();
        Self { reads, names: BTreeMap::new(), gap: self.gap.clone() }
    }
}

/// Returns the aspect of a directory in a hook's text that counts because the hook may search files
/// below it by computed names. Returns `None` if these names are covered otherwise, or belong to
/// the distribution.
pub fn aspect_below(path: &str) -> Option<Aspect> {
    let is_at_or_below = |place: &&str| Path::new(path).starts_with(place);
    let is_counted_otherwise = NAMES.iter().chain(&BUSY_BELOW).chain(&NOT_OF_HOST).any(is_at_or_below)
        || BUSY.contains(&path)
        || belongs_to_distribution(path);
    // A top-level directory such as `/srv` contains much that does not concern the hook.
    let aspect = if path.matches('/').count() == 1 { Aspect::Listing } else { Aspect::Names };
    (!is_counted_otherwise).then_some(aspect)
}

/// Returns the directories above an opened file in which a symlink may have led to it. `/` is left
/// out, because the distribution's kernels have symlinks there.
pub fn directories_with_links(path: &str) -> impl Iterator<Item = &str> {
    let is_known =
        belongs_to_distribution(path) || NAMES.iter().any(|place| Path::new(path).starts_with(place));
    let above = Path::new(path).ancestors().skip(1).filter_map(Path::to_str);
    above.filter(move |directory| !is_known && *directory != "/")
}

/// Returns the absolute host paths in a hook's text: paths at the beginning of a word. Leaves out a
/// last component that is a pattern or a variable.
pub fn literal_paths(text: &str) -> BTreeSet<String> {
    let slashes = text.match_indices('/').filter(|(at, _)| begins_word(&text[..*at]));
    slashes.filter_map(|(at, _)| host_path(&text[at..])).collect()
}

/// Returns true if a word may begin after `before`: `[ -e /etc/x`, `x="/etc/x`, `${X:-/etc/x`, but
/// not `$ROOT/etc/x`.
fn begins_word(before: &str) -> bool {
    let before_default = |text: &str| text.ends_with(":-") || text.ends_with(":=");
    before.chars().next_back().is_none_or(|c| c.is_whitespace() || "\"'=(<>;|&:,[`".contains(c))
        || before_default(before)
}

/// Returns the path at the beginning of `text`, if it can be a path of the host.
fn host_path(text: &str) -> Option<String> {
    let is_of_path = |c: char| c.is_ascii_alphanumeric() || "/._+@-".contains(c);
    let end = text.find(|c: char| !is_of_path(c)).unwrap_or(text.len());
    let is_cut = text[end..].starts_with(['*', '?', '[', '$', '{', '\\', '~', '%']);
    let path = match is_cut {
        true => &text[..text[..end].rfind('/')?],
        false => text[..end].trim_end_matches(['/', '.']),
    };
    let parts: Vec<_> = path.split('/').skip(1).collect();
    let is_plain =
        !parts.is_empty() && parts.iter().all(|part| !part.is_empty() && *part != "." && *part != "..");
    let is_hosts = !NOT_OF_HOST.iter().any(|place| Some(&place[1..]) == parts.first().copied());
    (is_plain && is_hosts).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_begin_a_word_are_found_in_a_text() {
        let table: [(&str, &[&str]); 12] = [
            ("#!/bin/bash\nset -eu", &[]),
            ("[ -e /etc/ci/mirror_info.sh ] && . /etc/ci/x", &["/etc/ci/mirror_info.sh", "/etc/ci/x"]),
            ("cp \"${SCRIPTDIR:-/etc/nodepool/scripts}\" x", &["/etc/nodepool/scripts"]),
            ("cp $TARGET_ROOT/etc/x ${T}/etc/y a/etc/z", &[]),
            ("X=/opt/x:/srv/y/", &["/opt/x", "/srv/y"]),
            ("for x in /srv/keys/*.pub; do", &["/srv/keys"]),
            ("ls /srv/keys/$NAME /srv/$NAME", &["/srv", "/srv/keys"]),
            ("curl https://host/etc/x file:///srv/x", &[]),
            ("sed -e '/^#/d' -e 's/a/b/' /etc/hosts.", &["/etc/hosts"]),
            ("cat </proc/cpuinfo >/tmp/x; ls /", &[]),
            ("cd /srv/a/../b", &[]),
            ("$(cat /srv/a)`cat /srv/b`", &["/srv/a", "/srv/b"]),
        ];
        for (text, expected) in table {
            let found = literal_paths(text);
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{text}");
        }
    }

    #[test]
    fn directories_that_texts_name_count_with_what_is_below() {
        for (path, expected) in [
            ("/srv/company", Some(Aspect::Names)),
            ("/usr/share/company", Some(Aspect::Names)),
            ("/var/lib/ci/info", Some(Aspect::Names)),
            ("/srv", Some(Aspect::Listing)),
            ("/etc/company", None),
            ("/usr/local/share", None),
            ("/usr/bin", None),
            ("/usr/share", None),
            ("/var/log/apt", None),
            ("/var/lib/dpkg/info", None),
            ("/boot", None),
        ] {
            assert_eq!(aspect_below(path), expected, "{path}");
        }
    }

    #[test]
    fn links_count_only_above_opened_files() {
        for (path, expected) in [
            ("/srv/v1/a", &["/srv/v1", "/srv"][..]),
            ("/data", &[]),
            ("/usr/bin/tar", &[]),
            ("/etc/company/a", &[]),
        ] {
            assert_eq!(directories_with_links(path).collect::<Vec<_>>(), expected, "{path}");
        }
    }
}
