//! Files and directories of an element that are ignored because their names are misspelled.

use std::collections::BTreeSet;

use super::variables::is_word_character;
use super::{Element, Phase, SLOT_FILE};

/// A file or directory at the top of an element that is ignored although its name resembles a known
/// name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is ignored: did you mean `{meant}`?")]
pub struct Stray {
    /// The name; it ends with a slash for a directory.
    pub name: String,
    /// The known name.
    pub meant: String,
}

/// Directories with a meaning for elements, besides those of the phases.
const DIRECTORIES: [&str; 4] = ["environment.d", "init-scripts", "static", "modprobe.d"];

/// Data directories of diskimage-builder's elements, whose names resemble known names.
const DATA_DIRECTORIES: [&str; 7] = [
    "binary-deps.d",
    "dracut-drivers.d",
    "dracut.conf.d",
    "init.d",
    "ramdisk-install.d",
    "udev.d",
    "yum.repos.d",
];

/// Files with a meaning for elements.
const FILES: [&str; 8] = [
    "block-device-default.yaml",
    "element-deps",
    "element-provides",
    "package-installs.json",
    "package-installs.yaml",
    "pkg-map",
    SLOT_FILE,
    "svc-map",
];

/// The prefix of files that list sources.
const SOURCES: &str = "source-repository-";

/// Returns true if plywood itself reads the file at this path of an element: lists of packages,
/// services and sources, and block-device files.
pub fn is_list(path: &str) -> bool {
    match path.rsplit_once('/') {
        None => FILES.contains(&path) || path.starts_with(SOURCES) || path.starts_with("block-device-"),
        Some((_, name)) => name.starts_with("package-installs-") || path.starts_with("environment.d/"),
    }
}

impl Element {
    /// Returns the files and directories with misspelled names. A name that occurs in a path in the
    /// texts of `elements` (those of the image) is data, and not misspelled.
    pub fn strays<'a>(&'a self, elements: impl Iterator<Item = &'a Element> + Clone) -> Vec<Stray> {
        let names: BTreeSet<_> = self.files.keys().map(|path| top_name(path)).collect();
        let slips = names.into_iter().filter_map(|name| Some((name, meant_by(name)?)));
        let strays = slips.filter(|(name, _)| !elements.clone().any(|element| looks_for(element, name)));
        strays.map(|(name, meant)| Stray { name: name.to_owned(), meant }).collect()
    }
}

/// Returns the first component of a path, with its slash if there is one.
fn top_name(path: &str) -> &str {
    path.find('/').map_or(path, |slash| &path[..=slash])
}

/// Returns the known name that resembles an unknown name.
fn meant_by(name: &str) -> Option<String> {
    match name.strip_suffix('/') {
        Some(directory) => directory_meant_by(directory).map(|meant| format!("{meant}/")),
        None => file_meant_by(name),
    }
}

fn directory_meant_by(name: &str) -> Option<String> {
    let known = Phase::ALL.map(Phase::dir).into_iter().chain(DIRECTORIES);
    if known.clone().chain(DATA_DIRECTORIES).any(|known| known == name) {
        return None;
    }
    let mut known = known.into_iter();
    known.find(|known| known.strip_suffix(".d") == Some(name) || is_slip(name, known)).map(str::to_owned)
}

fn file_meant_by(name: &str) -> Option<String> {
    if FILES.contains(&name) || name.starts_with(SOURCES) || name.starts_with("block-device-") {
        let is_yaml = name.starts_with("block-device-") && name.ends_with(".yml");
        return is_yaml.then(|| name.replace(".yml", ".yaml"));
    }
    for start in ["source-repositories-", "source_repository_", "source_repository-", "source-repo-"] {
        if let Some(rest) = name.strip_prefix(start) {
            return Some(format!("{SOURCES}{rest}"));
        }
    }
    FILES.into_iter().find(|known| is_slip(name, known)).map(str::to_owned)
}

/// Returns true if a name differs from another one by one wrong, missing, added or exchanged
/// letter; by two in a long name.
fn is_slip(name: &str, known: &str) -> bool {
    let allowed = if known.len() > 8 { 2 } else { 1 };
    strsim::osa_distance(name, known) <= allowed
}

/// Returns true if a text of an element contains `name` in a path of the hooks directory or an
/// element: `../name`, `$element_dir/name`, `/tmp/in_target.d/name`.
fn looks_for(element: &Element, name: &str) -> bool {
    let name = name.trim_end_matches('/');
    let texts = element.files.values().filter_map(|file| file.text.as_deref());
    texts.map(String::from_utf8_lossy).any(|text| {
        text.match_indices(name).any(|(start, _)| {
            let ends = |c: char| !is_word_character(c) && c != '-' && c != '.';
            let before = &text[..start];
            text[start + name.len()..].chars().next().is_none_or(ends) && leads_into_hooks(before)
        })
    })
}

/// Returns true if a text ends with a path that may be the hooks directory or an element's
/// directory.
fn leads_into_hooks(before: &str) -> bool {
    let Some(path) = before.strip_suffix('/') else { return false };
    let start = path.rfind(|c: char| c == '/' || c.is_whitespace() || c == '"' || c == '\'');
    let last = &path[start.map_or(0, |start| start + 1)..];
    matches!(last, ".." | "in_target.d") || last.contains('$') || last.ends_with(['}', ')'])
}

#[cfg(test)]
mod tests {
    use crate::element::fixture::element;

    #[test]
    fn misspelled_names_are_found_and_data_is_not() {
        let table = [
            ("finalize.d/50-x", Some("`finalize.d/` is ignored: did you mean `finalise.d/`?")),
            ("pre-finalize.d/50-x", Some("`pre-finalize.d/` is ignored: did you mean `pre-finalise.d/`?")),
            ("install/50-x", Some("`install/` is ignored: did you mean `install.d/`?")),
            ("postinstall.d/50-x", Some("`postinstall.d/` is ignored: did you mean `post-install.d/`?")),
            ("enviroment.d/50-x", Some("`enviroment.d/` is ignored: did you mean `environment.d/`?")),
            (
                "package-instals.yaml",
                Some("`package-instals.yaml` is ignored: did you mean `package-installs.yaml`?"),
            ),
            (
                "package-installs.yml",
                Some("`package-installs.yml` is ignored: did you mean `package-installs.yaml`?"),
            ),
            ("plywood-slot", Some("`plywood-slot` is ignored: did you mean `plywood-slots`?")),
            ("element_deps", Some("`element_deps` is ignored: did you mean `element-deps`?")),
            (
                "block-device-amd64.yml",
                Some("`block-device-amd64.yml` is ignored: did you mean `block-device-amd64.yaml`?"),
            ),
            (
                "source-repositories-x",
                Some("`source-repositories-x` is ignored: did you mean `source-repository-x`?"),
            ),
            ("install.d/50-x", None),
            ("source-repository-install", None),
            ("block-device-amd64.yaml", None),
            ("init.d/x", None),
            ("os-refresh-config/x", None),
            ("files/x", None),
            ("containerfiles/x", None),
            ("status/x", None),
            ("schema.yaml", None),
            ("Makefile", None),
        ];
        for (path, expected) in table {
            let element = element("e").file(path, "").build();
            let found: Vec<_> =
                element.strays([&element].into_iter()).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "{path}");
        }
    }

    #[test]
    fn names_that_a_hook_looks_for_are_data() {
        for (text, data) in [
            ("cp -r $(dirname $0)/../install /opt", true),
            ("cp -r \"${TMP_HOOKS_PATH}/install/\" /opt", true),
            ("cp -r $TMP_HOOKS_PATH/install/x /opt", true),
            ("cp -r /tmp/in_target.d/install /opt", true),
            ("/usr/bin/install -d /opt", false),
            ("ls $(dirname $0)/../install.d", false),
        ] {
            let stray = element("e").file("install/50-x", "").build();
            let reading = element("f").hook("install.d/50-f", text).build();
            let found = stray.strays([&stray, &reading].into_iter());
            assert_eq!(found.is_empty(), data, "{text}");
        }
    }
}
