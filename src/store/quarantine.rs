//! Reads and writes the JSON documents of the store. Moves damaged ones to quarantine.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::Ordering;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Store;
use super::file::{failed, is_taken, read_if_there, remove_path, write_whole};
use crate::oci::canonical_json;
use crate::port::StoreError;

impl Store {
    pub(super) fn write_document(&self, path: &Path, document: &impl Serialize) -> Result<(), StoreError> {
        write_whole(path, &self.temporary()?, &canonical_json(document))
    }

    /// Reads a JSON document. Returns `None` if it is missing or unreadable. Moves an unreadable
    /// one to quarantine.
    pub(super) fn read_document<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>, StoreError> {
        let Some(bytes) = read_if_there(path)? else {
            // A directory or a dangling link in the place of a document counts as a damaged
            // document.
            if is_taken(path) {
                self.set_document_aside(path)?;
            }
            return Ok(None);
        };
        match serde_json::from_slice(&bytes) {
            Ok(document) => Ok(Some(document)),
            Err(_) => self.set_document_aside(path).map(|()| None),
        }
    }

    fn set_document_aside(&self, path: &Path) -> Result<(), StoreError> {
        // The next process that may write moves it.
        if self.is_read_only() {
            return Ok(());
        }
        self.inner.set_aside.fetch_add(1, Ordering::Relaxed);
        self.quarantine(path)
    }

    /// Moves a damaged file to quarantine, where it stays for inspection. Replaces an earlier one
    /// of its name.
    pub(super) fn quarantine(&self, path: &Path) -> Result<(), StoreError> {
        let kept = self.layout().quarantine().join(path.file_name().unwrap_or_default());
        let rename = || std::fs::rename(path, &kept);
        let moved = match rename() {
            // A rename cannot replace a file with a directory, or a directory that has entries.
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
            // Another process has moved it.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result.map_err(failed("move to quarantine", path)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::stored_layer::StoredLayer;
    use super::*;

    /// Tests all combinations of an existing entry in the quarantine and the entry that is moved
    /// there.
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

    /// This happens after an upgrade that changes the form of records.
    #[test]
    fn documents_of_another_form_are_counted_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let path = store.layout().input_records().join("0.json");
        fs::write(&path, r#"{"key":"of an earlier plywood"}"#).unwrap();
        assert_eq!(Store::open_to_read(store.path()).unwrap().records().list().unwrap(), []);
        assert!(path.exists(), "a read-only store is not changed");
        assert_eq!((store.records().list().unwrap(), store.set_aside().0), (Vec::new(), 1));
        assert!(store.layout().quarantine().join("0.json").exists());
        assert_eq!((store.records().list().unwrap(), store.set_aside().0), (Vec::new(), 1), "only once");
    }
}
