//! The apt configuration of the build host.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::LoadError;
use crate::directory::read_document;
use crate::distro::{AptMachine, OsRelease, parse_acquire, parse_source_lines, parse_source_stanzas};

/// Reads the apt configuration in the directory `etc_apt` (`/etc/apt`), which says how the build
/// host reaches package repositories, and the host's distribution from `os-release` beside it. The
/// configuration is empty on a build host without apt.
pub fn load_apt_sources(etc_apt: &Path) -> Result<AptMachine, LoadError> {
    let mut machine = AptMachine::default();
    let os_release = read_if_there(&etc_apt.with_file_name("os-release"))?.unwrap_or_default();
    machine.distro = OsRelease::parse(&os_release).get("ID").unwrap_or_default().to_owned();
    for file in configuration_files(etc_apt, "sources.list", "sources.list.d")? {
        let Some(text) = read_if_there(&file)? else { continue };
        machine.sources.extend(match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => parse_source_lines(&text),
            Some("sources") => parse_source_stanzas(&text),
            _ => Vec::new(),
        });
    }
    // apt reads the directory before the file, so settings of the file win. The `;` ends each
    // file's last statement: a statement must not continue in the next file.
    let mut settings = String::new();
    for file in parts_first(configuration_files(etc_apt, "apt.conf", "apt.conf.d")?) {
        if is_read(&file, &["conf"]) {
            settings.extend(read_if_there(&file)?.map(|text| text + "\n;\n"));
        }
    }
    machine.acquire = parse_acquire(&settings);
    for file in configuration_files(etc_apt, "auth.conf", "auth.conf.d")? {
        if is_read(&file, &["conf"]) {
            machine.accounts.extend(read_if_there(&file)?.map(|text| text + "\n"));
        }
    }
    Ok(machine)
}

/// Moves the single file behind the files of the directory.
fn parts_first(mut files: Vec<PathBuf>) -> Vec<PathBuf> {
    files.rotate_left(1);
    files
}

/// Returns true if apt reads this file of a directory: files with one of these extensions, or
/// without extension.
fn is_read(file: &Path, extensions: &[&str]) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    match name.rsplit_once('.') {
        Some((stem, extension)) => !stem.is_empty() && extensions.contains(&extension),
        None => true,
    }
}

/// Returns the single file, then the files of the directory in byte order of their names.
fn configuration_files(etc_apt: &Path, single: &str, directory: &str) -> Result<Vec<PathBuf>, LoadError> {
    let directory = etc_apt.join(directory);
    let mut files = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        entries => entries
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>())
            .map_err(LoadError::io("read", &directory))?,
    };
    files.sort();
    files.insert(0, etc_apt.join(single));
    Ok(files)
}

fn read_if_there(file: &Path) -> Result<Option<String>, LoadError> {
    match read_document(file) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound || file.is_dir() => Ok(None),
        Err(error) => Err(LoadError::io("read", file)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_styles_and_the_settings_are_read_in_order() {
        let etc_apt = tempfile::tempdir().unwrap();
        for directory in ["sources.list.d/nested.list", "apt.conf.d", "auth.conf.d"] {
            fs::create_dir_all(etc_apt.path().join(directory)).unwrap();
        }
        for (name, text) in [
            ("sources.list", "deb http://m/debian bookworm main\n"),
            ("sources.list.d/b.list", "deb http://b/ x main\n"),
            ("sources.list.d/a.sources", "Types: deb\nURIs: http://a/\nSuites: y\nComponents: main\n"),
            ("sources.list.d/c.list.disabled", "deb http://c/ x main\n"),
            ("apt.conf.d/99proxy", "Acquire::http::Proxy \"http://p:1\";"),
            ("apt.conf.d/50unattended.bak", "Acquire::ForceIPv6 true;"),
            ("apt.conf", "Acquire::Check-Date false;"),
            ("auth.conf", "machine a login b password c"),
            ("auth.conf.d/x.conf", "machine d login e password f"),
            ("auth.conf.d/x.conf.save", "machine g login h password i"),
        ] {
            fs::write(etc_apt.path().join(name), text).unwrap();
        }
        let machine = load_apt_sources(etc_apt.path()).unwrap();
        let uris: Vec<_> = machine.sources.iter().map(|source| source.uris[0].as_str()).collect();
        assert_eq!(uris, ["http://m/debian", "http://a/", "http://b/"]);
        let names: Vec<_> = machine.acquire.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["Acquire::http::Proxy", "Acquire::Check-Date"]);
        assert_eq!(machine.accounts, "machine a login b password c\nmachine d login e password f\n");
    }

    #[test]
    fn a_machine_without_apt_has_no_sources() {
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(load_apt_sources(&empty.path().join("etc/apt")).unwrap(), AptMachine::default());
    }
}
