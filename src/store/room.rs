//! Limits the size of imported layers.
//!
//! A blob of a few kilobytes can decode to terabytes of zeros, and the size that a registry claims
//! can be wrong. Archives are therefore read and unpacked only within the free space of the store.

use std::path::{Path, PathBuf};

use super::Store;
use super::file::failed;
use crate::port::StoreError;

/// One part in this many of the free space stays free, for other users of that disk.
const LEFT_FREE: u64 = 8;

/// The free space for one layer.
pub(super) struct Room {
    store: PathBuf,
    pub(super) bytes: u64,
}

impl Store {
    /// Returns the size that a layer may have now.
    pub(super) fn room(&self) -> Result<Room, StoreError> {
        let status = rustix::fs::statvfs(self.path()).map_err(failed("measure", self.path()))?;
        let free = status.f_bavail.saturating_mul(status.f_frsize);
        Ok(Room { store: self.path().to_owned(), bytes: free - free / LEFT_FREE })
    }
}

impl Room {
    /// Fails if `bytes` exceed the limit. `name` is for messages.
    pub(super) fn admit(&self, name: &Path, bytes: u64) -> Result<(), StoreError> {
        if bytes <= self.bytes { Ok(()) } else { Err(self.exceeded(name)) }
    }

    /// Returns the error for a layer that exceeds the limit.
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
