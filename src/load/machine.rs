//! Files of the build host that variables name for hooks of host phases: keys, package sources,
//! configurations.
//!
//! Their digests are in keys, so hooks must see the content that was hashed. Small files are
//! therefore kept in memory, and a change during the build has no effect on them. Files that a
//! build writes to, such as logs, are not inputs: hooks see their current content, and no key
//! covers it.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::input::{input_file, open_input};
use crate::element::Element;
use crate::oci::Digest;
use crate::plan::{
    InputFile, MachineContent, MachineFile, WORK_DIR_ON_HOST, is_about_the_call, mentions_variable,
    names_log, names_written_file,
};

/// Directories that belong to the build host's system and hold no files of the caller.
const OF_THE_SYSTEM: [&str; 8] = ["/bin", "/dev", "/lib", "/lib64", "/proc", "/sbin", "/sys", "/usr"];

/// Variables that name directories to write to.
const WRITTEN_TO: [&str; 3] = ["DIB_IMAGE_CACHE", "DIB_LOCKFILES", "DIB_MANIFEST_SAVE_DIR"];

/// The variable that holds the path of the image, without extension.
const IMAGE: &str = "IMAGE_NAME";

/// The variable that names plywood's own log.
const LOG: &str = "LOGFILE";

/// Public keys that hooks look for in the caller's home.
const PUBLIC_KEYS: [&str; 4] = ["authorized_keys", "id_dsa.pub", "id_ed25519.pub", "id_rsa.pub"];

/// Larger files are not kept in memory.
const MAX_KEPT_BYTES: u64 = 4 << 20;

/// The largest number of `..` in a relative path: [`WORK_DIR_ON_HOST`] has that many directories of
/// its own.
const MAX_STEPS_UP: usize = 4;

/// The inputs of the search for files.
pub struct MachineView<'a> {
    /// The elements of the image. Only variables that one of their texts mentions count.
    pub elements: &'a [Arc<Element>],
    /// The variables that hooks may see.
    pub variables: &'a BTreeMap<String, String>,
    /// The home directory of the caller.
    pub home: Option<&'a Path>,
    /// Relative paths start here.
    pub directory: &'a Path,
    /// Further directories that a build writes to: the store and output directories.
    pub written: &'a [PathBuf],
}

/// Returns the files and directories that variables name, and the public ssh keys in the caller's
/// home. Ignores those that do not exist or cannot be read.
pub fn load_machine_files(view: &MachineView<'_>) -> Vec<MachineFile> {
    let identities = own_output(view);
    let outputs = output_directories(view);
    let mut files = Vec::new();
    let is_looked_at = |name: &str| {
        !WRITTEN_TO.contains(&name) && !is_about_the_call(name) && is_mentioned(view.elements, name)
    };
    for (name, value) in view.variables.iter().filter(|(name, _)| is_looked_at(name)) {
        for word in words(value) {
            let Some(named) = NamedFile::find(name, word, view.directory) else { continue };
            // Each build changes such a directory, so it is neither in a key nor shown to hooks.
            if named.holds_any(&outputs) {
                continue;
            }
            let is_written = names_written_file(name)
                || (names_log(name) && named.entry.is_file())
                || identities.contains(&identity(&named.entry));
            files.extend(named.load(name, is_written));
        }
    }
    for key in PUBLIC_KEYS {
        let path = view.home.map(|home| home.join(".ssh").join(key)).filter(|path| path.is_file());
        files.extend(path.and_then(|path| {
            let content = MachineContent::Input(input(&path)?);
            Some(MachineFile { place: format!("/root/.ssh/{key}"), mention: ".ssh".to_owned(), content })
        }));
    }
    files
}

fn is_mentioned(elements: &[Arc<Element>], variable: &str) -> bool {
    let files = elements.iter().flat_map(|element| element.files.values());
    files.filter_map(|file| file.text.as_deref()).any(|text| mentions_variable(text, variable))
}

/// Returns the identities of the files that this process writes to: its standard output and error,
/// and its log.
fn own_output(view: &MachineView<'_>) -> Vec<(u64, u64)> {
    let streams = [io::stdout().as_fd().try_clone_to_owned(), io::stderr().as_fd().try_clone_to_owned()];
    let streams = streams.into_iter().filter_map(|stream| File::from(stream.ok()?).metadata().ok());
    let log = view.variables.get(LOG).and_then(|log| fs::metadata(view.directory.join(log)).ok());
    streams.chain(log).filter(Metadata::is_file).map(|entry| identity(&entry)).collect()
}

/// Returns the canonical paths of the directories that the build itself writes to: the caller's
/// directory, the directory of the image, and the others that `view` names. A directory that does
/// not exist yet is replaced by the nearest existing directory above it.
fn output_directories(view: &MachineView<'_>) -> Vec<PathBuf> {
    let image = view.variables.get(IMAGE).map(|image| view.directory.join(image));
    let beside = image.as_deref().and_then(Path::parent);
    let directories = [Some(view.directory), beside].into_iter().flatten();
    let directories = directories.chain(view.written.iter().map(PathBuf::as_path));
    directories
        .filter_map(|directory| directory.ancestors().find_map(|path| path.canonicalize().ok()))
        .collect()
}

fn identity(entry: &Metadata) -> (u64, u64) {
    (entry.dev(), entry.ino())
}

/// A file or directory that a variable names.
struct NamedFile {
    /// The path under which hooks find it.
    place: String,
    path: PathBuf,
    entry: Metadata,
}

impl NamedFile {
    fn find(variable: &str, word: &str, directory: &Path) -> Option<Self> {
        let path = directory.join(word);
        let entry = fs::metadata(&path).ok()?;
        let is_relative = !word.starts_with('/');
        let shown = if is_relative { is_inside(word) } else { !is_of_system(&path) };
        if !shown || !(entry.is_file() || is_directory_shown(variable, word, &entry)) {
            return None;
        }
        let place = if is_relative { format!("{WORK_DIR_ON_HOST}/{word}") } else { word.to_owned() };
        Some(Self { place, path, entry })
    }

    /// Returns true if one of these directories is at or below this one. A directory that the build
    /// writes to has another digest each time, so a step with it in its key would never be a hit.
    fn holds_any(&self, outputs: &[PathBuf]) -> bool {
        let found = self.path.canonicalize().ok().filter(|_| self.entry.is_dir());
        found.is_some_and(|path| outputs.iter().any(|output| output.starts_with(&path)))
    }

    fn load(self, variable: &str, is_written: bool) -> Option<MachineFile> {
        let content = match is_written {
            true => MachineContent::Written(self.path),
            false => MachineContent::Input(input(&self.path)?),
        };
        Some(MachineFile { place: self.place, mention: variable.to_owned(), content })
    }
}

/// Computes the digest of a file, and keeps the content of a small one.
fn input(path: &Path) -> Option<InputFile> {
    // Digest and content come from one read. Otherwise a file that changes in between would have
    // the digest of other content.
    if let Ok((file, is_executable)) = open_input(path) {
        let mut content = Vec::new();
        file.take(MAX_KEPT_BYTES + 1).read_to_end(&mut content).ok()?;
        if content.len() as u64 <= MAX_KEPT_BYTES {
            let digest = InputFile::digest(Digest::of(&content), is_executable);
            let content = Some(Arc::from(content));
            return Some(InputFile { path: path.to_owned(), digest, is_executable, content });
        }
    }
    input_file(path.to_owned()).ok()
}

/// Returns the words of a value that may be paths: the whole value, items of a list, or `file://`
/// URLs.
fn words(value: &str) -> impl Iterator<Item = &str> {
    let words = value.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';'));
    words.map(|word| word.strip_prefix("file://").unwrap_or(word)).filter(|word| !word.is_empty())
}

fn is_of_system(path: &Path) -> bool {
    OF_THE_SYSTEM.iter().any(|directory| path.starts_with(directory))
}

/// Returns true if hooks can be shown a file at this relative path.
fn is_inside(path: &str) -> bool {
    let steps = Path::new(path).components();
    steps.filter(|step| matches!(step, Component::ParentDir)).count() <= MAX_STEPS_UP
}

/// Returns true if a word names a directory on purpose. Excluded are top-level directories such as
/// `/`, the caller's own directory, and words such as `debian` that happen to be the name of a
/// directory.
fn is_directory_shown(variable: &str, word: &str, entry: &Metadata) -> bool {
    let steps = Path::new(word).components().filter(|step| matches!(step, Component::Normal(_))).count();
    let is_meant = match word.starts_with('/') {
        true => steps > 1,
        false => steps > 0 && (word.contains('/') || variable.contains("DIR") || variable.contains("PATH")),
    };
    entry.is_dir() && variable.starts_with("DIB_") && is_meant
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::element::fixture::element;

    fn files(machine: &Path, names: &[&str]) {
        for name in names {
            fs::create_dir_all(machine.join(name).parent().unwrap()).unwrap();
            fs::write(machine.join(name), "").unwrap();
        }
    }

    #[test]
    fn only_files_that_mentioned_variables_name_are_found() {
        let machine = tempfile::tempdir().unwrap();
        let at = |name: &str| machine.path().join(name).to_string_lossy().into_owned();
        files(
            machine.path(),
            &[
                "apt/sources",
                "keys/a",
                "home/.ssh/id_rsa.pub",
                "home/.ssh/id_rsa",
                "certificates/ca.pem",
                "bookworm/x",
            ],
        );
        let text = "DIB_APT_SOURCES DIB_CONFIG DIB_ADD_APT_KEYS OTHER_DIRECTORY DIB_SHELL DIB_MOUNTPOINTS DIB_IMAGE_CACHE \
                    DIB_RELEASE DIB_CA DIB_KEYS_DIR DIB_ROOT DIB_ARGS ${!DIB_SET_*}";
        let elements = [Arc::new(element("e").hook("extra-data.d/50-e", text).build())];
        let variables = [
            ("DIB_APT_SOURCES", at("apt/sources")),
            ("DIB_CONFIG", format!("file://{}", at("apt/sources"))),
            ("DIB_ADD_APT_KEYS", format!("{}, {}", at("keys"), at("absent"))),
            ("OTHER_DIRECTORY", at("keys")),
            ("UNMENTIONED", at("keys/a")),
            ("DIB_SET_1", at("keys/a")),
            ("DIB_SHELL", "/bin/sh".to_owned()),
            ("DIB_MOUNTPOINTS", "/".to_owned()),
            ("DIB_IMAGE_CACHE", at("keys")),
            ("DIB_RELEASE", "bookworm".to_owned()),
            ("DIB_CA", "certificates/ca.pem".to_owned()),
            ("DIB_KEYS_DIR", "keys".to_owned()),
            ("DIB_ROOT", ".".to_owned()),
            ("DIB_ARGS", at("apt/sources")),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).into();
        let home = machine.path().join("home");
        let found = load_machine_files(&MachineView {
            elements: &elements,
            variables: &variables,
            home: Some(&home),
            directory: machine.path(),
            written: &[],
        });
        let found: Vec<_> = found.iter().map(|file| (file.mention.as_str(), file.place.clone())).collect();
        let expected = [
            ("DIB_ADD_APT_KEYS", at("keys")),
            ("DIB_APT_SOURCES", at("apt/sources")),
            ("DIB_CA", format!("{WORK_DIR_ON_HOST}/certificates/ca.pem")),
            ("DIB_CONFIG", at("apt/sources")),
            ("DIB_KEYS_DIR", format!("{WORK_DIR_ON_HOST}/keys")),
            ("DIB_SET_1", at("keys/a")),
            (".ssh", "/root/.ssh/id_rsa.pub".to_owned()),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn directories_that_hold_outputs_are_not_inputs() {
        let machine = tempfile::tempdir().unwrap();
        files(
            machine.path(),
            &["caller/conf/a", "images/conf/a", "other/a", "new/a", "stores/a/store/blob", "stores/b/a"],
        );
        std::os::unix::fs::symlink("images", machine.path().join("link")).unwrap();
        let at = |name: &str| machine.path().join(name).to_string_lossy().into_owned();
        let elements = [Arc::new(element("e").hook("extra-data.d/50-e", "DIB_DIR").build())];
        for (image, named, is_input) in [
            ("x", at("caller"), false),
            ("x", at(""), false),
            ("x", "../caller".to_owned(), false),
            ("x", "../caller/conf".to_owned(), true),
            ("x", at("caller/conf"), true),
            ("x", at("images"), true),
            ("../images/x", at("images"), false),
            ("../images/x", "../images".to_owned(), false),
            ("../images/x", at("link"), false),
            ("../images/x", at("images/conf"), true),
            ("../images/x", at("other"), true),
            ("../new/below/x", at("new"), false),
            ("x", at("stores"), false),
            ("x", at("stores/a"), false),
            ("x", at("stores/b"), true),
        ] {
            let variables = [("IMAGE_NAME", image), ("DIB_DIR", named.as_str())];
            let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            let found = load_machine_files(&MachineView {
                elements: &elements,
                variables: &variables,
                home: None,
                directory: &machine.path().join("caller"),
                written: &[machine.path().join("stores/a/store")],
            });
            assert_eq!(found.len(), usize::from(is_input), "{image} {named}");
        }
    }

    #[test]
    fn files_that_a_build_writes_to_are_not_inputs() {
        let machine = tempfile::tempdir().unwrap();
        files(machine.path(), &["build.log", "github", "ca.pem"]);
        let at = |name: &str| machine.path().join(name).to_string_lossy().into_owned();
        let variables: BTreeMap<_, _> = [
            ("LOGFILE", "build.log".to_owned()),
            ("DIB_SAME_FILE", at("build.log")),
            ("GITHUB_ENV", at("github")),
            ("WEB_LOG", at("github")),
            ("DIB_LOG_CA", at("ca.pem")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let text = variables.keys().cloned().collect::<Vec<_>>().join(" ");
        let elements = [Arc::new(element("e").hook("extra-data.d/50-e", &text).build())];
        let found = load_machine_files(&MachineView {
            elements: &elements,
            variables: &variables,
            home: None,
            directory: machine.path(),
            written: &[],
        });
        let inputs: Vec<_> = found
            .iter()
            .filter(|file| matches!(file.content, MachineContent::Input(_)))
            .map(|file| file.mention.as_str())
            .collect();
        assert_eq!((found.len(), inputs), (5, vec!["DIB_LOG_CA"]));
    }
}
