//! The machine's own apt configuration.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::LoadError;
use crate::distro::{AptMachine, parse_source_lines, parse_source_stanzas, parse_transport};

/// Reads how this machine reaches package repositories, from its apt configuration in the directory `etc_apt`
/// (`/etc/apt`). A machine without apt has none.
pub fn load_apt_sources(etc_apt: &Path) -> Result<AptMachine, LoadError> {
    let mut machine = AptMachine::default();
    for file in configuration_files(etc_apt, "sources.list", "sources.list.d")? {
        let Some(text) = read_if_there(&file)? else { continue };
        machine.sources.extend(match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => parse_source_lines(&text),
            Some("sources") => parse_source_stanzas(&text),
            _ => Vec::new(),
        });
    }
    for file in configuration_files(etc_apt, "apt.conf", "apt.conf.d")? {
        machine
            .transport
            .extend(read_if_there(&file)?.map(|text| parse_transport(&text)).unwrap_or_default());
    }
    Ok(machine)
}

/// Returns the single file and those of the directory, in byte order of their names.
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
    match fs::read(file) {
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
        for directory in ["sources.list.d/nested.list", "apt.conf.d"] {
            fs::create_dir_all(etc_apt.path().join(directory)).unwrap();
        }
        for (name, text) in [
            ("sources.list", "deb http://m/debian bookworm main\n"),
            ("sources.list.d/b.list", "deb http://b/ x main\n"),
            ("sources.list.d/a.sources", "Types: deb\nURIs: http://a/\nSuites: y\nComponents: main\n"),
            ("sources.list.d/c.list.disabled", "deb http://c/ x main\n"),
            ("apt.conf.d/99proxy", "Acquire::http::Proxy \"http://p:1\";"),
            ("apt.conf", "Acquire::Check-Date false;"),
        ] {
            fs::write(etc_apt.path().join(name), text).unwrap();
        }
        let machine = load_apt_sources(etc_apt.path()).unwrap();
        let uris: Vec<_> = machine.sources.iter().map(|source| source.uris[0].as_str()).collect();
        assert_eq!(uris, ["http://m/debian", "http://a/", "http://b/"]);
        let names: Vec<_> = machine.transport.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["Acquire::Check-Date", "Acquire::http::Proxy"]);
    }

    #[test]
    fn a_machine_without_apt_has_no_sources() {
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(load_apt_sources(&empty.path().join("etc/apt")).unwrap(), AptMachine::default());
    }
}
