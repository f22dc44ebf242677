//! What hooks of host phases read of the build host, beside what their step's key covers.
//!
//! A hook on the build host sees the host's own files, and no key can know beforehand which of them it reads. So the sandbox
//! traces what it opens, the step's record keeps the evidence, and a look-up compares it with the host as it is now: a
//! difference is a miss. What the evidence holds:
//!
//! | read | evidence | on another machine |
//! |---|---|---|
//! | a file that was opened | its bytes, mode, owner and attributes | counts, unless [`belongs_to_distribution`] |
//! | a directory that was listed | its entries, with their types, modes, owners and link targets | the same |
//! | a path that a hook's text has | the same of the path, whether it is there, whether it is empty | the same |
//! | a path below a directory that a hook's text has | the same of everything below it | the same |
//! | symlinks on the way to a file that was opened | those in the directories above the file | the same |
//! | a look for a file by a computed name | all names below [`NAMES`] | does not count |
//!
//! All but the first two cover what no trace sees: files that are looked for and missing, `stat`, and symlinks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::distribution::belongs_to_distribution;
use crate::oci::Digest;

/// Directories whose names count as a whole, for hooks that look for files there by computed names.
pub const NAMES: [&str; 3] = ["/etc", "/opt", "/usr/local"];

/// Directories whose entries come and go with the distribution's packages, or with what the host does. Where a hook's text has one
/// of them, only the directory itself counts.
const BUSY: [&str; 5] = ["/usr", "/usr/share", "/var", "/var/lib", "/"];

/// The same, with everything below.
const BUSY_BELOW: [&str; 5] = ["/boot", "/var/backups", "/var/cache", "/var/log", "/var/spool"];

/// What the sandbox puts in place of the host's: nothing there is a file of the host.
pub const NOT_OF_HOST: [&str; 9] =
    ["/dev", "/home", "/proc", "/root", "/run", "/sys", "/tmp", "/var/lib/containers", "/var/tmp"];

/// What the hooks of one step read of the build host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Sorted by path; one per path and aspect.
    pub reads: Vec<HostRead>,
    /// A digest of all names below each entry of [`NAMES`], by the entry's path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub names: BTreeMap<String, Digest>,
    /// Why the evidence is incomplete. The step is then a miss at every look-up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<String>,
}

/// One thing that a hook read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRead {
    /// Absolute, without symlinks where a file or directory was opened.
    pub path: String,
    /// What of it was read.
    pub aspect: Aspect,
    /// What was found; `None` if there was nothing.
    pub digest: Option<Digest>,
    /// The hook that read it first: `extra-data.d/50-web`.
    pub by: String,
    /// While the path has this stamp, it has this digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<Stamp>,
}

/// What of a path was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Aspect {
    /// Bytes, mode, owner and extended attributes of a file.
    Content,
    /// The entries of a directory, each as [`Aspect::Entry`] tells.
    Listing,
    /// Type, mode, owner, link target, and whether a file is empty.
    Entry,
    /// The same of everything below a directory.
    Names,
    /// The symlinks in a directory, and where they lead.
    Links,
}

/// Size and times of a file: equal stamps mean that nothing was written in between.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stamp(String);

impl Stamp {
    /// Makes a stamp of a size in bytes and the times of the last modification and change, in seconds since 1970 and
    /// nanoseconds.
    pub fn new(bytes: u64, modified: (i64, u32), changed: (i64, u32)) -> Self {
        Self(format!("{bytes} {}.{:09} {}.{:09}", modified.0, modified.1, changed.0, changed.1))
    }
}

/// What differs between the host now and when a step was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HostDifference {
    /// Something else is found at the path.
    Changed,
    /// There was nothing.
    Appeared,
    /// There is nothing any more.
    Gone,
}

/// A path of the host that is not as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HostChange {
    /// The path.
    pub path: String,
    /// What of it differs; `None` for the names below it.
    pub aspect: Option<Aspect>,
    /// How.
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
    /// Returns the evidence as it counts on other machines: without names, stamps, and whatever
    /// [belongs to the distribution](belongs_to_distribution).
    pub fn published(&self) -> Self {
        let reads = self.reads.iter().filter(|read| !belongs_to_distribution(&read.path));
        let reads = reads.map(|read| HostRead { stamp: None, ..read.clone() }).collect();
        Self { reads, names: BTreeMap::new(), gap: self.gap.clone() }
    }
}

/// Returns the aspect of a directory in a hook's text that counts because the hook may look for files below it by computed names.
/// Returns `None` where these names are covered otherwise, or belong to the distribution.
pub fn aspect_below(path: &str) -> Option<Aspect> {
    let is_at_or_below = |place: &&str| Path::new(path).starts_with(place);
    let is_counted_otherwise = NAMES.iter().chain(&BUSY_BELOW).chain(&NOT_OF_HOST).any(is_at_or_below)
        || BUSY.contains(&path)
        || belongs_to_distribution(path);
    // A directory at the top, such as `/srv`, holds much that the hook has nothing to do with.
    let aspect = if path.matches('/').count() == 1 { Aspect::Listing } else { Aspect::Names };
    (!is_counted_otherwise).then_some(aspect)
}

/// Returns the directories above a file that was opened in which a symlink may have led to it. `/` is left out, because the
/// distribution's kernels have symlinks there.
pub fn directories_with_links(path: &str) -> impl Iterator<Item = &str> {
    let is_known =
        belongs_to_distribution(path) || NAMES.iter().any(|place| Path::new(path).starts_with(place));
    let above = Path::new(path).ancestors().skip(1).filter_map(Path::to_str);
    above.filter(move |directory| !is_known && *directory != "/")
}

/// Returns the absolute paths of the host that a hook's text has: those that begin a word, without their last part where that
/// is a pattern or a variable.
pub fn literal_paths(text: &str) -> BTreeSet<String> {
    let slashes = text.match_indices('/').filter(|(at, _)| begins_word(&text[..*at]));
    slashes.filter_map(|(at, _)| host_path(&text[at..])).collect()
}

/// Returns true if a word may begin after `before`: `[ -e /etc/x`, `x="/etc/x`, `${X:-/etc/x`, but not `$ROOT/etc/x`.
fn begins_word(before: &str) -> bool {
    let before_default = |text: &str| text.ends_with(":-") || text.ends_with(":=");
    before.chars().next_back().is_none_or(|c| c.is_whitespace() || "\"'=(<>;|&:,[`".contains(c))
        || before_default(before)
}

/// Returns the path that `text` begins with, if it can be one of the host.
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
    fn links_are_looked_for_above_content_alone() {
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
