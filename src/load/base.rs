//! Reads and writes `layers/*.toml`.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{LoadError, parse_definition};
use crate::directory::{Directory, random_name, read_text};
use crate::distro::{BaseDefinition, BaseName, BaseSource, dnf};
use crate::element::nearest;

/// Reads the base `name` from the first directory of `layer_path` that has it.
///
/// # Errors
/// [`LoadError::UnknownBase`] if no directory has it, [`LoadError::Definition`] if its file is
/// invalid.
pub fn load_base(name: &BaseName, layer_path: &[PathBuf]) -> Result<BaseDefinition, LoadError> {
    for dir in layer_path {
        let path = file_of(name, dir);
        match read_text(&path) {
            Ok(text) => {
                let mut base: BaseDefinition = parse_definition(&path, &text)?;
                base.locate(dir);
                read_keys(&mut base, &path, dir)?;
                return Ok(base);
            }
            Err(error) if is_absence(&error) => {}
            Err(error) => return Err(LoadError::io("read", &path)(error)),
        }
    }
    unknown(name, layer_path)
}

/// Puts keys in place of the files that the definition at `path` names, so that the key of the base
/// covers them.
fn read_keys(base: &mut BaseDefinition, path: &Path, dir: &Path) -> Result<(), LoadError> {
    let BaseSource::Dnf(source) = &mut base.source else { return Ok(()) };
    for repository in &mut source.repositories {
        let id = repository.id.clone();
        let wrong = |file: Option<PathBuf>, reason: String| LoadError::RepositoryKey {
            definition: path.to_owned(),
            repository: id.clone(),
            file,
            reason,
        };
        if repository.keys.is_empty() {
            return Err(wrong(None, "`keys` is empty".to_owned()));
        }
        if let Some(address) =
            repository.key_addresses().next().filter(|_| repository.fingerprints.is_empty())
        {
            return Err(wrong(
                None,
                format!("`fingerprints` is empty, and `{address}` could return any key"),
            ));
        }
        for key in repository.key_files() {
            let file = dir.join(&*key);
            let text = read_text(&file).map_err(|error| wrong(Some(file.clone()), error.to_string()))?;
            if !dnf::is_key(&text) {
                return Err(wrong(Some(file), "it holds no public key in ASCII armor".to_owned()));
            }
            *key = text;
        }
    }
    Ok(())
}

/// Returns the names of the available bases.
pub fn load_base_names(layer_path: &[PathBuf]) -> Result<BTreeSet<BaseName>, LoadError> {
    let mut names = BTreeSet::new();
    for dir in layer_path {
        match fs::read_dir(dir) {
            Ok(entries) => {
                for entry in entries {
                    names.extend(base_name(&entry.map_err(LoadError::io("read", dir))?.path()));
                }
            }
            Err(error) if is_absence(&error) => {}
            Err(error) => return Err(LoadError::io("read", dir)(error)),
        }
    }
    Ok(names)
}

/// Writes the base `name` into the directory `dir` and returns the path of the file. Creates a
/// missing directory, and replaces a base of the same name. Atomic.
pub fn save_base(name: &BaseName, base: &BaseDefinition, dir: &Path) -> Result<PathBuf, LoadError> {
    let path = file_of(name, dir);
    let text = toml::to_string(base).expect("a base definition is a TOML table");
    let directory = Directory::create(dir).map_err(LoadError::io("make directory", dir))?;
    let write = || {
        let temporary = random_name(".plywood.", ".toml.part")?;
        directory.create_file(&temporary, 0o644)?.write_all(text.as_bytes())?;
        directory.rename(&temporary, path.file_name().unwrap_or_default())
    };
    write().map_err(LoadError::io("write", &path))?;
    Ok(path)
}

fn file_of(name: &BaseName, dir: &Path) -> PathBuf {
    dir.join(format!("{name}.toml"))
}

fn base_name(path: &Path) -> Option<BaseName> {
    path.file_name()?.to_str()?.strip_suffix(".toml")?.parse().ok()
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn unknown(name: &BaseName, layer_path: &[PathBuf]) -> Result<BaseDefinition, LoadError> {
    let known: Vec<_> = load_base_names(layer_path)?.into_iter().collect();
    let nearest = meant(name.as_str(), &known).cloned();
    Err(LoadError::UnknownBase { name: name.clone(), known, nearest })
}

/// Numbers and names of releases, by distribution.
const RELEASES: [(&str, &[(&str, &str)]); 2] = [
    (
        "debian",
        &[("10", "buster"), ("11", "bullseye"), ("12", "bookworm"), ("13", "trixie"), ("14", "forky")],
    ),
    (
        "ubuntu",
        &[
            ("14.04", "trusty"),
            ("16.04", "xenial"),
            ("18.04", "bionic"),
            ("20.04", "focal"),
            ("22.04", "jammy"),
            ("24.04", "noble"),
        ],
    ),
];

/// Returns the base of `known` that the user probably meant by `name`: the base of that release
/// number, a base with `name` in its name, or the base with the most similar name.
fn meant<'a>(name: &str, known: &'a [BaseName]) -> Option<&'a BaseName> {
    let part = |part: &str| known.iter().find(|base| base.as_str().contains(part));
    let distro = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number = &name[distro.len()..];
    if number.is_empty() {
        let slip = || nearest(name, known.iter().map(BaseName::as_str));
        return part(name).or_else(|| known.iter().find(|base| Some(base.as_str()) == slip()));
    }
    // `debian12` and `debian11` are similar names and different releases, so similarity must not
    // decide here.
    let distro = distro.trim_end_matches(['-', '_']);
    let numbered = RELEASES.iter().filter(|(of, _)| distro.is_empty() || distro == *of);
    let mut releases = numbered.flat_map(|(_, releases)| *releases);
    releases.find(|(of, _)| *of == number).and_then(|(_, release)| part(release))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::data_dir;

    fn own() -> Vec<PathBuf> {
        vec![data_dir().join("layers")]
    }

    #[test]
    fn plywoods_own_bases_can_be_read() {
        let names = load_base_names(&own()).unwrap();
        assert!(names.len() >= 3, "{names:?}");
        for name in names {
            let base = load_base(&name, &own()).unwrap();
            let words: Vec<_> = name.as_str().split('-').collect();
            let expected = format!("{}-{}", base.distro, base.release);
            assert!(expected.split('-').all(|word| words.contains(&word)), "{name}: {expected}");
        }
    }

    #[test]
    fn the_error_for_an_unknown_base_lists_the_known_bases() {
        let error = load_base(&"debian-bookwrom".parse().unwrap(), &own()).unwrap_err();
        let message = error.to_string();
        assert!(message.starts_with("base `debian-bookwrom` not found: there are `"), "{message}");
        assert!(message.contains("`debian-bookworm`"), "{message}");
        assert_eq!(error.hint().as_deref(), Some("did you mean `debian-bookworm`?"));
    }

    #[test]
    fn a_base_is_suggested_by_its_release_number_or_a_part_of_its_name() {
        let known = ["debian-bookworm", "debian-bullseye", "debian-trixie", "ubuntu-noble"];
        let known = known.map(|name| name.parse().unwrap());
        for (name, expected) in [
            ("debian-12", Some("debian-bookworm")),
            ("debian12", Some("debian-bookworm")),
            ("12", Some("debian-bookworm")),
            ("debian-11", Some("debian-bullseye")),
            ("debian-13", Some("debian-trixie")),
            ("debian-14", None),
            ("debian-9", None),
            ("ubuntu-12", None),
            ("ubuntu-24.04", Some("ubuntu-noble")),
            ("ubuntu24.04", Some("ubuntu-noble")),
            ("24.04", Some("ubuntu-noble")),
            ("ubuntu-22.04", None),
            ("debian-24.04", None),
            ("ubuntu", Some("ubuntu-noble")),
            ("trixie", Some("debian-trixie")),
            ("debian-bulseye", Some("debian-bullseye")),
            ("fedora", None),
        ] {
            assert_eq!(meant(name, &known).map(BaseName::as_str), expected, "{name}");
        }
    }

    #[test]
    fn the_first_directory_wins_and_a_saved_base_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut base = load_base(&"debian-bookworm".parse().unwrap(), &own()).unwrap();
        base.release = "mine".to_owned();
        let name = "debian-bookworm".parse().unwrap();
        save_base(&name, &base, dir.path()).unwrap();
        let path = [vec![dir.path().to_owned()], own()].concat();
        assert_eq!(load_base(&name, &path).unwrap(), base);
    }

    #[test]
    fn a_key_is_read_from_its_file_and_a_missing_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let text = "distro = 'd'\nrelease = 'r'\nfamily = 'redhat'\n[source.dnf]\nreleasever = '9'\nmirror = 'http://m'\n\
                    packages = []\n[[source.dnf.repositories]]\nid = 'baseos'\npath = 'p'\nkeys = KEYS\n";
        let key = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabc\n";
        fs::write(dir.path().join("right.asc"), key).unwrap();
        fs::write(dir.path().join("wrong.asc"), "abc").unwrap();
        let load = |keys: &str| {
            fs::write(dir.path().join("rpm.toml"), text.replace("KEYS", keys)).unwrap();
            load_base(&"rpm".parse().unwrap(), &[dir.path().to_owned()])
        };
        match load("['right.asc']").unwrap().source {
            BaseSource::Dnf(source) => assert_eq!(source.repositories[0].keys, [key]),
            other => panic!("{other:?}"),
        }
        for (keys, expected) in [
            ("['absent.asc']", "absent.asc`: No such file or directory (os error 2)"),
            ("['wrong.asc']", "wrong.asc`: it holds no public key in ASCII armor"),
            ("[]", "rpm.toml`: `keys` is empty"),
            ("['https://m/key']", "`fingerprints` is empty, and `https://m/key` could return any key"),
        ] {
            let message = load(keys).unwrap_err().to_string();
            assert!(message.starts_with("no usable key for the repository `baseos` of `"), "{message}");
            assert!(message.ends_with(expected), "{message}");
        }
    }

    #[test]
    fn names_that_dnf_would_take_for_something_else_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let head = "distro = 'd'\nrelease = 'r'\nfamily = 'redhat'\n[source.dnf]\nreleasever = '9'\nmirror = 'http://m'\n";
        let repository =
            |id: &str| format!("[[source.dnf.repositories]]\nid = {id}\npath = 'p'\nkeys = []\n");
        for (text, expected) in [
            ("packages = []\nrepositories = []\n".to_owned(), "needs at least one repository"),
            (format!("packages = ['-x']\n{}", repository("'a'")), "`-x` is not a valid package name"),
            (
                format!("packages = []\n{}", repository("'base os'")),
                "\"base os\" is not the id of a repository",
            ),
            (
                format!("packages = []\n{}", repository("\"a]\\nb\"")),
                "\"a]\\nb\" is not the id of a repository",
            ),
        ] {
            fs::write(dir.path().join("rpm.toml"), format!("{head}{text}")).unwrap();
            let message =
                load_base(&"rpm".parse().unwrap(), &[dir.path().to_owned()]).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn an_invalid_digest_is_reported_with_its_position() {
        let dir = tempfile::tempdir().unwrap();
        let text = "distro = 'd'\nrelease = 'r'\nfamily = 'debian'\n[source.rootfs-tar]\npath = 'a.tar'\ndigest = 'md5:0'\n";
        fs::write(dir.path().join("bad.toml"), text).unwrap();
        let error = load_base(&"bad".parse().unwrap(), &[dir.path().to_owned()]).unwrap_err();
        let message = error.to_string();
        assert!(
            message.ends_with("bad.toml:6:10: `md5:0` is not a digest: expected `sha256:` and 64 hex digits"),
            "{message}"
        );
    }
}
