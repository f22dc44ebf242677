//! Files and directories that an image definition names.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::LoadError;
use crate::directory::open_regular;
use crate::oci::Digest;
use crate::plan::{InputFile, InputKind};
use crate::tree::sorted_paths;

/// Computes the digests of the files and directories that an image definition names. Relative paths
/// start at the project `dir`.
///
/// # Errors
/// [`LoadError::Input`] if an entry cannot be read, or is a special file.
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

/// Computes the digest of one input.
pub(super) fn input_file(path: PathBuf) -> Result<InputFile, LoadError> {
    if fs::metadata(&path).map_err(LoadError::io("read", &path))?.is_dir() {
        let digest = digest_of_directory(&path)?;
        return Ok(InputFile { is_executable: false, path, digest, content: None });
    }
    let (file, is_executable) = open_input(&path)?;
    let digest = Digest::of_reader(file).map_err(LoadError::io("read", &path))?;
    Ok(InputFile { is_executable, digest: InputFile::digest(digest, is_executable), path, content: None })
}

/// Opens a file, and returns whether it has an execute bit.
pub(super) fn open_input(path: &Path) -> Result<(File, bool), LoadError> {
    // Reading a FIFO would wait for a writer, and a device such as `/dev/zero` has no end.
    let file = match open_regular(path) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            return Err(LoadError::Special { path: path.to_owned() });
        }
        opened => opened.map_err(LoadError::io("read", path))?,
    };
    let found = file.metadata().map_err(LoadError::io("read", path))?;
    Ok((file, found.permissions().mode() & 0o111 != 0))
}

/// Returns the [digest of a directory](InputFile::digest_of_directory).
fn digest_of_directory(path: &Path) -> Result<Digest, LoadError> {
    let mut entries = Vec::new();
    for entry in sorted_paths(path).map_err(LoadError::io("read", path))? {
        let kind = entry.symlink_metadata().map_err(LoadError::io("read", &entry))?.file_type();
        let (kind, digest) = if kind.is_symlink() {
            let target = fs::read_link(&entry).map_err(LoadError::io("read", &entry))?;
            (InputKind::Symlink, Digest::of(target.as_os_str().as_encoded_bytes()))
        } else {
            let kind = if kind.is_dir() { InputKind::Directory } else { InputKind::File };
            (kind, input_file(entry.clone())?.digest)
        };
        entries.push((entry.file_name().unwrap_or_default().to_owned(), kind, digest));
    }
    Ok(InputFile::digest_of_directory(&entries))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn load(dir: &Path) -> InputFile {
        let files = [("repository".to_owned(), PathBuf::from("repository"))].into();
        load_input_files(dir, &files).unwrap().remove("repository").unwrap()
    }

    #[test]
    fn the_digest_of_a_directory_covers_everything_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("repository");
        fs::create_dir_all(root.join("pool/a")).unwrap();
        fs::write(root.join("pool/a/x.deb"), "x").unwrap();
        symlink("pool", root.join("link")).unwrap();
        let input = load(dir.path());
        for change in [("pool/a/x.deb", "y"), ("pool/a/z.deb", "x"), ("pool/empty", "")] {
            fs::write(root.join(change.0), change.1).unwrap();
            assert_ne!(load(dir.path()).digest, input.digest, "{change:?}");
        }
        fs::write(root.join("pool/a/x.deb"), "x").unwrap();
        let before = load(dir.path());
        fs::set_permissions(root.join("pool/a/x.deb"), fs::Permissions::from_mode(0o700)).unwrap();
        assert_ne!(load(dir.path()).digest, before.digest, "executable");
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
