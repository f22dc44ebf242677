//! Files of signing keys.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::rand::{GetRandomFlags, getrandom};

use crate::directory::{Directory, parent, read_text};
use crate::port::IoError;
use crate::trust::{KeyError, SigningKey};

/// A key file that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error(transparent)]
    Read(IoError),
    #[error(transparent)]
    Make(IoError),
    #[error("`{}` already exists: plywood never overwrites a signing key", path.display())]
    Exists { path: PathBuf },
    #[error("`{}` is not a file of a signing key", path.display())]
    Invalid { path: PathBuf, source: KeyError },
}

/// Makes a new key and writes it to the file `path`, which only its owner can read. Creates a
/// missing directory.
///
/// # Errors
/// [`KeyFileError::Exists`], [`KeyFileError::Make`].
pub fn generate_key(path: &Path) -> Result<SigningKey, KeyFileError> {
    let mut seed = [0; 32];
    let failed = |action| move |error| KeyFileError::Make(IoError::new::<io::Error>(action, path)(error));
    let random = getrandom(&mut seed, GetRandomFlags::empty());
    random.map_err(io::Error::from).map_err(failed("make the signing key"))?;
    let key = SigningKey::new(seed);
    let directory =
        Directory::create(parent(path)).map_err(failed("make the directory of the signing key"))?;
    let mut file = match directory.create_file(path.file_name().unwrap_or_default(), 0o600) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(KeyFileError::Exists { path: path.to_owned() });
        }
        result => result.map_err(failed("write the signing key"))?,
    };
    write_key(&mut file, &key).map_err(failed("write the signing key"))?;
    Ok(key)
}

fn write_key(file: &mut File, key: &SigningKey) -> io::Result<()> {
    file.write_all(key.to_text().as_bytes())?;
    file.sync_all()
}

/// Reads the key in the file `path`.
///
/// # Errors
/// [`KeyFileError::Invalid`], [`KeyFileError::Read`].
pub fn load_key(path: &Path) -> Result<SigningKey, KeyFileError> {
    let text =
        read_text(path).map_err(IoError::new("read the signing key", path)).map_err(KeyFileError::Read)?;
    text.parse().map_err(|source| KeyFileError::Invalid { path: path.to_owned(), source })
}

/// Returns the mode of a key file if other users can read it, and therefore sign with the key; else
/// `None`.
pub fn exposed_key(path: &Path) -> Option<u32> {
    const OTHERS: u32 = 0o077;
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & OTHERS != 0).then_some(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_readable_by_its_owner_alone_and_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys/signing.key");
        let key = generate_key(&path).unwrap();
        assert_eq!(load_key(&path).unwrap().public(), key.public());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(exposed_key(&path), None);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(exposed_key(&path), Some(0o640));
        assert!(matches!(generate_key(&path), Err(KeyFileError::Exists { .. })));
        assert_eq!(load_key(&path).unwrap().public(), key.public());
        let other = generate_key(&directory.path().join("other")).unwrap();
        assert_ne!(other.public(), key.public());
    }

    #[test]
    fn a_file_without_a_key_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let error = load_key(&path).unwrap_err();
        assert!(matches!(error, KeyFileError::Read(_)));
        assert_eq!(error.to_string(), format!("cannot read the signing key `{}`", path.display()));
        std::fs::write(&path, "ssh-ed25519 AAAA").unwrap();
        let error = load_key(&path).unwrap_err();
        assert!(matches!(error, KeyFileError::Invalid { .. }), "{error}");
    }
}
