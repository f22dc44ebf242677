//! The hooks of an element, and their order.
//!
//! Source: diskimage-builder, `lib/dib-run-parts`.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::{Element, ElementFile, ElementName, FileKind, Mode, Phase};

/// A file that runs in a phase.
#[derive(Debug, Clone, Copy)]
pub struct Hook<'a> {
    pub phase: Phase,
    /// The name in the phase's directory: `50-nginx`.
    pub name: &'a str,
    pub file: &'a ElementFile,
}

impl Hook<'_> {
    /// Returns the path in the element, for a hook in the phase's own directory.
    pub fn path(&self) -> String {
        format!("{}/{}", self.phase, self.name)
    }
}

/// A file in a phase's directory that looks like a hook but does not run, and that no other file of
/// the element mentions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SkippedHook<'a> {
    #[error("`{phase}/{name}` is not executable, so it does not run")]
    NotExecutable { phase: Phase, name: &'a str },
    #[error("`{phase}/{name}` has {found:?} in its name, so it does not run")]
    Name { phase: Phase, name: &'a str, found: char },
}

impl SkippedHook<'_> {
    /// Returns the path in the element.
    pub fn path(&self) -> String {
        match self {
            SkippedHook::NotExecutable { phase, name } | SkippedHook::Name { phase, name, .. } => {
                format!("{phase}/{name}")
            }
        }
    }
}

/// A file with the same name in two elements, in a directory that hooks of both elements share.
///
/// diskimage-builder refuses such an image. In element order it does no harm; in phase order it
/// does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("elements `{first}` and `{second}` both have a file `{path}`")]
pub struct DuplicateHook {
    pub path: String,
    /// The element that comes first in the order.
    pub first: ElementName,
    pub second: ElementName,
}

impl Element {
    /// Returns the hooks of a phase in the order in which they run.
    pub fn hooks(&self, phase: Phase) -> Vec<Hook<'_>> {
        self.hooks_in(phase, phase.dir())
    }

    /// Returns the hooks in another directory than the phase's own, as install types use it
    /// (`install.d/nginx-source-install`).
    pub fn hooks_in(&self, phase: Phase, dir: &str) -> Vec<Hook<'_>> {
        let mut hooks: Vec<_> = self
            .files_in(dir)
            .filter(|(name, file)| runs(file) && offending_character(name).is_none())
            .map(|(name, file)| Hook { phase, name, file })
            .collect();
        hooks.sort_by(|a, b| run_parts_order(a.name, b.name));
        hooks
    }

    /// Returns the fragments of `environment.d` in the order in which they are sourced: name, file.
    ///
    /// Their names may contain dots, and they need not be executable.
    pub fn environment_fragments(&self) -> Vec<(&str, &ElementFile)> {
        let allowed = |name: &str| name.chars().all(|c| is_hook_character(c) || c == '.');
        let mut fragments: Vec<_> = self
            .files_in("environment.d")
            .filter(|(name, file)| matches!(file.kind, FileKind::File { .. }) && allowed(name))
            .collect();
        fragments.sort_by(|a, b| environment_order(a.0, b.0));
        fragments
    }

    /// Returns the files in the directories of phases that look like hooks but do not run.
    pub fn skipped_hooks(&self) -> Vec<SkippedHook<'_>> {
        Phase::ALL.into_iter().flat_map(|phase| self.skipped_hooks_of(phase)).collect()
    }

    fn skipped_hooks_of(&self, phase: Phase) -> impl Iterator<Item = SkippedHook<'_>> {
        self.files_in(phase.dir()).filter_map(move |(name, file)| {
            let skipped = match offending_character(name) {
                Some(found) if is_numbered(name) && runs(file) && is_script(file) => {
                    SkippedHook::Name { phase, name, found }
                }
                None if looks_like_script(name, file) => SkippedHook::NotExecutable { phase, name },
                _ => return None,
            };
            // Last, because it searches every text of the element.
            (!self.mentions_file(name)).then_some(skipped)
        })
    }

    /// Returns true if another file of the element mentions a file of this name: hooks install
    /// files that lie beside them.
    fn mentions_file(&self, name: &str) -> bool {
        let texts = self.files.iter().filter_map(|(path, file)| Some((path, file.text.as_deref()?)));
        let mut others = texts.filter(|(path, _)| path.rsplit('/').next() != Some(name));
        others.any(|(_, text)| text.windows(name.len()).any(|part| part == name.as_bytes()))
    }
}

fn runs(file: &ElementFile) -> bool {
    file.mode == Mode::Executable && matches!(file.kind, FileKind::File { .. })
}

/// Returns true if a file without execute permission was probably meant to be a hook. Data files
/// beside hooks are common.
fn looks_like_script(name: &str, file: &ElementFile) -> bool {
    file.mode == Mode::Plain && (is_numbered(name) || is_script(file))
}

fn is_numbered(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_digit())
}

fn is_script(file: &ElementFile) -> bool {
    file.text.as_deref().is_some_and(|text| text.starts_with(b"#!"))
}

fn offending_character(name: &str) -> Option<char> {
    name.chars().find(|&c| !is_hook_character(c))
}

/// Returns true if this character may be in the name of a hook.
pub fn is_hook_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

/// Compares two names of hooks as `LANG=C sort -n` does: by leading number (0 if there is none),
/// then bytewise.
pub fn run_parts_order(a: &str, b: &str) -> Ordering {
    LeadingNumber::of(a).cmp(&LeadingNumber::of(b)).then_with(|| a.cmp(b))
}

/// Compares two names of hooks by leading number alone.
pub(super) fn number_order(a: &str, b: &str) -> Ordering {
    LeadingNumber::of(a).cmp(&LeadingNumber::of(b))
}

/// Compares two names in `environment.d` bytewise: diskimage-builder sorts full paths, whose
/// leading number is 0.
pub fn environment_order(a: &str, b: &str) -> Ordering {
    a.cmp(b)
}

/// The leading number of a name, of any length.
#[derive(PartialEq, Eq)]
struct LeadingNumber<'a> {
    negative: bool,
    /// Without leading zeros; empty is zero.
    digits: &'a str,
}

impl<'a> LeadingNumber<'a> {
    fn of(name: &'a str) -> Self {
        let (dash, rest) = match name.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, name),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let digits = rest[..end].trim_start_matches('0');
        Self { negative: dash && !digits.is_empty(), digits }
    }

    fn cmp(&self, other: &Self) -> Ordering {
        let magnitude = |a: &Self, b: &Self| (a.digits.len(), a.digits).cmp(&(b.digits.len(), b.digits));
        match (self.negative, other.negative) {
            (false, false) => magnitude(self, other),
            (true, true) => magnitude(other, self),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

/// Returns the files that the elements of an image, in their order, have under the same name in a
/// directory of hooks, data or tools. Files in `static/` are merged on purpose.
pub fn duplicate_hooks<'a>(elements: impl IntoIterator<Item = &'a Element>) -> Vec<DuplicateHook> {
    let mut owners: BTreeMap<&str, &ElementName> = BTreeMap::new();
    let mut duplicates = Vec::new();
    for element in elements {
        let shared = element.files.keys().filter(|path| is_merged_file(path));
        for path in shared {
            match owners.get(path.as_str()) {
                Some(&first) => duplicates.push(DuplicateHook {
                    path: path.clone(),
                    first: first.clone(),
                    second: element.name.clone(),
                }),
                None => drop(owners.insert(path, &element.name)),
            }
        }
    }
    duplicates
}

/// Returns true if diskimage-builder refuses two files of this path: files directly in a directory
/// of the element.
fn is_merged_file(path: &str) -> bool {
    matches!(path.split_once('/'), Some((dir, name)) if dir != "static" && !name.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::fixture;

    /// Measured with diskimage-builder 3.43.0.
    #[test]
    fn hooks_are_ordered_by_leading_number_and_then_bytewise() {
        let element = fixture::element("e")
            .hook("install.d/10-ten", "")
            .hook("install.d/9-nine", "")
            .hook("install.d/10-show", "")
            .hook("install.d/nonum", "")
            .hook("install.d/09-oh", "")
            .hook("install.d/5five", "")
            .build();
        let names: Vec<_> = element.hooks(Phase::Install).into_iter().map(|hook| hook.name).collect();
        assert_eq!(names, ["nonum", "5five", "09-oh", "9-nine", "10-show", "10-ten"]);
    }

    /// Each line is the output of `LANG=C sort -n`.
    #[test]
    fn numbers_compare_as_sort_compares_them() {
        let table: [&[&str]; 4] = [
            &["-10", "-9", "-", "-0", "00", "a", "1"],
            &["99999999999999999999998", "99999999999999999999999", "100000000000000000000000"],
            &["-x", "0", "A", "_", "z", "0001", "01", "1"],
            &["2-b", "10-a", "100", "100-a"],
        ];
        for sorted in table {
            let mut names = sorted.to_vec();
            names.reverse();
            names.sort_by(|a, b| run_parts_order(a, b));
            assert_eq!(names, sorted);
        }
    }

    /// Measured with diskimage-builder 3.43.0.
    #[test]
    fn environment_fragments_are_ordered_bytewise_and_may_have_dots() {
        let names = ["9-x", "zz", "10-x", "5.sh", "09-x", "a b"];
        let element = names
            .into_iter()
            .fold(fixture::element("e"), |element, name| element.file(&format!("environment.d/{name}"), ""))
            .build();
        let sorted: Vec<_> = element.environment_fragments().into_iter().map(|(name, _)| name).collect();
        assert_eq!(sorted, ["09-x", "10-x", "5.sh", "9-x", "zz"]);
    }

    #[test]
    fn files_that_do_not_run_are_reported_unless_they_are_data() {
        let element = fixture::element("e")
            .hook("install.d/50-good", "")
            .hook("install.d/60-dot.sh", "#!/bin/sh\n")
            .hook("install.d/61-data.bin", "")
            .hook("install.d/init.sh", "#!/bin/sh\n")
            .hook("install.d/62-used.sh", "#!/bin/sh\n")
            .file("install.d/63-used", "#!/bin/sh\n")
            .file("install.d/64-used", "")
            .hook("post-install.d/50-use", "cp $(dirname $0)/../install.d/{62-used.sh,63-used,64-used} /opt")
            .file("install.d/70-plain", "")
            .file("install.d/script", "#!/bin/bash\n")
            .file("install.d/data.conf", "")
            .file("install.d/package-installs-e", "nginx\n")
            .file("install.d/e-source-install/50-x", "")
            .build();
        let reported: Vec<_> = element.skipped_hooks().iter().map(ToString::to_string).collect();
        assert_eq!(
            reported,
            [
                "`install.d/60-dot.sh` has '.' in its name, so it does not run",
                "`install.d/70-plain` is not executable, so it does not run",
                "`install.d/script` is not executable, so it does not run",
            ]
        );
        assert_eq!(element.hooks(Phase::Install).len(), 1);
    }

    #[test]
    fn two_elements_with_one_hook_name_are_duplicates_but_static_files_are_not() {
        let element = |name| {
            fixture::element(name)
                .hook("install.d/80-modprobe-blacklist", "")
                .file("static/etc/motd", "")
                .file("install.d/sub/same", "")
                .file("pkg-map", "{}")
                .build()
        };
        let duplicates = duplicate_hooks(&[element("modprobe"), element("modprobe-blacklist")]);
        let texts: Vec<_> = duplicates.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "elements `modprobe` and `modprobe-blacklist` both have a file `install.d/80-modprobe-blacklist`"
            ]
        );
    }
}
