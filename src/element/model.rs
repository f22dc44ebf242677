//! One element and its files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::{ElementName, SLOT_FILE, SlotRule};
use crate::oci::Digest;

/// An element: a directory in diskimage-builder's layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// The last component of its directory.
    pub name: ElementName,
    /// Its directory, to copy from and to name in messages. Not part of its identity.
    pub root: PathBuf,
    /// `element-deps`. The order of its lines has no meaning.
    pub deps: BTreeSet<ElementName>,
    /// `element-provides`.
    pub provides: BTreeSet<ElementName>,
    /// The files for which [`belongs_to_identity`] returns true, by path relative to `root`.
    pub files: BTreeMap<String, ElementFile>,
    /// `README.md` or `README.rst`.
    pub readme: Option<String>,
    /// The files of `static/` that other users may not read on the build host, although they may
    /// enter the element's directory. Not part of its identity: in images these files have the
    /// modes of [`Mode`].
    pub restricted: BTreeSet<String>,
    /// The rules of [`SLOT_FILE`]. Not part of its identity: the keys of steps cover the hooks that
    /// they run.
    pub slots: Vec<SlotRule>,
}

/// A file of `static/` that more users may read in the image than on the build host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` has the mode {:04o} in the image, although other users may not read it on the build host: set its mode in a hook", mode.bits())]
pub struct Widened {
    pub path: String,
    pub mode: Mode,
}

/// One file of an element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElementFile {
    pub kind: FileKind,
    /// The permission bits, reduced to those that git keeps.
    pub mode: Mode,
    /// Its bytes, if they may be needed as text: for all files outside `static/`, and for programs
    /// in it.
    pub text: Option<Arc<[u8]>>,
}

/// The type of an element's file. Symlinks are kept only below `static/`, where they are content of
/// the image. Elsewhere they are followed, so that their targets are in the element's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileKind {
    File {
        digest: Digest,
        bytes: u64,
    },
    /// A symlink with this target, verbatim.
    Symlink(String),
    /// A directory without entries.
    EmptyDirectory,
}

/// The permission bits of a file that git keeps. They do not depend on the umask of the checkout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `0644`.
    Plain,
    /// `0755`.
    Executable,
}

impl Mode {
    /// Returns the permission bits.
    pub const fn bits(self) -> u32 {
        match self {
            Mode::Plain => 0o644,
            Mode::Executable => 0o755,
        }
    }
}

impl Element {
    /// Returns the files that declare its dependencies and provided names, if they are not empty:
    /// name and text.
    pub fn declarations(&self) -> impl Iterator<Item = (&'static str, String)> {
        let lines = |names: &BTreeSet<ElementName>| names.iter().map(|name| format!("{name}\n")).collect();
        let texts: [String; 2] = [lines(&self.deps), lines(&self.provides)];
        DECLARATIONS.into_iter().zip(texts).filter(|(_, text)| !text.is_empty())
    }

    /// Returns its identity: path, and a text of mode and content, in byte order of the paths.
    ///
    /// These are fields of a layer's key, so that a miss can name the file.
    pub fn identity(&self) -> impl Iterator<Item = (&str, String)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file.identity()))
    }

    /// Returns the files of `static/` that more users may read in images than on the build host.
    pub fn widened(&self) -> impl Iterator<Item = Widened> {
        let files = self.restricted.iter().filter_map(|path| self.files.get_key_value(path));
        files.map(|(path, file)| Widened { path: path.clone(), mode: file.mode })
    }

    /// Returns the bytes of the file at `path`, if it exists and was kept as text.
    pub fn text(&self, path: &str) -> Option<&[u8]> {
        self.files.get(path)?.text.as_deref()
    }

    /// Returns the files below the directory `dir`: path relative to it, file.
    pub fn files_below(&self, dir: &str) -> impl Iterator<Item = (&str, &ElementFile)> {
        let prefix = format!("{dir}/");
        self.files
            .range(prefix.clone()..)
            .take_while(move |(path, _)| path.starts_with(&prefix))
            .map(move |(path, file)| (&path[dir_len(path, dir)..], file))
    }

    /// Returns the files directly in the directory `dir`: name, file.
    pub fn files_in(&self, dir: &str) -> impl Iterator<Item = (&str, &ElementFile)> {
        self.files_below(dir).filter(|(name, _)| !name.contains('/'))
    }

    /// Returns true if the element has an entry below the directory `dir`.
    pub fn has_dir(&self, dir: &str) -> bool {
        self.files_below(dir).next().is_some()
    }
}

/// Returns the offset in `path` of its part relative to `dir`. `path` must be below `dir`.
fn dir_len(path: &str, dir: &str) -> usize {
    debug_assert!(path.starts_with(dir));
    dir.len() + 1
}

impl ElementFile {
    /// Returns the identity of the file: a text of mode and content.
    pub fn identity(&self) -> String {
        match &self.kind {
            FileKind::File { digest, .. } => format!("{:04o} {digest}", self.mode.bits()),
            FileKind::Symlink(target) => format!("symlink {target}"),
            FileKind::EmptyDirectory => "directory".to_owned(),
        }
    }
}

/// Entries at the top of an element that no hook and no provider reads.
const DOCUMENTATION: [&str; 7] =
    ["LICENSE", "LICENCE", "COPYING", "NOTICE", "CHANGELOG", "AUTHORS", "README"];

/// Directories at the top of an element for its developers. diskimage-builder does not show `tests`
/// to hooks either.
const DEVELOPMENT: [&str; 5] = ["tests", "test-elements", "docs", "doc", "examples"];

/// Files that are parsed into values when the element is read.
const DECLARATIONS: [&str; 2] = ["element-deps", "element-provides"];

/// Returns true if the file at `path` (relative to the element) is part of the element's identity.
/// Hooks do not see other files, and changes of them rebuild nothing.
///
/// | left out | where | because |
/// |---|---|---|
/// | `README*`, `LICENSE*`, `CHANGELOG*` … | top | documentation |
/// | `docs/`, `tests/`, `test-elements/`, `examples/` | top | for developers |
/// | `element-deps`, `element-provides` | top | the resolved list of elements contains their meaning |
/// | `plywood-slots` | top | the keys of steps cover the hooks that they run |
/// | `*.pyc`, `__pycache__/` | outside `static/` | written when a test or a hook runs |
/// | names that end with `~` | outside `static/` | written by editors; no such hook runs |
/// | names with a leading dot | top, and in directories there except `static/` | diskimage-builder does not copy them |
/// | names that `rsync --cvs-exclude` leaves out | in `static/` | diskimage-builder does not copy them |
pub fn belongs_to_identity(path: &str) -> bool {
    let (top, rest) = path.split_once('/').map_or((path, None), |(top, rest)| (top, Some(rest)));
    match rest {
        Some(below) if top == "static" => !below.split('/').any(is_cvs_excluded),
        Some(_) if DEVELOPMENT.contains(&top) => false,
        None if DECLARATIONS.contains(&top) || top == SLOT_FILE || is_documentation(top) => false,
        _ => !path.split('/').any(is_litter) && !path.split('/').take(2).any(|name| name.starts_with('.')),
    }
}

fn is_documentation(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name);
    DOCUMENTATION.iter().any(|word| stem.eq_ignore_ascii_case(word))
}

fn is_litter(name: &str) -> bool {
    name.ends_with('~') || name.ends_with(".pyc") || name == "__pycache__"
}

/// Names that `rsync -C` leaves out. Source: rsync(1), `--cvs-exclude`.
fn is_cvs_excluded(name: &str) -> bool {
    const NAMES: [&str; 14] = [
        "RCS",
        "SCCS",
        "CVS",
        "CVS.adm",
        "RCSLOG",
        "tags",
        "TAGS",
        ".make.state",
        ".nse_depinfo",
        "core",
        ".svn",
        ".git",
        ".hg",
        ".bzr",
    ];
    const PREFIXES: [&str; 6] = ["cvslog.", "#", ".#", ",", "_$", ".del-"];
    const SUFFIXES: [&str; 16] = [
        "~", "$", ".old", ".bak", ".BAK", ".orig", ".rej", ".a", ".olb", ".o", ".obj", ".so", ".exe", ".Z",
        ".elc", ".ln",
    ];
    NAMES.contains(&name)
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_hooks_can_read_belong_to_the_identity() {
        let table = [
            ("install.d/50-nginx", true),
            ("install.d/README", true),
            ("package-installs.yaml", true),
            ("bin/tool", true),
            ("static/README", true),
            ("static/usr/lib/.keep", true),
            ("static/usr/lib/x.pyc", true),
            ("README", false),
            ("README.rst", false),
            ("readme.md", false),
            ("LICENSE", false),
            ("element-deps", false),
            ("element-provides", false),
            ("plywood-slots", false),
            ("tests/install.d/10-x", false),
            ("test-elements/t/install.d/10-x", false),
            ("docs/a.md", false),
            ("bin/__pycache__/x", false),
            ("bin/x.pyc", false),
            ("install.d/50-x~", false),
            (".gitignore", false),
            ("install.d/.50-nginx.swp", false),
            ("install.d/home/.bashrc", true),
            ("install.d/home/.bashrc~", false),
            ("static/etc/motd~", false),
            ("static/.git/config", false),
            ("static/etc/motd.orig", false),
        ];
        for (path, expected) in table {
            assert_eq!(belongs_to_identity(path), expected, "{path}");
        }
    }

    #[test]
    fn files_below_a_directory_do_not_include_its_siblings() {
        let file = ElementFile { kind: FileKind::EmptyDirectory, mode: Mode::Plain, text: None };
        let paths = ["install", "install.d/1", "install.d/x/2", "install.d-old/3", "install/4"];
        let element = Element {
            name: "e".parse().unwrap(),
            root: PathBuf::new(),
            deps: BTreeSet::new(),
            provides: BTreeSet::new(),
            files: paths.map(|path| (path.to_owned(), file.clone())).into(),
            readme: None,
            restricted: BTreeSet::new(),
            slots: Vec::new(),
        };
        let names = |iter: &mut dyn Iterator<Item = (&str, &ElementFile)>| {
            iter.map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(&mut element.files_below("install.d")), ["1", "x/2"]);
        assert_eq!(names(&mut element.files_in("install.d")), ["1"]);
        assert!(!element.has_dir("static"));
    }
}
