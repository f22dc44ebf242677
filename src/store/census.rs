//! What a store holds, and when it was used last.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::Store;
use super::file::failed;
use super::record::StoredLayer;
use crate::oci::DiffId;
use crate::plan::Record;
use crate::port::StoreError;

/// One record of a built step, for people and for the garbage collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRecord {
    /// What was built.
    pub record: Record,
    /// When it was made or found last, in seconds since 1970.
    pub used: u64,
    /// Bytes of its layers' blobs, in all encodings.
    pub blob_bytes: u64,
    /// Bytes of its layers where they are unpacked.
    pub unpacked_bytes: u64,
}

/// A layer and what it takes.
pub(super) struct KnownLayer {
    pub stored: StoredLayer,
    pub used: u64,
    pub is_unpacked: bool,
}

impl KnownLayer {
    pub(super) fn blob_bytes(&self) -> u64 {
        self.stored.blobs.iter().map(|blob| blob.bytes).sum()
    }

    pub(super) fn unpacked_bytes(&self) -> u64 {
        if self.is_unpacked { self.stored.tar_bytes } else { 0 }
    }
}

impl Store {
    /// Returns the records by input key, the one used last first.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn list(&self) -> Result<Vec<ListedRecord>, StoreError> {
        let layers = self.known_layers()?;
        let files = self.record_files(&self.layout().input_records())?;
        let mut listed: Vec<_> = files
            .into_iter()
            .map(|(_, record, used)| {
                let own = || record.diff_ids.iter().filter_map(|diff_id| layers.get(diff_id));
                let (blob_bytes, unpacked_bytes) =
                    (own().map(KnownLayer::blob_bytes).sum(), own().map(KnownLayer::unpacked_bytes).sum());
                ListedRecord { record, used, blob_bytes, unpacked_bytes }
            })
            .collect();
        listed.sort_by_key(|listed| (std::cmp::Reverse(listed.used), listed.record.input_key));
        Ok(listed)
    }

    pub(super) fn known_layers(&self) -> Result<BTreeMap<DiffId, KnownLayer>, StoreError> {
        let mut layers = BTreeMap::new();
        for path in list_files(&self.layout().layers())? {
            if let Some(stored) = self.read_document::<StoredLayer>(&path)? {
                let is_unpacked = self.layout().snapshot(&stored.diff_id).is_dir();
                layers.insert(stored.diff_id, KnownLayer { stored, used: used(&path), is_unpacked });
            }
        }
        Ok(layers)
    }

    /// Returns the readable records of a directory with their files and last uses.
    pub(super) fn record_files(&self, directory: &Path) -> Result<Vec<(PathBuf, Record, u64)>, StoreError> {
        let mut records = Vec::new();
        for path in list_files(directory)? {
            if let Some(record) = self.read_document(&path)? {
                let used = used(&path);
                records.push((path, record, used));
            }
        }
        Ok(records)
    }
}

/// Returns the entries of a directory, sorted.
pub(super) fn list_files(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = std::fs::read_dir(directory).map_err(failed("read directory", directory))?;
    let paths =
        entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed("read directory", directory)));
    let mut paths = paths.collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    Ok(paths)
}

/// Returns when a file was written or marked as used, in seconds since 1970.
pub(super) fn used(path: &Path) -> u64 {
    let modified = std::fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    seconds(modified.unwrap_or(UNIX_EPOCH))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
