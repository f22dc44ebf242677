//! Records of built steps. Each is stored twice: by input key and by content key.

use std::path::{Path, PathBuf};

use super::Store;
use super::census::{KnownLayer, list_files, used};
use super::file::mark_used;
use super::stored_record::StoredRecord;
use crate::oci::DiffId;
use crate::plan::{ContentKey, InputKey, Record};
use crate::port::StoreError;

/// A record of a built step with its sizes and last use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRecord {
    pub record: Record,
    /// The time when it was last made or found, in seconds since 1970.
    pub used: u64,
    /// Bytes of its layers' blobs, in all encodings.
    pub blob_bytes: u64,
    /// Bytes of its layers where they are unpacked.
    pub unpacked_bytes: u64,
}

/// The records of a store.
#[derive(Debug, Clone, Copy)]
pub struct Records<'a> {
    pub(super) store: &'a Store,
}

impl Records<'_> {
    /// Returns the record with this input key if the store has its layers, and marks it as used.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn by_input(&self, key: InputKey) -> Result<Option<Record>, StoreError> {
        self.find(self.store.layout().input_record(&key), |record| record.input_key == key)
    }

    /// Returns the record with this content key, as [`Records::by_input`] does.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn by_content(&self, key: ContentKey) -> Result<Option<Record>, StoreError> {
        self.find(self.store.layout().content_record(&key), |record| record.content_key == key)
    }

    /// Stores a record under both its keys. Replaces an earlier one.
    ///
    /// # Errors
    /// [`StoreError::MissingLayer`], [`StoreError::Io`].
    pub fn put(&self, record: &Record) -> Result<(), StoreError> {
        // Keeps collections from removing the layers before the record is written. Other builds may
        // hold this lock as well.
        let _lock = self.store.lock_shared()?;
        if let Some(diff_id) = self.missing_layer(record)? {
            return Err(StoreError::MissingLayer { diff_id });
        }
        let stored = self.put_evidence(record)?;
        // The input record is last: if the process is killed in between, the step is still found by
        // content.
        let layout = self.store.layout();
        self.store.write_document(&layout.content_record(&record.content_key), &stored)?;
        self.store.write_document(&layout.input_record(&record.input_key), &stored)
    }

    /// Returns the records by input key, most recently used first.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn list(&self) -> Result<Vec<ListedRecord>, StoreError> {
        let layers = self.store.layers().list()?;
        let files = self.files_by_input()?;
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

    /// Returns the first layer of a record that the store lacks.
    pub(super) fn missing_layer(&self, record: &Record) -> Result<Option<DiffId>, StoreError> {
        for diff_id in &record.diff_ids {
            if self.store.layers().get(diff_id)?.is_none() {
                return Ok(Some(*diff_id));
            }
        }
        Ok(None)
    }

    /// Returns the record at `path` if it is complete, belongs there, and the store has its layers.
    /// Marks it as used.
    fn find(&self, path: PathBuf, is_it: impl Fn(&Record) -> bool) -> Result<Option<Record>, StoreError> {
        // A collection between the look-up of the layers and the mark would remove them.
        let _lock = self.store.lock_shared()?;
        let Some(stored) = self.read(&path)?.filter(|stored| is_it(&stored.record)) else {
            return Ok(None);
        };
        let Some(record) = self.with_evidence(stored)? else { return Ok(None) };
        if self.missing_layer(&record)?.is_some() {
            return Ok(None);
        }
        mark_used(&path);
        Ok(Some(record))
    }

    /// Reads a record without its evidence.
    pub(super) fn read(&self, path: &Path) -> Result<Option<StoredRecord>, StoreError> {
        self.store.read_document(path)
    }

    /// Returns the files of all records.
    pub(super) fn paths(&self) -> Result<Vec<PathBuf>, StoreError> {
        let layout = self.store.layout();
        Ok([list_files(&layout.input_records())?, list_files(&layout.content_records())?].concat())
    }

    /// Returns the readable records by input key, without evidence, and with their files and last
    /// uses.
    pub(super) fn files_by_input(&self) -> Result<Vec<(PathBuf, Record, u64)>, StoreError> {
        self.read_all(list_files(&self.store.layout().input_records())?)
    }

    /// Returns the readable records by both keys, as [`Records::files_by_input`] does.
    pub(super) fn files(&self) -> Result<Vec<(PathBuf, Record, u64)>, StoreError> {
        self.read_all(self.paths()?)
    }

    fn read_all(&self, paths: Vec<PathBuf>) -> Result<Vec<(PathBuf, Record, u64)>, StoreError> {
        let mut records = Vec::new();
        for path in paths {
            if let Some(stored) = self.read(&path)? {
                let used = used(&path);
                records.push((path, stored.record, used));
            }
        }
        Ok(records)
    }
}
