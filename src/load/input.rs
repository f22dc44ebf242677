//! Files and directories that an image definition names.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::LoadError;
use crate::oci::{Digest, Hasher, HashingReader};
use crate::plan::InputFile;

/// Reads the digests of what an image definition names; relative paths count from the project `dir`.
///
/// # Errors
/// [`LoadError::Input`] if something cannot be read, or is something else than a file, directory or symlink.
pub fn load_input_files(
    dir: &Path,
    files: &BTreeMap<String, PathBuf>,
) -> Result<BTreeMap<String, InputFile>, LoadError> {
    files
        .iter()
        .map(|(name, path)| {
            let path = dir.join(path);
            let named = |source| LoadError::Input { name: name.clone(), source: Box::new(source) };
            Ok((name.clone(), input_file(path).map_err(named)?))
        })
        .collect()
}

/// Reads the digest of one input.
pub(super) fn input_file(path: PathBuf) -> Result<InputFile, LoadError> {
    let digest = digest_of(&path)?;
    Ok(InputFile { is_executable: is_executable(&path), path, digest, content: None })
}

/// Returns true if this is a file with an execute bit.
pub(super) fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Copies an input, with modes 0644 and 0755 whatever the umask; as it was when the plan was made, if that was kept.
///
/// # Errors
/// [`LoadError::Changed`] if it is no longer what it was when the plan was made.
pub(super) fn copy_input(file: &InputFile, target: &Path) -> Result<(), LoadError> {
    if let Some(content) = &file.content {
        fs::write(target, content).map_err(LoadError::io("write", target))?;
        return set_mode(target, mode_of(file.is_executable));
    }
    copy(&file.path, target)?;
    let found = digest_of(target)?;
    match found == file.digest {
        true => Ok(()),
        false => Err(LoadError::Changed { path: file.path.clone(), expected: file.digest, found }),
    }
}

/// Returns the [digest](InputFile::digest) of a file, or that of a directory's names, kinds and contents in byte order of the names.
pub(super) fn digest_of(path: &Path) -> Result<Digest, LoadError> {
    let found = fs::metadata(path).map_err(LoadError::io("read", path))?;
    if !found.is_dir() {
        // A FIFO would be waited for, and a device such as `/dev/zero` has no end.
        if !found.is_file() {
            return Err(LoadError::Special { path: path.to_owned() });
        }
        let mut reader = HashingReader::new(File::open(path).map_err(LoadError::io("read", path))?);
        io::copy(&mut reader, &mut io::sink()).map_err(LoadError::io("read", path))?;
        return Ok(InputFile::digest(reader.finish().0, is_executable(path)));
    }
    let mut hasher = Hasher::default();
    for entry in sorted_entries(path)? {
        let kind = entry.symlink_metadata().map_err(LoadError::io("read", &entry))?.file_type();
        let content = if kind.is_symlink() {
            let target = fs::read_link(&entry).map_err(LoadError::io("read", &entry))?;
            Digest::of(target.as_os_str().as_encoded_bytes())
        } else if kind.is_dir() || kind.is_file() {
            digest_of(&entry)?
        } else {
            return Err(LoadError::Special { path: entry });
        };
        let name = entry.file_name().unwrap_or_default().as_encoded_bytes();
        let kind = if kind.is_symlink() { b'l' } else { b'd' + u8::from(kind.is_file()) };
        hasher.update(&[kind]);
        hasher.update(Digest::of(name).bytes());
        hasher.update(content.bytes());
    }
    Ok(hasher.finish())
}

fn copy(source: &Path, target: &Path) -> Result<(), LoadError> {
    if !source.is_dir() {
        fs::copy(source, target).map_err(LoadError::io("copy", source))?;
        return set_mode(target, mode_of(is_executable(source)));
    }
    fs::create_dir(target).map_err(LoadError::io("make directory", target))?;
    set_mode(target, 0o755)?;
    for entry in sorted_entries(source)? {
        let copied = target.join(entry.file_name().unwrap_or_default());
        if entry.is_symlink() {
            let link = fs::read_link(&entry).map_err(LoadError::io("read", &entry))?;
            symlink(link, &copied).map_err(LoadError::io("make symlink", &copied))?;
        } else {
            copy(&entry, &copied)?;
        }
    }
    Ok(())
}

fn sorted_entries(directory: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let entries = fs::read_dir(directory).map_err(LoadError::io("read", directory))?;
    let mut paths = entries
        .map(|entry| Ok(entry.map_err(LoadError::io("read", directory))?.path()))
        .collect::<Result<Vec<_>, LoadError>>()?;
    paths.sort();
    Ok(paths)
}

const fn mode_of(is_executable: bool) -> u32 {
    if is_executable { 0o755 } else { 0o644 }
}

fn set_mode(path: &Path, bits: u32) -> Result<(), LoadError> {
    fs::set_permissions(path, Permissions::from_mode(bits)).map_err(LoadError::io("set the mode of", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(dir: &Path) -> InputFile {
        let files = [("repository".to_owned(), PathBuf::from("repository"))].into();
        load_input_files(dir, &files).unwrap().remove("repository").unwrap()
    }

    #[test]
    fn a_directory_has_the_digest_of_all_that_is_in_it_and_is_copied_whole() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("repository");
        fs::create_dir_all(root.join("pool/a")).unwrap();
        fs::write(root.join("pool/a/x.deb"), "x").unwrap();
        symlink("pool", root.join("link")).unwrap();
        let input = load(dir.path());
        copy_input(&input, &dir.path().join("copy")).unwrap();
        assert_eq!(fs::read(dir.path().join("copy/link/a/x.deb")).unwrap(), b"x");

        for change in [("pool/a/x.deb", "y"), ("pool/a/z.deb", "x"), ("pool/empty", "")] {
            fs::write(root.join(change.0), change.1).unwrap();
            assert_ne!(load(dir.path()).digest, input.digest, "{change:?}");
        }
        fs::write(root.join("pool/a/x.deb"), "x").unwrap();
        let before = load(dir.path());
        fs::set_permissions(root.join("pool/a/x.deb"), Permissions::from_mode(0o700)).unwrap();
        let executable = load(dir.path());
        assert_ne!(executable.digest, before.digest, "executable");
        copy_input(&executable, &dir.path().join("program")).unwrap();
        let mode = fs::metadata(dir.path().join("program/pool/a/x.deb")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
        let changed = copy_input(&input, &dir.path().join("other")).unwrap_err();
        assert!(matches!(changed, LoadError::Changed { .. }), "{changed}");
    }

    #[test]
    fn a_device_is_refused_as_an_input() {
        let files = [("zero".to_owned(), PathBuf::from("/dev/zero"))].into();
        let error = load_input_files(Path::new("."), &files).unwrap_err();
        let LoadError::Input { name, source } = &error else { panic!("{error}") };
        assert_eq!(name, "zero");
        assert!(
            matches!(&**source, LoadError::Special { path } if path == Path::new("/dev/zero")),
            "{source}"
        );
    }
}
