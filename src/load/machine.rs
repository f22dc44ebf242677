//! Files of the machine that hooks on the host read because a variable names them: keys, package sources, configurations.

use std::collections::BTreeMap;
use std::path::Path;

use super::input::digest_of;
use crate::plan::{InputFile, MachineFile};

/// Where no file of the caller's is: what is there belongs to the machine, as the programs that hooks call do.
const OF_THE_SYSTEM: [&str; 8] = ["/bin", "/dev", "/lib", "/lib64", "/proc", "/sbin", "/sys", "/usr"];

/// Variables that name places to write to.
const WRITTEN_TO: [&str; 3] = ["DIB_IMAGE_CACHE", "DIB_LOCKFILES", "DIB_MANIFEST_SAVE_DIR"];

/// What hooks look for in the caller's home: keys that anybody may see.
const PUBLIC_KEYS: [&str; 4] = ["authorized_keys", "id_dsa.pub", "id_ed25519.pub", "id_rsa.pub"];

/// Returns the files and directories that `variables` name, and the public ssh keys in the caller's `home`, as far as they
/// are there and can be read.
pub fn load_machine_files(variables: &BTreeMap<String, String>, home: Option<&Path>) -> Vec<MachineFile> {
    let mut files = Vec::new();
    for (name, value) in variables.iter().filter(|(name, _)| !WRITTEN_TO.contains(&name.as_str())) {
        let paths = words(value).filter(|path| can_be_shown(name, Path::new(path)));
        files.extend(paths.filter_map(|path| machine_file(path, name, Path::new(path))));
    }
    for key in PUBLIC_KEYS {
        let path = home.map(|home| home.join(".ssh").join(key)).filter(|path| path.is_file());
        files.extend(path.and_then(|path| machine_file(&format!("/root/.ssh/{key}"), ".ssh", &path)));
    }
    files
}

fn machine_file(place: &str, mention: &str, path: &Path) -> Option<MachineFile> {
    let digest = digest_of(path).ok()?;
    let file = InputFile { path: path.to_owned(), digest };
    Some(MachineFile { place: place.to_owned(), mention: mention.to_owned(), file })
}

/// Returns the absolute paths in a value: alone, in a list, or as a `file://` URL.
fn words(value: &str) -> impl Iterator<Item = &str> {
    let words = value.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';'));
    words.map(|word| word.strip_prefix("file://").unwrap_or(word)).filter(|word| word.starts_with('/'))
}

fn can_be_shown(variable: &str, path: &Path) -> bool {
    let is_of_system = OF_THE_SYSTEM.iter().any(|directory| path.starts_with(directory));
    // A mount point or a home is no configuration.
    let is_small_directory =
        || variable.starts_with("DIB_") && path.is_dir() && path.components().count() > 2;
    !is_of_system && (path.is_file() || is_small_directory())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_variables_name_is_found_and_nothing_else() {
        let machine = tempfile::tempdir().unwrap();
        let at = |name: &str| machine.path().join(name).to_string_lossy().into_owned();
        for file in ["apt/sources", "keys/a", "home/.ssh/id_rsa.pub", "home/.ssh/id_rsa"] {
            fs::create_dir_all(machine.path().join(file).parent().unwrap()).unwrap();
            fs::write(machine.path().join(file), "").unwrap();
        }
        let variables = [
            ("DIB_APT_SOURCES", at("apt/sources")),
            ("DIB_CONFIG", format!("file://{}", at("apt/sources"))),
            ("DIB_ADD_APT_KEYS", format!("{}, {}", at("keys"), at("absent"))),
            ("OTHER_DIRECTORY", at("keys")),
            ("DIB_SHELL", "/bin/sh".to_owned()),
            ("DIB_MOUNTPOINTS", "/".to_owned()),
            ("DIB_IMAGE_CACHE", at("keys")),
            ("DIB_RELEASE", "bookworm".to_owned()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).into();
        let found = load_machine_files(&variables, Some(&machine.path().join("home")));
        let found: Vec<_> = found.iter().map(|file| (file.mention.as_str(), file.place.clone())).collect();
        let expected = [
            ("DIB_ADD_APT_KEYS", at("keys")),
            ("DIB_APT_SOURCES", at("apt/sources")),
            ("DIB_CONFIG", at("apt/sources")),
            (".ssh", "/root/.ssh/id_rsa.pub".to_owned()),
        ];
        assert_eq!(found, expected);
    }
}
