//! Records the host files that hooks read while a step runs, and compares them with the host when
//! the record of the step is found.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::oci::Digest;
use crate::plan::{
    Aspect, Evidence, HostChange, HostDifference, HostRead, Miss, Record, Step, aspect_below,
    directories_with_links, literal_paths,
};
use crate::port::{HostFiles, HostOpen, HostOpens};

/// How much the texts of a job can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    /// Work on variables alone: [`is_pure_shell`](crate::element::is_pure_shell).
    PureShell,
    Any,
}

/// Records the host files that the hooks of one step read.
pub(super) struct Witness<'a> {
    host: &'a dyn HostFiles,
    /// `None` until something runs on the host.
    seen: RefCell<Option<Seen>>,
}

#[derive(Default)]
struct Seen {
    reads: BTreeMap<(String, Aspect), HostRead>,
    names: BTreeMap<String, Digest>,
    gap: Option<String>,
}

impl<'a> Witness<'a> {
    pub(super) fn new(host: &'a dyn HostFiles) -> Self {
        Self { host, seen: RefCell::default() }
    }

    /// Records the facts that cannot be traced, before `hook` with these texts runs: the names on
    /// the host, and the entries at and below the paths in the texts. For shell that works on
    /// variables alone, names are left out.
    ///
    /// A change between this call and the hook's own look makes the next look-up a miss.
    pub(super) fn begin(&self, hook: &str, texts: &[&[u8]], language: Language) {
        let mut seen = self.seen.borrow_mut();
        let seen = seen.get_or_insert_default();
        // The first look counts: names that appear while the step runs make the next look-up a
        // miss.
        if language == Language::Any && seen.names.is_empty() {
            seen.names = self.host.names();
        }
        for text in texts {
            for path in literal_paths(&String::from_utf8_lossy(text)) {
                self.look(seen, &path, Aspect::Entry, hook);
                // A hook that has a directory in its text may look for files there by names that
                // the text does not have.
                if let Some(aspect) = aspect_below(&path) {
                    self.look(seen, &path, aspect, hook);
                }
            }
        }
    }

    /// Records the files that `hook` has opened.
    pub(super) fn end(&self, hook: &str, HostOpens { files, gap }: HostOpens) {
        let mut seen = self.seen.borrow_mut();
        let Some(seen) = seen.as_mut() else { return };
        seen.gap = seen.gap.take().or(gap);
        for HostOpen { path, aspect, stamp } in files {
            // The trace has the file's own path. A link that led there may be turned to another
            // file, and this file stay the same.
            //
            // A link that is turned after the hook passed it and before this look is noted as
            // turned, so the next look-up does not miss. This cannot be closed here: only the
            // trace tells which directories count, and it is complete when the job has ended.
            // `begin` notes earlier all links below `NAMES` and on the paths in the hook's text.
            directories_with_links(&path).for_each(|above| self.look(seen, above, Aspect::Links, hook));
            if seen.reads.contains_key(&(path.clone(), aspect)) {
                continue;
            }
            // The file has the content that the hook has read only if it was not written since.
            match self.host.observe(&path, aspect) {
                Some(found) if found.stamp.as_ref() == Some(&stamp) => {
                    let stamp = found.is_settled.then_some(stamp);
                    let (digest, by) = (Some(found.digest), hook.to_owned());
                    let read = HostRead { path: path.clone(), aspect, digest, by, stamp };
                    seen.reads.insert((path, aspect), read);
                }
                _ => drop(seen.gap.get_or_insert(format!("`{path}` changed while `{hook}` ran"))),
            }
        }
    }

    /// Returns the evidence; `None` if no job ran on the host.
    pub(super) fn conclude(self) -> Option<Evidence> {
        let Seen { reads, names, gap } = self.seen.into_inner()?;
        Some(Evidence { reads: reads.into_values().collect(), names, gap })
    }

    /// Notes one aspect of a path, unless it is noted already.
    fn look(&self, seen: &mut Seen, path: &str, aspect: Aspect, hook: &str) {
        if seen.reads.contains_key(&(path.to_owned(), aspect)) {
            return;
        }
        let found = self.host.observe(path, aspect);
        // If the path does not exist, the aspect `Entry` alone notices that it appears.
        if found.is_some() || aspect == Aspect::Entry {
            let stamp = found.as_ref().filter(|found| found.is_settled).and_then(|found| found.stamp.clone());
            let (digest, by) = (found.map(|found| found.digest), hook.to_owned());
            let read = HostRead { path: path.to_owned(), aspect, digest, by, stamp };
            seen.reads.insert((path.to_owned(), aspect), read);
        }
    }
}

/// Returns why a record of `step` does not count on this host although its key is the right one;
/// empty if it does.
pub(super) fn misses(step: &Step, record: &Record, host: &dyn HostFiles) -> Vec<Miss> {
    match &record.evidence {
        None if step.reads_host() => {
            vec![Miss::HostUnknown { why: "the record does not say what its hooks read".to_owned() }]
        }
        None => Vec::new(),
        Some(Evidence { gap: Some(gap), .. }) => vec![Miss::HostUnknown { why: gap.clone() }],
        Some(evidence) => changes(evidence, host).into_iter().map(|change| reason(change, host)).collect(),
    }
}

/// Returns a change as a reason. A path that this user may not read looks changed, whether or not
/// it is.
fn reason(change: HostChange, host: &dyn HostFiles) -> Miss {
    match host.hidden(&change.path, change.aspect) {
        Some(path) => {
            let why = format!("this user may not read `{}`, so it cannot be compared", path.display());
            Miss::HostUnknown { why }
        }
        None => Miss::Host(change),
    }
}

/// Returns the differences between the host and `evidence`.
fn changes(evidence: &Evidence, host: &dyn HostFiles) -> Vec<HostChange> {
    let mut changes: Vec<_> = evidence.reads.iter().filter_map(|read| change(read, host)).collect();
    if !evidence.names.is_empty() {
        changes.extend(changed_names(&evidence.names, &host.names()));
    }
    changes
}

fn change(read: &HostRead, host: &dyn HostFiles) -> Option<HostChange> {
    // Digests are computed only where the stamp does not spare it.
    if read.stamp.is_some() && read.stamp == host.stamp(&read.path) {
        return None;
    }
    let now = host.observe(&read.path, read.aspect).map(|found| found.digest);
    let difference = difference(read.digest, now)?;
    let (path, by) = (read.path.clone(), Some(read.by.clone()));
    Some(HostChange { path, aspect: Some(read.aspect), difference, by })
}

fn changed_names(old: &BTreeMap<String, Digest>, new: &BTreeMap<String, Digest>) -> Vec<HostChange> {
    let added = new.keys().filter(|path| !old.contains_key(*path));
    let changed = old.keys().chain(added).filter_map(|path| {
        let difference = difference(old.get(path).copied(), new.get(path).copied())?;
        Some(HostChange { path: path.clone(), aspect: None, difference, by: None })
    });
    changed.collect()
}

fn difference(old: Option<Digest>, new: Option<Digest>) -> Option<HostDifference> {
    match (old, new) {
        (old, new) if old == new => None,
        (None, _) => Some(HostDifference::Appeared),
        (_, None) => Some(HostDifference::Gone),
        _ => Some(HostDifference::Changed),
    }
}
