//! Limits the size of layers that come from elsewhere.
//!
//! The size of a blob says nothing about the archive in it: a few kilobytes can decode to terabytes
//! of zeros, and a size that a registry claims can be wrong. An archive is therefore read only as
//! far as the store has free space for it, and unpacking it takes no more.

use std::path::{Path, PathBuf};

use super::Store;
use super::file::failed;
use crate::port::StoreError;

/// The part of the free space that stays free: what else uses that disk needs some, too.
const LEFT_FREE: u64 = 8;

/// The room there is for one layer.
pub(super) struct Room {
    store: PathBuf,
    pub(super) bytes: u64,
}

impl Store {
    /// Returns how large a layer may be now.
    pub(super) fn room(&self) -> Result<Room, StoreError> {
        let status = rustix::fs::statvfs(self.path()).map_err(failed("measure", self.path()))?;
        let free = status.f_bavail.saturating_mul(status.f_frsize);
        Ok(Room { store: self.path().to_owned(), bytes: free - free / LEFT_FREE })
    }
}

impl Room {
    /// Fails for what takes more; `name` is for messages.
    pub(super) fn admit(&self, name: &Path, bytes: u64) -> Result<(), StoreError> {
        if bytes <= self.bytes { Ok(()) } else { Err(self.exceeded(name)) }
    }

    /// Returns the error for a layer that takes more.
    pub(super) fn exceeded(&self, name: &Path) -> StoreError {
        StoreError::NoRoom { layer: name.to_owned(), room: self.bytes, path: self.store.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_layers_are_refused() {
        let room = Room { store: "store".into(), bytes: 1_000_000 };
        room.admit(Path::new("a@b"), 1_000_000).unwrap();
        let error = room.admit(Path::new("a@b"), 1_000_001).unwrap_err().to_string();
        assert_eq!(error, "`a@b` holds more than the 1000000 bytes of free space in `store`");
    }
}
