//! Random bytes that key the hashes of secrets. They never leave the store.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::rand::{GetRandomFlags, getrandom};

use super::Store;
use super::file::failed;
use crate::plan::Seal;
use crate::port::StoreError;

impl Store {
    /// Returns the seal of the store; the first call creates it. Only the owner of the store can
    /// read its file. A read-only store of another user gets a random seal instead, so steps that
    /// saw secrets are not found.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Invalid`] if the file does not hold 32 bytes.
    pub fn seal(&self) -> Result<Seal, StoreError> {
        let path = self.path().join("seal");
        match fs::read(&path) {
            Ok(bytes) => <[u8; 32]>::try_from(bytes).map(Seal::new).map_err(|bytes| StoreError::Invalid {
                path,
                reason: format!("a seal has 32 bytes, not {}", bytes.len()),
            }),
            Err(error) if self.is_read_only() && is_withheld(&error) => random(&path).map(Seal::new),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make_seal(),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    fn make_seal(&self) -> Result<Seal, StoreError> {
        let path = self.path().join("seal");
        let bytes = random(&path)?;
        let temporary = path.with_added_extension(std::process::id().to_string());
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(failed("write", &temporary))?;
        file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed("write", &temporary))?;
        // Creating a link does not replace an existing file. If two processes make a seal at once,
        // one stays, and both return that one.
        let linked = fs::hard_link(&temporary, &path);
        fs::remove_file(&temporary).map_err(failed("remove", &temporary))?;
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed("write", &path)(error)),
            _ => self.seal(),
        }
    }
}

fn is_withheld(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound)
}

fn random(path: &Path) -> Result<[u8; 32], StoreError> {
    let mut bytes = [0; 32];
    getrandom(&mut bytes, GetRandomFlags::empty()).map_err(failed("make", path))?;
    Ok(bytes)
}
