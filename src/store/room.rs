//! How large a layer may be that comes from elsewhere.
//!
//! What an archive decodes to has nothing to do with the size of its blob: a few kilobytes can hold terabytes of zeros. So nobody's
//! word is taken for it. An archive is read no further than there is room for it in the store, and it is unpacked only
//! if there still is.

use std::path::{Path, PathBuf};

use super::Store;
use super::file::failed;
use crate::port::{Layer, StoreError};

/// The part of the free space that stays free: what else uses that disk needs some, too.
const LEFT_FREE: u64 = 8;
/// What an entry takes on a disk beside its content, and what the last part of its content takes at most.
const ENTRY_BYTES: u64 = 4096;

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
        match bytes <= self.bytes {
            true => Ok(()),
            false => {
                Err(StoreError::NoRoom { layer: name.to_owned(), room: self.bytes, path: self.store.clone() })
            }
        }
    }

    /// Fails for a layer that would take more once it is unpacked.
    pub(super) fn admit_unpacked(&self, layer: &Layer) -> Result<(), StoreError> {
        let entries = layer.entries.saturating_mul(ENTRY_BYTES);
        let name = format!("layer {}", layer.diff_id);
        self.admit(Path::new(&name), layer.tar_bytes.saturating_add(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Encoding;
    use crate::oci::{DiffId, Digest};

    #[test]
    fn a_layer_takes_its_content_and_something_for_each_entry() {
        let room = Room { store: "store".into(), bytes: 1_000_000 };
        let layer = |tar_bytes, entries| Layer {
            diff_id: DiffId::new(Digest::of("layer")),
            tar_bytes,
            entries,
            blob: Digest::of("blob"),
            blob_bytes: 1,
            encoding: Encoding::Zstd,
        };
        let cases = [
            ((990_000, 1), true),
            ((1_000_000, 1), false),
            ((1000, 250), false),
            ((u64::MAX, u64::MAX), false),
        ];
        for ((bytes, entries), fits) in cases {
            let result = room.admit_unpacked(&layer(bytes, entries));
            assert_eq!(result.is_ok(), fits, "{bytes} {entries}: {result:?}");
        }
        let error = room.admit(Path::new("a@b"), 2_000_000).unwrap_err().to_string();
        assert_eq!(error, "`a@b` holds more than the 1000000 bytes that there is room for in `store`");
    }
}
