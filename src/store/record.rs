//! Records of built steps, and what is known about layers.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Store;
use super::file::{failed, is_taken, read_if_there, remove_if_there, remove_path, write_whole};
use crate::layer::Encoding;
use crate::oci::{DiffId, Digest, canonical_json};
use crate::plan::Record;
use crate::port::{Layer, StoreError};

/// A layer and the blobs that hold it, one an encoding: `layers/<DiffID>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredLayer {
    pub diff_id: DiffId,
    pub tar_bytes: u64,
    pub entries: u64,
    /// Sorted by encoding.
    pub blobs: Vec<StoredBlob>,
}

/// One blob of a layer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredBlob {
    pub encoding: Encoding,
    pub digest: Digest,
    pub bytes: u64,
}

impl StoredLayer {
    /// Describes the layer by one of its blobs.
    pub(super) fn with(&self, blob: &StoredBlob) -> Layer {
        let StoredBlob { encoding, digest, bytes } = blob.clone();
        let Self { diff_id, tar_bytes, entries, blobs: _ } = *self;
        Layer { diff_id, tar_bytes, entries, blob: digest, blob_bytes: bytes, encoding }
    }
}

impl Store {
    /// Returns a layer by the blob that is decoded fastest, or `None` if the store has none of its blobs.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn layer(&self, diff_id: &DiffId) -> Result<Option<Layer>, StoreError> {
        let Some(stored) = self.stored_layer(diff_id)? else { return Ok(None) };
        let speed = |blob: &&StoredBlob| match blob.encoding {
            Encoding::None => 0,
            Encoding::Zstd => 1,
            Encoding::Gzip => 2,
        };
        let there = stored.blobs.iter().filter(|blob| self.blobs().size(&blob.digest) == Some(blob.bytes));
        Ok(there.min_by_key(speed).map(|blob| stored.with(blob)))
    }

    /// Remembers that a blob holds a layer, beside those known already.
    pub(super) fn add_layer(&self, layer: &Layer) -> Result<(), StoreError> {
        let Layer { diff_id, tar_bytes, entries, blob, blob_bytes, encoding } = *layer;
        let _lock = self.lock_exclusive()?;
        // Read under the lock: another process may add a blob of another encoding at the same time.
        let known = self.stored_layer(&diff_id)?.map_or_else(Vec::new, |stored| stored.blobs);
        let mut blobs: Vec<_> = known.into_iter().filter(|known| known.encoding != encoding).collect();
        blobs.push(StoredBlob { encoding, digest: blob, bytes: blob_bytes });
        blobs.sort();
        self.write_document(
            &self.layout().layer(&diff_id),
            &StoredLayer { diff_id, tar_bytes, entries, blobs },
        )
    }

    /// Takes a layer out of use that could not be unpacked. Its blobs stay until the next collection.
    pub(super) fn forget_layer(&self, diff_id: &DiffId) -> Result<(), StoreError> {
        // The user has stopped the unpacking, and the layer may be right.
        if self.interrupt().check().is_err() {
            return Ok(());
        }
        let _lock = self.lock_exclusive()?;
        remove_if_there(&self.layout().layer(diff_id))
    }

    pub(super) fn stored_layer(&self, diff_id: &DiffId) -> Result<Option<StoredLayer>, StoreError> {
        let path = self.layout().layer(diff_id);
        Ok(self.read_document(&path)?.filter(|layer: &StoredLayer| layer.diff_id == *diff_id))
    }

    /// Returns the record at `path` if it is whole, is the record of that name, and its layers are there; marks it used.
    pub(super) fn find_record(
        &self,
        path: PathBuf,
        is_it: impl Fn(&Record) -> bool,
    ) -> Result<Option<Record>, StoreError> {
        // A collector between the look at the layers and the mark would take them away.
        let _lock = self.lock_shared()?;
        let Some(stored) = self.read_record(&path)?.filter(|stored| is_it(&stored.record)) else {
            return Ok(None);
        };
        let Some(record) = self.with_evidence(stored)? else { return Ok(None) };
        for diff_id in &record.diff_ids {
            if self.layer(diff_id)?.is_none() {
                return Ok(None);
            }
        }
        mark_used(&path);
        Ok(Some(record))
    }

    pub(super) fn write_document(&self, path: &Path, document: &impl Serialize) -> Result<(), StoreError> {
        write_whole(path, &self.temporary()?, &canonical_json(document))
    }

    /// Reads a JSON document. Returns `None` if it is missing or cannot be read. An unreadable one goes to quarantine, and the
    /// caller makes it again.
    pub(super) fn read_document<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>, StoreError> {
        let Some(bytes) = read_if_there(path)? else {
            // A directory or a dangling link in place of a document is as damaged as unreadable
            // text.
            if is_taken(path) && !self.is_read_only() {
                self.quarantine(path)?;
            }
            return Ok(None);
        };
        match serde_json::from_slice(&bytes) {
            Ok(document) => Ok(Some(document)),
            Err(_) => {
                // A reader leaves it to the next process that may write.
                if !self.is_read_only() {
                    self.quarantine(path)?;
                }
                Ok(None)
            }
        }
    }

    /// Moves a damaged file out of use, in place of an earlier one of its name. It stays there for inspection.
    pub(super) fn quarantine(&self, path: &Path) -> Result<(), StoreError> {
        let kept = self.layout().quarantine().join(path.file_name().unwrap_or_default());
        let rename = || std::fs::rename(path, &kept);
        let moved = match rename() {
            // A rename does not replace a file by a directory, nor a directory with content.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::IsADirectory
                        | ErrorKind::NotADirectory
                        | ErrorKind::DirectoryNotEmpty
                        | ErrorKind::AlreadyExists
                ) =>
            {
                remove_path(&kept)?;
                rename()
            }
            result => result,
        };
        match moved {
            // Another process was faster.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result.map_err(failed("move to quarantine", path)),
        }
    }
}

/// Dates the last use of a file, for the garbage collector. Failing to do so only makes it look older.
pub(super) fn mark_used(path: &Path) {
    use rustix::fs::{CWD, Timespec, Timestamps, UTIME_NOW};
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let times = Timestamps { last_access: now, last_modification: now };
    let _ = rustix::fs::utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// What is in the way in the quarantine, and what is moved there.
    #[test]
    fn quarantine_takes_files_and_directories_of_the_same_name() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let path = store.layout().layers().join("x.json");
        let kept = store.layout().quarantine().join("x.json");
        let file = || fs::write(&path, "damaged").unwrap();
        let tree = || fs::create_dir_all(path.join("inner")).unwrap();
        let turns: [(&dyn Fn(), bool); 5] =
            [(&file, false), (&tree, true), (&tree, true), (&file, false), (&file, false)];
        for (make, is_tree) in turns {
            make();
            assert_eq!(store.read_document::<StoredLayer>(&path).unwrap(), None);
            assert_eq!((path.exists(), kept.is_dir()), (false, is_tree));
        }
    }
}
