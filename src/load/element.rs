//! Reads one element.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::LoadError;
use crate::directory::{MAX_DOCUMENT_BYTES as MAX_TEXT_BYTES, as_text, open_regular, read_text};
use crate::element::{
    Element, ElementFile, ElementName, FileKind, Mode, Phase, SLOT_FILE, SlotRule, belongs_to_identity,
    is_list,
};
use crate::oci::{Digest, HashingReader};

/// Reads the element `name` in the directory `root`.
pub(super) fn load_element(name: ElementName, root: &Path) -> Result<Element, LoadError> {
    let mut walk = Walk { root, is_open: is_open(root), files: BTreeMap::new(), restricted: BTreeSet::new() };
    walk.directory("", &mut Vec::new())?;
    Ok(Element {
        deps: load_names(root, "element-deps")?.into_iter().collect(),
        provides: load_names(root, "element-provides")?.into_iter().collect(),
        readme: load_readme(root)?,
        files: walk.files,
        restricted: walk.restricted,
        slots: load_slots(root)?,
        name,
        root: root.to_owned(),
    })
}

/// Reads a file of declarations; empty if it does not exist.
fn load_declaration(path: &Path) -> Result<String, LoadError> {
    match read_text(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        result => result.map_err(LoadError::io("read", path)),
    }
}

/// Reads the slot rules of the element.
fn load_slots(root: &Path) -> Result<Vec<SlotRule>, LoadError> {
    let path = root.join(SLOT_FILE);
    let text = load_declaration(&path)?;
    let rules = text.lines().enumerate().filter_map(|(index, text)| {
        let rule = SlotRule::parse(index + 1, text);
        rule.map_err(|source| LoadError::Slots { path: path.clone(), line: index + 1, source }).transpose()
    });
    rules.collect()
}

/// Reads a file with one name per line; empty if it does not exist.
fn load_names(root: &Path, file: &str) -> Result<Vec<ElementName>, LoadError> {
    let path = root.join(file);
    let text = load_declaration(&path)?;
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty());
    let names = lines.map(|(index, line)| {
        line.parse().map_err(|source| LoadError::Declaration { path: path.clone(), line: index + 1, source })
    });
    names.collect()
}

fn load_readme(root: &Path) -> Result<Option<String>, LoadError> {
    let existing =
        ["README.md", "README.rst"].map(|name| root.join(name)).into_iter().find(|path| path.is_file());
    existing
        .map(|path| {
            let mut bytes = Vec::new();
            // Only people read it, so a part of a file that is too large is enough.
            let read = open_regular(&path).and_then(|file| file.take(MAX_TEXT_BYTES).read_to_end(&mut bytes));
            read.map_err(LoadError::io("read", &path))?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        })
        .transpose()
}

struct Walk<'a> {
    root: &'a Path,
    /// True if other users can read the directory of the element. If they cannot, the umask was
    /// probably 077, and the modes of files say nothing about their author's intention.
    is_open: bool,
    files: BTreeMap<String, ElementFile>,
    restricted: BTreeSet<String>,
}

impl Walk<'_> {
    /// Reads the directory at `path` (relative, empty for the element itself). `above` has the real
    /// paths of the directories above it.
    fn directory(&mut self, path: &str, above: &mut Vec<PathBuf>) -> Result<(), LoadError> {
        let dir = self.root.join(path);
        let real = fs::canonicalize(&dir).map_err(LoadError::io("read", &dir))?;
        if above.contains(&real) {
            return Err(LoadError::Loop { path: dir });
        }
        above.push(real);
        for name in entry_names(&dir)? {
            let below = if path.is_empty() { name } else { format!("{path}/{name}") };
            self.entry(below, above)?;
        }
        above.pop();
        Ok(())
    }

    fn entry(&mut self, path: String, above: &mut Vec<PathBuf>) -> Result<(), LoadError> {
        let full = self.root.join(&path);
        let in_image = path.starts_with("static/");
        let metadata = if in_image { fs::symlink_metadata(&full) } else { fs::metadata(&full) };
        let metadata = match metadata {
            Err(_) if !in_image && full.is_symlink() => return dangling(&path, full),
            result => result.map_err(LoadError::io("read", &full))?,
        };
        let is_dir = metadata.is_dir();
        // As a directory of data it would be accepted, and the element would silently lack the
        // list.
        if is_dir && is_list(&path) && !path.contains('/') {
            return Err(LoadError::io("read", &full)(io::ErrorKind::IsADirectory.into()));
        }
        if !belongs_to_identity(&if is_dir { format!("{path}/") } else { path.clone() }) {
            return Ok(());
        }
        // Checked before the file is read: computing the digest of gigabytes takes long.
        if metadata.is_file() && !in_image && is_list(&path) && metadata.len() > MAX_TEXT_BYTES {
            return Err(LoadError::TooLarge { path: full, limit_bytes: MAX_TEXT_BYTES });
        }
        let file = match metadata.file_type() {
            kind if kind.is_dir() => return self.subdirectory(path, in_image, above),
            kind if kind.is_symlink() => load_symlink(&full)?,
            kind if kind.is_file() => load_file(&full, in_image)?,
            _ => return Err(LoadError::Special { path: full }),
        };
        // In the image, files have mode 0644 or 0755. A private key would become readable there.
        if in_image && self.is_open && metadata.is_file() && metadata.permissions().mode() & OTHERS_READ == 0
        {
            self.restricted.insert(path.clone());
        }
        if !in_image && is_list(&path) {
            // Readers of lists skip lines that they cannot decode, so a package could be missing
            // silently.
            let text = file.text.as_deref().unwrap_or_default();
            as_text(text).map_err(LoadError::io("read", &full))?;
        }
        self.files.insert(path, file);
        Ok(())
    }

    fn subdirectory(
        &mut self,
        path: String,
        in_image: bool,
        above: &mut Vec<PathBuf>,
    ) -> Result<(), LoadError> {
        let before = self.files.len();
        self.directory(&path, above)?;
        if in_image && self.files.len() == before {
            let file = ElementFile { kind: FileKind::EmptyDirectory, mode: Mode::Plain, text: None };
            self.files.insert(path, file);
        }
        Ok(())
    }
}

/// Handles a dangling symlink outside `static/`. For data, the link is ignored. For a list or a
/// hook it is an error, because the image would silently lack the packages or the work of the hook.
fn dangling(path: &str, full: PathBuf) -> Result<(), LoadError> {
    let is_hook = path.split_once('/').is_some_and(|(dir, name)| {
        Phase::ALL.iter().any(|phase| phase.dir() == dir) && name.starts_with(|c: char| c.is_ascii_digit())
    });
    if is_hook || is_list(path) { Err(LoadError::Dangling { path: full }) } else { Ok(()) }
}

fn entry_names(dir: &Path) -> Result<Vec<String>, LoadError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(LoadError::io("read", dir))? {
        let entry = entry.map_err(LoadError::io("read", dir))?;
        let name = entry.file_name().into_string();
        names.push(name.map_err(|_| LoadError::NotUtf8 { path: entry.path() })?);
    }
    names.sort();
    Ok(names)
}

/// The permission of other users to read.
const OTHERS_READ: u32 = 0o004;

fn is_open(directory: &Path) -> bool {
    fs::metadata(directory).is_ok_and(|found| found.permissions().mode() & OTHERS_READ != 0)
}

fn mode_of(metadata: &fs::Metadata) -> Mode {
    match metadata.permissions().mode() & 0o111 {
        0 => Mode::Plain,
        _ => Mode::Executable,
    }
}

fn load_symlink(path: &Path) -> Result<ElementFile, LoadError> {
    let target = fs::read_link(path).map_err(LoadError::io("read", path))?;
    let target = target.into_os_string().into_string();
    let target = target.map_err(|_| LoadError::NotUtf8 { path: path.to_owned() })?;
    Ok(ElementFile { kind: FileKind::Symlink(target), mode: Mode::Plain, text: None })
}

/// Reads a file. Keeps its text if hooks, or the search for variables, may need it: small files
/// outside `static/`, and small programs.
fn load_file(path: &Path, in_image: bool) -> Result<ElementFile, LoadError> {
    let mut file = open_regular(path).map_err(LoadError::io("read", path))?;
    let mode = mode_of(&file.metadata().map_err(LoadError::io("read", path))?);
    let mut text = Vec::new();
    if !in_image || mode == Mode::Executable {
        file.by_ref().take(MAX_TEXT_BYTES + 1).read_to_end(&mut text).map_err(LoadError::io("read", path))?;
    }
    let whole = text.len() as u64 <= MAX_TEXT_BYTES && (!in_image || mode == Mode::Executable);
    if whole {
        let kind = FileKind::File { digest: Digest::of(&text), bytes: text.len() as u64 };
        return Ok(ElementFile { kind, mode, text: Some(Arc::from(text)) });
    }
    let mut reader = HashingReader::new(text.as_slice().chain(file));
    io::copy(&mut reader, &mut io::sink()).map_err(LoadError::io("read", path))?;
    let (digest, bytes) = reader.finish();
    Ok(ElementFile { kind: FileKind::File { digest, bytes }, mode, text: None })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::element::Slot;

    /// Makes an element of `path` or `path!` (executable) files, whose content is their path.
    fn element_dir(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file.trim_end_matches('!'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, file).unwrap();
            let mode = if file.ends_with('!') { 0o700 } else { 0o600 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        dir
    }

    fn load(dir: &tempfile::TempDir) -> Result<Element, LoadError> {
        load_element("e".parse().unwrap(), dir.path())
    }

    #[test]
    fn a_file_that_became_a_fifo_is_not_waited_for() {
        use rustix::fs::{CWD, FileType, mknodat};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        mknodat(CWD, &path, FileType::Fifo, 0o600.into(), 0).unwrap();
        let error = load_file(&path, false).unwrap_err();
        assert!(matches!(&error, LoadError::Io(error) if error.kind() == io::ErrorKind::InvalidInput));
    }

    #[test]
    fn files_are_read_with_normalized_modes_and_without_ignored_files() {
        let dir = element_dir(&["install.d/50-x!", "static/etc/x", "README.md", "tests/x", "svc-map", ".x"]);
        let element = load(&dir).unwrap();
        let paths: Vec<_> = element.files.keys().collect();
        assert_eq!(paths, ["install.d/50-x", "static/etc/x", "svc-map"]);
        assert_eq!(element.files["install.d/50-x"].mode.bits(), 0o755);
        assert_eq!(element.files["svc-map"].mode.bits(), 0o644);
        assert_eq!(element.text("install.d/50-x"), Some(b"install.d/50-x!".as_slice()));
        assert_eq!(element.text("static/etc/x"), None);
        assert_eq!(element.readme.as_deref(), Some("README.md"));
    }

    #[test]
    fn files_that_become_readable_in_the_image_are_listed_unless_the_umask_caused_their_mode() {
        let dir = element_dir(&["static/etc/key", "static/etc/run!", "install.d/50-x!"]);
        for (mode, expected) in [(0o755, &["static/etc/key", "static/etc/run"][..]), (0o700, &[])] {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            let element = load(&dir).unwrap();
            assert_eq!(element.restricted.iter().collect::<Vec<_>>(), expected, "{mode:o}");
        }
    }

    #[test]
    fn identity_does_not_depend_on_documentation_or_the_umask() {
        let dir = element_dir(&["install.d/50-x!", "README.md"]);
        let before = load(&dir).unwrap();
        fs::write(dir.path().join("README.md"), "edited").unwrap();
        fs::set_permissions(dir.path().join("install.d/50-x"), fs::Permissions::from_mode(0o775)).unwrap();
        let after = load(&dir).unwrap();
        assert!(before.identity().eq(after.identity()));
        fs::set_permissions(dir.path().join("install.d/50-x"), fs::Permissions::from_mode(0o664)).unwrap();
        assert!(!before.identity().eq(load(&dir).unwrap().identity()));
    }

    #[test]
    fn symlinks_are_content_in_static_and_followed_elsewhere() {
        let dir = element_dir(&["install.d/50-x!", "shared/data"]);
        fs::create_dir_all(dir.path().join("static/empty")).unwrap();
        symlink("/nowhere", dir.path().join("static/link")).unwrap();
        symlink("50-x", dir.path().join("install.d/60-again")).unwrap();
        symlink("shared", dir.path().join("post-install.d")).unwrap();
        symlink("gone", dir.path().join("dangling")).unwrap();
        let files = load(&dir).unwrap().files;
        assert_eq!(files["static/link"].kind, FileKind::Symlink("/nowhere".to_owned()));
        assert_eq!(files["static/empty"].kind, FileKind::EmptyDirectory);
        assert_eq!(files["install.d/60-again"], files["install.d/50-x"]);
        assert!(files.contains_key("post-install.d/data") && !files.contains_key("dangling"));
    }

    #[test]
    fn a_loop_of_directories_is_an_error() {
        let dir = element_dir(&["data/x"]);
        symlink("..", dir.path().join("data/up")).unwrap();
        let error = load(&dir).unwrap_err();
        assert!(matches!(&error, LoadError::Loop { path } if path.ends_with("data/up")), "{error}");
    }

    #[test]
    fn dependencies_are_one_per_line_and_a_bad_line_is_named() {
        let dir = element_dir(&[]);
        fs::write(dir.path().join("element-deps"), "b\n\n  a \n").unwrap();
        assert_eq!(load(&dir).unwrap().deps, ["a", "b"].map(|name| name.parse().unwrap()).into());
        fs::write(dir.path().join("element-deps"), "a\nb # why\n").unwrap();
        let error = load(&dir).unwrap_err();
        assert!(error.to_string().ends_with("element-deps`, line 2"), "{error}");
    }

    #[test]
    fn a_bad_slot_is_named_with_its_line_and_slots_are_not_in_the_identity() {
        let dir = element_dir(&["post-install.d/95-x!"]);
        let before = load(&dir).unwrap();
        fs::write(dir.path().join("plywood-slots"), "# ours\npost-install.d/95- late\n").unwrap();
        let after = load(&dir).unwrap();
        assert_eq!(after.slot(Phase::PostInstall, "95-x"), Slot::Late);
        assert!(before.identity().eq(after.identity()));
        fs::write(dir.path().join("plywood-slots"), "\ninstall.d/5 last\n").unwrap();
        let error = load(&dir).unwrap_err();
        assert!(error.to_string().ends_with("plywood-slots`, line 2"), "{error}");
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(
            cause.starts_with("slot `last` is unknown: expected `own`, `prepare`, `late`, `final`"),
            "{cause}"
        );
    }

    #[test]
    fn a_large_file_is_hashed_but_not_kept() {
        let dir = element_dir(&[]);
        let bytes = vec![7; MAX_TEXT_BYTES as usize + 1];
        fs::write(dir.path().join("blob"), &bytes).unwrap();
        let file = &load(&dir).unwrap().files["blob"];
        let kind = FileKind::File { digest: Digest::of(&bytes), bytes: bytes.len() as u64 };
        assert_eq!((&file.kind, &file.text), (&kind, &None));
    }

    #[test]
    fn a_list_or_hook_that_cannot_be_read_is_refused() {
        for (name, is_refused) in
            [("pkg-map", true), ("install.d/50-x", true), ("environment.d/10-x", true), ("data", false)]
        {
            let dir = element_dir(&["install.d/60-y!", "environment.d/60-y"]);
            symlink("gone", dir.path().join(name)).unwrap();
            assert_eq!(matches!(load(&dir), Err(LoadError::Dangling { .. })), is_refused, "{name}");
        }
        let error = load(&element_dir(&["package-installs.yaml/x"])).unwrap_err();
        assert!(matches!(error, LoadError::Io(_)), "{error}");
    }

    #[test]
    fn a_list_that_is_not_text_is_refused() {
        let dir = element_dir(&[]);
        fs::write(dir.path().join("source-repository-x"), b"# caf\xe9\nx git /x https://h/x\n").unwrap();
        let Err(LoadError::Io(error)) = load(&dir) else { panic!("its lines would be ignored") };
        assert_eq!(error.source.to_string(), "line 1 is not UTF-8 text");
    }

    #[test]
    fn only_the_beginning_of_a_large_readme_is_read() {
        let dir = element_dir(&["README.md"]);
        File::options().write(true).open(dir.path().join("README.md")).unwrap().set_len(1 << 40).unwrap();
        let readme = load(&dir).unwrap().readme.unwrap();
        assert!(readme.len() as u64 == MAX_TEXT_BYTES && readme.starts_with("README.md"));
    }

    #[test]
    fn a_list_that_is_too_large_is_refused() {
        for path in ["package-installs.yaml", "source-repository-x", "install.d/package-installs-x"] {
            let dir = element_dir(&[path]);
            File::create(dir.path().join(path)).unwrap().set_len(MAX_TEXT_BYTES + 1).unwrap();
            let error = load(&dir).unwrap_err();
            assert!(error.to_string().ends_with(&format!("{path}` is larger than 4 MiB: expected a text")));
        }
    }
}
