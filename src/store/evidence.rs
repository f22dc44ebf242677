//! Stores the evidence of host reads beside the records of steps.
//!
//! Evidence may list thousands of files. A look-up needs the evidence of one record, but explaining
//! a miss reads all records. Evidence is therefore in a separate file, and the two records of a
//! step have its digest.

use std::collections::BTreeSet;

use super::Records;
use super::census::list_files;
use super::file::{read_if_there, remove_if_there, write_whole};
use super::stored_record::StoredRecord;
use crate::oci::{Digest, canonical_json};
use crate::plan::{Evidence, Record};
use crate::port::StoreError;

impl Records<'_> {
    /// Returns the record with its evidence; `None` if the evidence is missing or damaged.
    pub(super) fn with_evidence(&self, stored: StoredRecord) -> Result<Option<Record>, StoreError> {
        let StoredRecord { record, evidence } = stored;
        let Some(digest) = evidence else { return Ok(Some(record)) };
        let evidence = self.read_evidence(&digest)?;
        Ok(evidence.map(|evidence| Record { evidence: Some(evidence), ..record }))
    }

    /// Writes the evidence of a record. Returns the record with the digest of the evidence.
    pub(super) fn put_evidence(&self, record: &Record) -> Result<StoredRecord, StoreError> {
        let mut record = record.clone();
        let Some(evidence) = record.evidence.take() else {
            return Ok(StoredRecord { record, evidence: None });
        };
        let bytes = canonical_json(&evidence);
        let digest = Digest::of(&bytes);
        // Before the records that name it, so that a crash leaves no record without evidence. An
        // existing file may be damaged, so it is written again.
        write_whole(&self.store.layout().evidence(&digest), &self.store.temporary()?, &bytes)?;
        Ok(StoredRecord { record, evidence: Some(digest) })
    }

    fn read_evidence(&self, digest: &Digest) -> Result<Option<Evidence>, StoreError> {
        // A wrong list of host reads could turn a miss into a hit. Damaged evidence therefore
        // counts as missing.
        let bytes = read_if_there(&self.store.layout().evidence(digest))?;
        let bytes = bytes.filter(|bytes| Digest::of(bytes) == *digest);
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// Removes evidence that no record names. The caller holds the exclusive lock: without it,
    /// another process could have written evidence and not yet its records.
    pub(super) fn collect_evidence(&self) -> Result<(), StoreError> {
        let mut named = BTreeSet::new();
        let layout = self.store.layout();
        for path in self.paths()? {
            let evidence = self.read(&path)?.and_then(|stored| stored.evidence);
            named.extend(evidence.map(|digest| layout.evidence(&digest)));
        }
        let all = list_files(&layout.all_evidence())?;
        all.iter().filter(|path| !named.contains(*path)).try_for_each(|path| remove_if_there(path))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::plan::{Aspect, HostRead, KeyFields};
    use crate::store::{GcPolicy, Store};

    /// Returns a store with the record of a step that read this file of the build host.
    fn store(path: &str) -> (tempfile::TempDir, Store, Record) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let read = HostRead {
            path: path.to_owned(),
            aspect: Aspect::Content,
            digest: None,
            by: "extra-data.d/50-a".to_owned(),
            stamp: None,
        };
        let fields = KeyFields::new([("name".to_owned(), path.to_owned())]);
        let record = Record {
            step: "a".parse().unwrap(),
            image: "i".to_owned(),
            input_key: fields.input_key(None),
            content_key: fields.content_key(None),
            parent: None,
            fields,
            diff_ids: Vec::new(),
            evidence: Some(Evidence { reads: vec![read], ..Evidence::default() }),
        };
        store.records().put(&record).unwrap();
        (directory, store, record)
    }

    fn listed(store: &Store) -> Vec<Record> {
        store.records().list().unwrap().into_iter().map(|listed| listed.record).collect()
    }

    #[test]
    fn look_ups_return_evidence_and_lists_do_not() {
        let (_directory, store, record) = store("/srv/a");
        assert_eq!(store.records().by_input(record.input_key).unwrap().as_ref(), Some(&record));
        assert_eq!(store.records().by_content(record.content_key).unwrap().as_ref(), Some(&record));
        assert_eq!(listed(&store), [Record { evidence: None, ..record }]);
        assert_eq!(list_files(&store.layout().all_evidence()).unwrap().len(), 1);
    }

    #[test]
    fn a_record_with_damaged_evidence_is_a_miss_until_it_is_saved_again() {
        let (_directory, store, record) = store("/srv/a");
        let path = list_files(&store.layout().all_evidence()).unwrap().remove(0);
        let damages: [&[u8]; 2] = [b"{\"reads\":[]}", b"{"];
        for damaged in damages {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(store.records().by_input(record.input_key).unwrap(), None);
            store.records().put(&record).unwrap();
            assert_eq!(store.records().by_input(record.input_key).unwrap().as_ref(), Some(&record));
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(store.check().unwrap().dropped_records.len(), 2);
        assert_eq!(listed(&store), []);
    }

    #[test]
    fn evidence_is_removed_with_its_records() {
        let (_directory, store, record) = store("/srv/a");
        store.records().collect_evidence().unwrap();
        assert!(store.records().by_input(record.input_key).unwrap().is_some());
        for path in [
            store.layout().input_record(&record.input_key),
            store.layout().content_record(&record.content_key),
        ] {
            std::fs::remove_file(path).unwrap();
        }
        let policy = GcPolicy { unused_for: Some(Duration::from_secs(3600)), max_bytes: None };
        store.gc(&policy).unwrap();
        assert_eq!(list_files(&store.layout().all_evidence()).unwrap().len(), 0);
    }
}
