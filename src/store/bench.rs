//! A store with steps of chosen sizes and ages, for tests.

use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use super::scratch::seconds_now;
use super::{GcPolicy, GcReport, Store};
use crate::layer::{Encoder, Entry, Kind, Meta};
use crate::plan::{KeyFields, Record};

pub(super) struct Bench {
    pub directory: tempfile::TempDir,
    pub store: Store,
}

impl Bench {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        Self { directory, store }
    }

    /// Stores a layer of about `kib` KiB and a record of it, both last used `days` ago.
    pub(super) fn step(&self, name: &str, kib: usize, days: u64) -> Record {
        self.step_above(None, name, kib, days)
    }

    pub(super) fn step_above(&self, parent: Option<&Record>, name: &str, kib: usize, days: u64) -> Record {
        let content = name.repeat(kib * 1024 / name.len());
        let entry = Entry { path: name.into(), kind: Kind::File(content.len() as u64), meta: Meta::NONE };
        let mut encoder = Encoder::new(Vec::new());
        encoder.append_file(&entry, &mut content.as_bytes()).unwrap();
        let file = self.directory.path().join("rootfs.tar");
        std::fs::write(&file, encoder.finish().unwrap().0).unwrap();
        let diff_ids = self.store.bases().import_rootfs_tar(&file).unwrap().diff_ids;
        let fields = KeyFields::new([("name".to_owned(), name.to_owned())]);
        let parent = parent.map(|parent| parent.input_key);
        let (input_key, content_key) = (fields.input_key(parent), fields.content_key(None));
        let (step, image) = (name.parse().unwrap(), "i".to_owned());
        let record = Record { step, image, input_key, content_key, parent, fields, diff_ids, evidence: None };
        self.store.records().put(&record).unwrap();
        let layer = self.store.layers().get(&record.diff_ids[0]).unwrap().unwrap();
        let layout = self.store.layout();
        for path in [
            layout.input_record(&input_key),
            layout.content_record(&content_key),
            layout.layer(&record.diff_ids[0]),
            layout.blob(&layer.blob),
        ] {
            date(path, days);
        }
        record
    }

    pub(super) fn gc(&self, unused_days: Option<u64>, max_kib: Option<u64>) -> GcReport {
        let unused_for = unused_days.map(|days| Duration::from_secs(days * 86400));
        self.store.gc(&GcPolicy { unused_for, max_bytes: max_kib.map(|kib| kib * 1024) }).unwrap()
    }

    /// Returns the sorted names of the recorded steps, without marking them as used.
    pub(super) fn left_unused(&self) -> Vec<String> {
        let mut left: Vec<_> = self
            .store
            .records()
            .list()
            .unwrap()
            .into_iter()
            .map(|listed| listed.record.step.to_string())
            .collect();
        left.sort();
        left
    }

    /// Returns the sorted names of the recorded steps. Asserts that each still has the blob of its
    /// layer.
    pub(super) fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for listed in self.store.records().list().unwrap() {
            assert_eq!(
                self.store.records().by_input(listed.record.input_key).unwrap(),
                Some(listed.record.clone())
            );
            left.push(listed.record.step.to_string());
        }
        left.sort();
        left
    }
}

pub(super) fn date(path: PathBuf, days_ago: u64) {
    let time = UNIX_EPOCH + Duration::from_secs(seconds_now() - days_ago * 86400);
    std::fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
}
