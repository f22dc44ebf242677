//! Reads and writes the JSON documents of the store. Damaged ones go to quarantine.

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

    /// Reads a JSON document. Returns `None` if it is missing or cannot be read. An unreadable one
    /// goes to quarantine, and the caller makes it again.
    pub(super) fn read_document<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>, StoreError> {
        let Some(bytes) = read_if_there(path)? else {
            // A directory or a dangling link in place of a document is as damaged as unreadable
            // text.
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
        // A reader leaves it to the next process that may write.
        if self.is_read_only() {
            return Ok(());
        }
        self.inner.set_aside.fetch_add(1, Ordering::Relaxed);
        self.quarantine(path)
    }

    /// Moves a damaged file out of use, in place of an earlier one of its name. It stays there for
    /// inspection.
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::stored_layer::StoredLayer;
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

    /// As after an upgrade, if the form of records has changed since.
    #[test]
    fn documents_of_another_form_are_counted_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let path = store.layout().input_records().join("0.json");
        fs::write(&path, r#"{"key":"of an earlier plywood"}"#).unwrap();
        assert_eq!(Store::open_to_read(store.path()).unwrap().records().list().unwrap(), []);
        assert!(path.exists(), "a reader changes nothing");
        assert_eq!((store.records().list().unwrap(), store.set_aside().0), (Vec::new(), 1));
        assert!(store.layout().quarantine().join("0.json").exists());
        assert_eq!((store.records().list().unwrap(), store.set_aside().0), (Vec::new(), 1), "only once");
    }
}
