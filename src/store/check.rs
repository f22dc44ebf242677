//! Verifies a store and removes damaged parts.
//!
//! Everything else depends on blobs, so all of them are read and hashed. A layer without a good
//! blob, a record without its layers and an image without its blobs are dropped, and the next build
//! makes them again. Each snapshot is compared with a new one that is unpacked from the blob.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};

use super::Store;
use super::census::{Snapshot, chain, list_files, used};
use super::compare::equal_trees;
use super::document::{name_of, parse, parse_digest};
use super::file::{failed, is_taken, open_directory, open_if_there, remove_if_there};
use super::imprint::{Imprint, SnapshotState};
use super::interrupt::Interrupt;
use super::pack::workers;
use super::scratch::oldest_owner;
use super::stored_layer::{LayerBlob, StoredLayer};
use super::unpack::BelowRoot;
use crate::oci::{DiffId, Digest, Hasher, HashingReader};
use crate::port::StoreError;

/// The result of a check. The parts that are listed here have already been dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Number of blobs.
    pub blobs: u64,
    /// Size of the blobs.
    pub bytes: u64,
    /// Files of blobs whose bytes are wrong. They are in quarantine now.
    pub damaged_blobs: Vec<PathBuf>,
    /// Layers without a good blob.
    pub dropped_layers: Vec<DiffId>,
    /// Files of records that need such a layer or cannot be read.
    pub dropped_records: Vec<PathBuf>,
    /// Names of images that need a missing blob.
    pub dropped_images: Vec<String>,
    /// Layers whose snapshot differed from their blob.
    pub dropped_snapshots: Vec<DiffId>,
    /// The index of images, if it was unreadable. It is in quarantine now, and an empty index has
    /// replaced it.
    pub damaged_index: Option<PathBuf>,
}

impl CheckReport {
    /// Returns true if no damage was found.
    pub fn is_sound(&self) -> bool {
        *self == Self { blobs: self.blobs, bytes: self.bytes, ..Self::default() }
    }
}

impl Store {
    /// Verifies every blob, record, image and snapshot, and drops damaged ones. Other processes may
    /// use the store at the same time.
    ///
    /// # Errors
    /// [`StoreError::Io`] if a file cannot be read.
    pub fn check(&self) -> Result<CheckReport, StoreError> {
        let mut report = CheckReport::default();
        // First, because the checks of images and snapshots read the index.
        self.check_index(&mut report)?;
        // From the bottom up: each check relies on the parts below it.
        self.check_blobs(&mut report)?;
        self.check_layers(&mut report)?;
        self.check_records(&mut report)?;
        self.check_images(&mut report)?;
        self.check_snapshots(&mut report)?;
        Ok(report)
    }

    fn check_blobs(&self, report: &mut CheckReport) -> Result<(), StoreError> {
        let paths = list_files(&self.layout().blobs())?;
        let inodes: Vec<_> = paths.iter().map(|path| inode(path)).collect();
        let hashed = hash_all(&paths, self.interrupt());
        for ((path, inode_before), result) in paths.iter().zip(inodes).zip(hashed) {
            // A collection has removed the blob since it was listed.
            let Some((digest, bytes)) = result? else { continue };
            report.blobs += 1;
            report.bytes += bytes;
            let is_good = digest
                .is_some_and(|digest| path.file_name().is_some_and(|name| name == digest.hex().as_str()));
            if !is_good {
                // Another process may have replaced a damaged blob with a good one since.
                let _lock = self.lock_exclusive()?;
                if inode(path) == inode_before {
                    self.quarantine(path)?;
                    report.damaged_blobs.push(path.clone());
                }
            }
        }
        Ok(())
    }

    fn check_layers(&self, report: &mut CheckReport) -> Result<(), StoreError> {
        for path in list_files(&self.layout().layers())? {
            // Without the lock, because all blobs of the layer are decoded.
            let wrong = match self.read_document::<StoredLayer>(&path)? {
                Some(layer) => self.blobs_of_others(&path, &layer)?,
                None => continue,
            };
            let _lock = self.lock_exclusive()?;
            let Some(mut layer) = self.read_document::<StoredLayer>(&path)? else { continue };
            let known = layer.blobs.len();
            layer.blobs.retain(|blob| {
                self.blobs().size(&blob.digest) == Some(blob.bytes) && !wrong.contains(&blob.digest)
            });
            if layer.blobs.is_empty() {
                std::fs::remove_file(&path).map_err(failed("remove", &path))?;
                report.dropped_layers.push(layer.diff_id);
            } else if layer.blobs.len() < known {
                self.write_document(&path, &layer)?;
            }
        }
        Ok(())
    }

    /// Returns the blobs that a description at `path` names and that do not hold its layer.
    fn blobs_of_others(&self, path: &Path, layer: &StoredLayer) -> Result<BTreeSet<Digest>, StoreError> {
        let mut wrong = BTreeSet::new();
        for blob in &layer.blobs {
            if *path != self.layout().layer(&layer.diff_id) || !self.holds(layer, blob)? {
                wrong.insert(blob.digest);
            }
        }
        Ok(wrong)
    }

    /// Returns true if the archive in a blob is the layer. Also if the blob is missing or changed,
    /// which is found elsewhere.
    fn holds(&self, layer: &StoredLayer, blob: &LayerBlob) -> Result<bool, StoreError> {
        let archive = match self.layers().archive(&layer.with(blob)) {
            Err(StoreError::MissingBlob { .. } | StoreError::Damaged { .. }) => return Ok(true),
            Err(StoreError::Layer(_)) => return Ok(false),
            archive => archive?,
        };
        let mut archive = HashingReader::new(archive);
        match std::io::copy(&mut archive, &mut std::io::sink()) {
            Ok(_) => Ok(DiffId::new(archive.finish().0) == layer.diff_id),
            // Its bytes are those of its digest, but they are not an archive of this encoding.
            Err(_) => {
                Ok(self.interrupt().check().map(|()| false).map_err(failed("read", self.layout().root()))?)
            }
        }
    }

    fn check_records(&self, report: &mut CheckReport) -> Result<(), StoreError> {
        let records = self.records();
        for path in records.paths()? {
            let _lock = self.lock_exclusive()?;
            let record = records.read(&path)?.map_or(Ok(None), |stored| records.with_evidence(stored))?;
            let is_good = match record {
                Some(record) => records.missing_layer(&record)?.is_none(),
                None => false,
            };
            if !is_good {
                // An unreadable record is in quarantine already, and then this fails.
                let _ = std::fs::remove_file(&path);
                report.dropped_records.push(path);
            }
        }
        Ok(())
    }

    fn check_index(&self, report: &mut CheckReport) -> Result<(), StoreError> {
        let path = self.layout().index();
        let _lock = self.lock_exclusive()?;
        if self.read_document::<ImageIndex>(&path)?.is_none() {
            self.images().write_index(Vec::new())?;
            report.damaged_index = Some(path);
        }
        Ok(())
    }

    fn check_images(&self, report: &mut CheckReport) -> Result<(), StoreError> {
        // The lock is held from the look-up to the removal, because a pull may give the name to a
        // new image in between. Only manifests and sizes are read, so the lock is held briefly.
        let _lock = self.lock_exclusive()?;
        let path = self.layout().index();
        let (mut kept, mut dropped) = (Vec::new(), Vec::new());
        for entry in self.images().read_index()?.manifests() {
            // Nothing reads entries without a name, so they stay.
            match name_of(entry) {
                Some(name) if !self.is_image_whole(&path, entry)? => dropped.push(name.to_owned()),
                _ => kept.push(entry.clone()),
            }
        }
        if !dropped.is_empty() {
            self.images().write_index(kept)?;
            report.dropped_images.extend(dropped);
        }
        Ok(())
    }

    /// Returns true if an entry of the index names the manifest of an image or artifact, and the
    /// store has all its blobs. Other programs may add other entries, such as an index for several
    /// platforms. Every later collection would fail at them.
    fn is_image_whole(&self, index: &Path, entry: &Descriptor) -> Result<bool, StoreError> {
        let Ok(manifest) = parse_digest(index, entry) else { return Ok(false) };
        let path = self.layout().blob(&manifest);
        let bytes = match self.blobs().get(&manifest) {
            Err(StoreError::MissingBlob { .. } | StoreError::Damaged { .. }) => return Ok(false),
            result => result?,
        };
        let Ok(manifest) = parse::<ImageManifest>(&path, &bytes) else { return Ok(false) };
        let has = |blob: &Descriptor| {
            parse_digest(&path, blob).is_ok_and(|digest| self.blobs().size(&digest) == Some(blob.size()))
        };
        Ok(manifest.layers().iter().chain([manifest.config()]).all(has))
    }

    fn check_snapshots(&self, report: &mut CheckReport) -> Result<(), StoreError> {
        let bin = self.scratch()?;
        let protected_since = {
            let _lock = self.lock_exclusive()?;
            oldest_owner(&self.layout().work())?.unwrap_or(0)
        };
        let stacks = self.stacks()?;
        // A layer that depends on others is unpacked above their snapshots, so these are verified
        // first.
        let mut snapshots = self.snapshots().list()?;
        let height = |snapshot: &Snapshot| snapshot.chain.and_then(|chain| stacks.get(&chain)).map(Vec::len);
        snapshots.sort_by_key(height);
        for Snapshot { path, diff_id, chain } in snapshots {
            let compared = inode(&path);
            let stack = chain.map(|chain| stacks.get(&chain));
            let is_needed = stack != Some(None);
            // A running build writes the record that names its stack when the step ends. Its hooks
            // may use this snapshot now.
            if !is_needed && used(&self.layout().layer(&diff_id)) >= protected_since {
                continue;
            }
            if is_needed
                && self.is_snapshot_good(&diff_id, stack.flatten(), &path, &bin.path().join("again"))?
            {
                if self.snapshots().state(&path)? != SnapshotState::Intact {
                    // The snapshot was copied or touched, but its content is correct.
                    self.snapshots().save_imprint(&path, &Imprint::of(&path)?)?;
                }
                continue;
            }
            let name = path.file_name().unwrap_or_default();
            // Only the directory that was compared is removed: another process may have replaced a
            // changed snapshot by a good one since, and its hooks may use that.
            let _lock = self.lock_exclusive()?;
            if inode(&path) != compared {
                continue;
            }
            std::fs::rename(&path, bin.path().join(name)).map_err(failed("move away", &path))?;
            if is_needed {
                report.dropped_snapshots.push(diff_id);
            }
        }
        // Unpacking layers above others has also compared the snapshots of the others with their
        // imprints.
        report.dropped_snapshots.extend(self.snapshots().take_renewed());
        let damaged = report.dropped_snapshots.iter().copied().collect();
        self.check_what_stands_on(&damaged, report)
    }

    /// Drops the records of steps above these layers: the steps may have run on the damaged
    /// snapshots.
    fn check_what_stands_on(
        &self,
        damaged: &BTreeSet<DiffId>,
        report: &mut CheckReport,
    ) -> Result<(), StoreError> {
        if damaged.is_empty() {
            return Ok(());
        }
        let files = self.records().files()?;
        let known = files.iter().map(|(_, record, _)| (record.input_key, record)).collect();
        for (path, record, _) in &files {
            let chain = chain(record, &known);
            // If a record below is missing, the layers that the step ran on are unknown.
            let is_whole = chain.last().is_none_or(|lowest| lowest.parent.is_none());
            let mut below = chain.iter().skip(1).flat_map(|record| &record.diff_ids);
            if !is_whole || below.any(|diff_id| damaged.contains(diff_id)) {
                let _lock = self.lock_exclusive()?;
                remove_if_there(path)?;
                report.dropped_records.push(path.clone());
            }
        }
        Ok(())
    }

    /// Compares a snapshot with a new one, which is unpacked to `again` and then removed. If the
    /// layer depends on others, `stack` is its stack, with the layer itself.
    fn is_snapshot_good(
        &self,
        diff_id: &DiffId,
        stack: Option<&Vec<DiffId>>,
        path: &Path,
        again: &Path,
    ) -> Result<bool, StoreError> {
        let unpack = || match stack {
            None => self.snapshots().unpack_to(diff_id, again, BelowRoot::Unknown).map(|leans| !leans),
            Some(stack) => {
                let below = self.snapshots().unpack(&stack[..stack.len() - 1])?;
                self.snapshots().unpack_to(diff_id, again, BelowRoot::Layers(&below))
            }
        };
        let is_of_its_form = match unpack() {
            Err(StoreError::MissingLayer { .. }) => return Ok(false),
            result => result?,
        };
        let (old, new) = (open_directory(path)?, open_directory(again)?);
        let equal =
            is_of_its_form && equal_trees(old.as_fd(), new.as_fd()).map_err(failed("compare", path))?;
        super::file::remove_path(again)?;
        Ok(equal)
    }
}

/// Returns the inode number of `path`, or `None` if it does not exist.
fn inode(path: &Path) -> Option<u64> {
    std::fs::symlink_metadata(path).ok().map(|found| found.ino())
}

/// The digest and the size of a blob. The digest is `None` for a name that is not a file. The whole
/// is `None` if the blob is gone.
type Hashed = Option<(Option<Digest>, u64)>;

/// Hashes files on all processors. The results have the order of the files.
fn hash_all(paths: &[PathBuf], interrupt: &Interrupt) -> Vec<Result<Hashed, StoreError>> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let index = next.fetch_add(1, Ordering::Relaxed)
            && let Some(path) = paths.get(index)
        {
            done.push((index, hash(path, interrupt)));
        }
        done
    };
    let mut results: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..workers()).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("hashing does not panic")).collect()
    });
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

fn hash(path: &Path, interrupt: &Interrupt) -> Result<Hashed, StoreError> {
    use std::io::Read;
    let Some(file) = open_if_there(path)? else {
        return Ok(is_taken(path).then_some((None, 0)));
    };
    let mut file = interrupt.reader(file);
    let (mut hasher, mut bytes, mut buffer) = (Hasher::default(), 0, vec![0; 256 * 1024]);
    loop {
        match file.read(&mut buffer).map_err(failed("read", path))? {
            0 => return Ok(Some((Some(hasher.finish()), bytes))),
            count => {
                hasher.update(&buffer[..count]);
                bytes += count as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Encoder, Encoding, Entry};
    use crate::plan::{KeyFields, Record};
    use crate::port::LayerBlobs;

    /// Returns a store with one recorded layer.
    fn store() -> (tempfile::TempDir, Store, Record) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store")).unwrap();
        let file = directory.path().join("rootfs.tar");
        std::fs::write(&file, Encoder::new(Vec::new()).finish().unwrap().0).unwrap();
        let diff_ids = store.bases().import_rootfs_tar(&file).unwrap().diff_ids;
        let fields = KeyFields::default();
        let (input_key, content_key) = (fields.input_key(None), fields.content_key(None));
        let (step, image) = ("s".parse().unwrap(), "i".to_owned());
        let record =
            Record { step, image, input_key, content_key, parent: None, fields, diff_ids, evidence: None };
        store.records().put(&record).unwrap();
        (directory, store, record)
    }

    #[test]
    fn an_undamaged_store_is_sound() {
        let (_directory, store, record) = store();
        let report = store.check().unwrap();
        assert!(report.is_sound() && report.blobs == 1, "{report:?}");
        assert_eq!(store.records().by_input(record.input_key).unwrap(), Some(record));
    }

    #[test]
    fn everything_that_needs_a_damaged_blob_is_dropped() {
        let (_directory, store, record) = store();
        let layer = store.layers().get(&record.diff_ids[0]).unwrap().unwrap();
        let mut bytes = store.blobs().get(&layer.blob).unwrap();
        bytes[0] ^= 1;
        std::fs::write(store.layout().blob(&layer.blob), bytes).unwrap();
        let report = store.check().unwrap();
        assert_eq!(report.damaged_blobs, [store.layout().blob(&layer.blob)]);
        assert_eq!(report.dropped_layers, record.diff_ids);
        assert_eq!(report.dropped_records.len(), 2);
        assert_eq!(store.records().by_input(record.input_key).unwrap(), None);
        assert!(store.layout().quarantine().join(layer.blob.hex()).exists());
        assert!(store.check().unwrap().is_sound());
    }

    #[test]
    fn a_description_that_names_the_blob_of_another_layer_is_dropped() {
        let (directory, store, record) = store();
        let mut other = Encoder::new(Vec::new());
        other.append(&Entry::whiteout(b"x".to_vec())).unwrap();
        let file = directory.path().join("other.tar");
        std::fs::write(&file, other.finish().unwrap().0).unwrap();
        let other = store.bases().import_rootfs_tar(&file).unwrap().diff_ids[0];
        let path = |diff_id: &DiffId| store.layout().layer(diff_id);
        let read = |diff_id| store.read_document::<StoredLayer>(&path(diff_id)).unwrap().unwrap();
        let blobs = read(&other).blobs;
        let lie = StoredLayer { blobs, ..read(&record.diff_ids[0]) };
        store.write_document(&path(&record.diff_ids[0]), &lie).unwrap();
        let report = store.check().unwrap();
        assert_eq!((report.dropped_layers, report.dropped_records.len()), (record.diff_ids, 2));
        assert!(store.check().unwrap().is_sound());
    }

    #[test]
    fn an_unreadable_index_is_replaced_by_an_empty_one() {
        let (_directory, store, record) = store();
        let index = store.layout().index();
        let cut = &std::fs::read(&index).unwrap()[..5];
        std::fs::write(&index, cut).unwrap();
        assert!(
            matches!(store.images().names(), Err(StoreError::DamagedIndex { path, .. }) if path == index)
        );
        let report = store.check().unwrap();
        assert_eq!((report.damaged_index.as_ref(), report.is_sound()), (Some(&index), false));
        assert_eq!(std::fs::read(store.layout().quarantine().join("index.json")).unwrap(), cut);
        assert_eq!(store.images().names().unwrap(), []);
        assert_eq!(store.records().by_input(record.input_key).unwrap(), Some(record), "steps stay");
        assert!(store.check().unwrap().is_sound());
    }

    #[test]
    fn a_name_that_is_not_an_image_is_dropped_and_collections_work_again() {
        let (_directory, store, record) = store();
        let nested = store.blobs().put(br#"{"manifests":[],"schemaVersion":2}"#).unwrap().to_string();
        let other = format!("sha512:{}", "0".repeat(128));
        let entry = |name: &str, digest: &str| {
            let (kind, names) =
                ("application/vnd.oci.image.index.v1+json", r#""org.opencontainers.image.ref.name""#);
            format!(
                r#"{{"mediaType":"{kind}","digest":"{digest}","size":34,"annotations":{{{names}:"{name}"}}}}"#
            )
        };
        let entries = [entry("nested", &nested), entry("other", &other)].join(",");
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{entries}]}}"#);
        std::fs::write(store.layout().index(), index).unwrap();
        let report = store.check().unwrap();
        assert_eq!(report.dropped_images, ["nested", "other"]);
        store.gc(&crate::store::GcPolicy::default()).unwrap();
        assert_eq!(store.records().by_input(record.input_key).unwrap(), Some(record), "steps stay");
        assert!(store.check().unwrap().is_sound());
    }

    #[test]
    fn a_layer_with_a_good_blob_in_another_encoding_is_kept() {
        let (_directory, store, record) = store();
        let plain = store.layers().get(&record.diff_ids[0]).unwrap().unwrap();
        let gzip = store.layers().encoded(&record.diff_ids[0], Encoding::Gzip).unwrap();
        assert_eq!(store.layers().encoded(&record.diff_ids[0], Encoding::Gzip).unwrap(), gzip, "remembered");
        std::fs::write(store.layout().blob(&plain.blob), "damaged").unwrap();
        let report = store.check().unwrap();
        assert_eq!((report.damaged_blobs.len(), report.dropped_layers.len()), (1, 0));
        assert_eq!(store.layers().get(&record.diff_ids[0]).unwrap(), Some(gzip));
        assert_eq!(
            store.layers().encoded(&record.diff_ids[0], Encoding::None).unwrap(),
            plain,
            "and made again"
        );
    }

    #[test]
    fn unreadable_documents_are_dropped() {
        let (_directory, store, record) = store();
        std::fs::write(store.layout().input_record(&record.input_key), "{").unwrap();
        assert_eq!(store.records().by_input(record.input_key).unwrap(), None, "a miss, not an error");
        store.records().put(&record).unwrap();
        std::fs::write(store.layout().content_record(&record.content_key), "{").unwrap();
        assert_eq!(
            store.check().unwrap().dropped_records,
            [store.layout().content_record(&record.content_key)]
        );
    }
}
