//! Removes records, layers, snapshots and blobs that are no longer needed.
//!
//! Every policy keeps bases, pulled images and artifacts of the index. It also keeps everything
//! that was made or used since the start of the oldest process that has the store open. The steps
//! and the container of the last build of each image stay at any age, if they fit the size limit. A
//! record stays only together with the records of the steps below.
//!
//! Records are removed before layers, and layers before blobs, all under the exclusive lock. No
//! process therefore finds a record whose layer is about to be removed. A kill in between leaves
//! unused blobs, and never a record without its blobs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use oci_spec::image::ImageManifest;

use super::Store;
use super::build::{CONTAINER_PREFIX, PREFIX};
use super::census::{KnownLayer, Snapshot, chain, list_files, used};
use super::document::{parse, parse_digest};
use super::file::{failed, remove_if_there, remove_path};
use super::scratch::{Scratch, oldest_owner, seconds_now};
use crate::oci::{DiffId, Digest};
use crate::plan::InputKey;
use crate::port::StoreError;

/// Limits of a collection. Data that nothing refers to is removed in any case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcPolicy {
    /// Records, downloads and logs that were unused for longer are removed, except the records of
    /// the last build of each image.
    pub unused_for: Option<Duration>,
    /// Bytes that layers (also unpacked) and images may use. The least recently used records are
    /// removed first, then containers that do not fit.
    pub max_bytes: Option<u64>,
}

/// The result of a collection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Number of removed files of records.
    pub records: u64,
    /// Number of removed layers.
    pub layers: u64,
    /// Number of removed blobs.
    pub blobs: u64,
    /// Bytes of removed blobs and unpacked layers.
    pub freed_bytes: u64,
    /// Bytes of the kept layers and images.
    pub kept_bytes: u64,
    /// Bases and pulled images, with the bytes that each one needs. They may share layers.
    pub images: BTreeMap<String, u64>,
    /// Bytes that these images need together.
    pub image_bytes: u64,
}

impl Store {
    /// Removes data by `policy`, and data that nothing refers to. Other processes may use the store
    /// at the same time.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::DamagedIndex`], [`StoreError::Invalid`] if a manifest
    /// cannot be read. Nothing is removed then.
    pub fn gc(&self, policy: &GcPolicy) -> Result<GcReport, StoreError> {
        // Before the lock, because creating a scratch directory takes the lock. Snapshots are moved
        // there, and removed after the lock is released.
        let bin = self.scratch()?;
        let report = {
            // Before the owners are listed: a process that starts now waits for the lock, and then
            // finds only the parts that stay.
            let _lock = self.lock_exclusive()?;
            let protected_since = oldest_owner(&self.layout().work())?.unwrap_or(0);
            let mut collection = Collection {
                store: self,
                bin: &bin,
                protected_since,
                kept: BTreeSet::new(),
                pinned: self.named_blobs()?,
                last_built: self.builds().steps()?,
                report: GcReport::default(),
            };
            collection.run(policy)?;
            collection.report
        };
        if let Some(age) = policy.unused_for {
            let before = seconds_now().saturating_sub(age.as_secs());
            for directory in [self.layout().cache(""), self.layout().logs(), self.layout().quarantine()] {
                remove_old_files(&directory, before)?;
            }
            self.failures().remove_older(before)?;
        }
        Ok(report)
    }

    /// Returns the blobs that each image of the index needs, with their sizes.
    fn named_blobs(&self) -> Result<BTreeMap<String, Blobs>, StoreError> {
        let mut named = BTreeMap::new();
        for (name, digest) in self.images().names()? {
            let path = self.layout().blob(&digest);
            let bytes = self.blobs().get(&digest)?;
            let manifest: ImageManifest = parse(&path, &bytes)?;
            let mut blobs = Blobs::from([(digest, bytes.len() as u64)]);
            for blob in manifest.layers().iter().chain([manifest.config()]) {
                blobs.insert(parse_digest(&path, blob)?, blob.size());
            }
            named.insert(name, blobs);
        }
        Ok(named)
    }
}

/// Blobs with their sizes.
type Blobs = BTreeMap<Digest, u64>;

struct Collection<'a> {
    store: &'a Store,
    bin: &'a Scratch,
    protected_since: u64,
    kept: BTreeSet<DiffId>,
    /// The blobs that each image needs, by its name.
    pinned: BTreeMap<String, Blobs>,
    last_built: BTreeSet<InputKey>,
    report: GcReport,
}

impl Collection<'_> {
    fn run(&mut self, policy: &GcPolicy) -> Result<(), StoreError> {
        let layers = self.store.layers().list()?;
        // With a size limit, containers may be removed: a build can make them again from layers.
        let is_container = |name: &String| policy.max_bytes.is_some() && name.starts_with(CONTAINER_PREFIX);
        let containers: BTreeMap<_, _> = self.pinned.extract_if(.., |name, _| is_container(name)).collect();
        let pinned = self.pinned_blobs();
        let is_needed = |layer: &&KnownLayer| layer.used >= self.protected_since || has_any(layer, &pinned);
        self.kept = layers.values().filter(is_needed).map(|layer| layer.stored.diff_id).collect();
        self.report.kept_bytes = self.kept.iter().map(|diff_id| bytes(&layers, diff_id)).sum::<u64>()
            + loose_bytes(&layers, &pinned);
        // Records come first: if space is short, the steps of a build are worth more than its
        // container.
        self.collect_records(policy, &layers)?;
        self.collect_containers(containers, policy, &layers)?;
        let is_of_build = |name: &str| name.starts_with(PREFIX) || name.starts_with(CONTAINER_PREFIX);
        let images: Vec<_> = self.pinned.iter().filter(|(name, _)| !is_of_build(name)).collect();
        // Counted together, because images may share layers.
        self.report.image_bytes = held(&layers, &all_blobs(images.iter().map(|(_, blobs)| *blobs)));
        self.report.images =
            images.iter().map(|(name, blobs)| ((*name).clone(), held(&layers, blobs))).collect();
        self.collect_layers(&layers)?;
        self.collect_blobs(&layers)
    }

    /// Returns all blobs that images need.
    fn pinned_blobs(&self) -> Blobs {
        all_blobs(self.pinned.values())
    }

    /// Keeps the containers whose layers stay or fit. Removes the names of the others.
    fn collect_containers(
        &mut self,
        containers: BTreeMap<String, Blobs>,
        policy: &GcPolicy,
        layers: &BTreeMap<DiffId, KnownLayer>,
    ) -> Result<(), StoreError> {
        for (name, blobs) in containers {
            let own = layers.values().filter(|layer| has_any(layer, &blobs));
            let own = own.map(|layer| layer.stored.diff_id);
            let new: Vec<_> = own.filter(|diff_id| !self.kept.contains(diff_id)).collect();
            let new_bytes: u64 = new.iter().map(|diff_id| bytes(layers, diff_id)).sum();
            let total = self.report.kept_bytes + new_bytes;
            if new_bytes == 0 || policy.max_bytes.is_none_or(|limit| total <= limit) {
                self.kept.extend(new);
                self.report.kept_bytes = total;
                self.pinned.insert(name, blobs);
            } else {
                self.store.images().remove_from_index(&name)?;
            }
        }
        Ok(())
    }

    fn collect_records(
        &mut self,
        policy: &GcPolicy,
        layers: &BTreeMap<DiffId, KnownLayer>,
    ) -> Result<(), StoreError> {
        let mut files = self.store.records().files()?;
        files.sort_by_key(|(_, record, used)| (std::cmp::Reverse(*used), record.input_key));
        let before = policy.unused_for.map_or(0, |age| seconds_now().saturating_sub(age.as_secs()));
        let known: BTreeMap<_, _> = files.iter().map(|(_, record, _)| (record.input_key, record)).collect();
        let mut kept = BTreeSet::new();
        for (_, record, used) in &files {
            // A record keeps its whole chain: a layer is useless without the layers below it.
            let chain = chain(record, &known);
            let chain_layers = chain.iter().flat_map(|record| record.diff_ids.iter().copied());
            let new: BTreeSet<_> = chain_layers.filter(|diff_id| !self.kept.contains(diff_id)).collect();
            let new_bytes: u64 = new.iter().map(|diff_id| bytes(layers, diff_id)).sum();
            let total = self.report.kept_bytes + new_bytes;
            let fits = new_bytes == 0 || policy.max_bytes.is_none_or(|limit| total <= limit);
            let wanted = *used >= before || self.last_built.contains(&record.input_key);
            if *used >= self.protected_since || (wanted && fits) {
                self.kept.extend(new);
                self.report.kept_bytes = total;
                kept.extend(chain.iter().map(|record| record.input_key));
            }
        }
        for (path, ..) in files.iter().filter(|(_, record, _)| !kept.contains(&record.input_key)) {
            std::fs::remove_file(path).map_err(failed("remove", path))?;
            self.report.records += 1;
        }
        self.store.records().collect_evidence()
    }

    fn collect_layers(&mut self, layers: &BTreeMap<DiffId, KnownLayer>) -> Result<(), StoreError> {
        let layout = self.store.layout();
        for (diff_id, layer) in layers.iter().filter(|(diff_id, _)| !self.kept.contains(diff_id)) {
            let path = layout.layer(diff_id);
            std::fs::remove_file(&path).map_err(failed("remove", &path))?;
            self.report.layers += 1;
            self.report.freed_bytes += layer.unpacked_bytes();
        }
        // Computed after records were removed, so that snapshots of their stacks are removed as
        // well.
        let stacks = self.store.stacks()?;
        let is_new =
            |diff_id: &DiffId| layers.get(diff_id).is_some_and(|layer| layer.used >= self.protected_since);
        let kept: BTreeSet<_> = self
            .store
            .snapshots()
            .list()?
            .into_iter()
            .filter(|Snapshot { diff_id, chain, .. }| {
                let has_stack = chain.is_none_or(|chain| stacks.contains_key(&chain));
                // A running build writes the record that names its stack when the step ends.
                self.kept.contains(diff_id) && (has_stack || is_new(diff_id))
            })
            .map(|snapshot| snapshot.path)
            .collect();
        for path in list_files(&layout.snapshots())?.iter().filter(|path| !kept.contains(*path)) {
            let away = self.bin.path().join(path.file_name().unwrap_or_default());
            // Moved away first, because removing a large tree under the lock would block others for
            // seconds.
            std::fs::rename(path, away).map_err(failed("move away", path))?;
        }
        self.store.snapshots().collect_imprints()
    }

    fn collect_blobs(&mut self, layers: &BTreeMap<DiffId, KnownLayer>) -> Result<(), StoreError> {
        let layout = self.store.layout();
        let of_layers = self.kept.iter().filter_map(|diff_id| layers.get(diff_id));
        let of_layers = of_layers.flat_map(|layer| layer.stored.blobs.iter().map(|blob| blob.digest));
        let needed: BTreeSet<_> =
            of_layers.chain(self.pinned_blobs().into_keys()).map(|digest| layout.blob(&digest)).collect();
        for path in list_files(&layout.blobs())? {
            // A running build may not have written the layer or manifest that names its blob yet.
            if needed.contains(&path) || used(&path) >= self.protected_since {
                continue;
            }
            let bytes = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
            // Not `remove_file`: a directory in the place of a blob would make every collection
            // fail.
            remove_path(&path)?;
            self.report.blobs += 1;
            self.report.freed_bytes += bytes;
        }
        Ok(())
    }
}

fn all_blobs<'b>(blobs: impl Iterator<Item = &'b Blobs>) -> Blobs {
    blobs.flatten().map(|(digest, bytes)| (*digest, *bytes)).collect()
}

fn bytes(layers: &BTreeMap<DiffId, KnownLayer>, diff_id: &DiffId) -> u64 {
    layers.get(diff_id).map_or(0, |layer| layer.blob_bytes() + layer.unpacked_bytes())
}

/// Returns true if one of these blobs holds the layer.
fn has_any(layer: &KnownLayer, blobs: &Blobs) -> bool {
    layer.stored.blobs.iter().any(|blob| blobs.contains_key(&blob.digest))
}

/// Returns the size of the blobs that belong to no known layer: configs, manifests, and layers that
/// were pulled and never unpacked.
fn loose_bytes(layers: &BTreeMap<DiffId, KnownLayer>, blobs: &Blobs) -> u64 {
    let of_layers = layers.values().flat_map(|layer| &layer.stored.blobs);
    let of_layers: BTreeSet<_> = of_layers.map(|blob| &blob.digest).collect();
    blobs.iter().filter(|(digest, _)| !of_layers.contains(digest)).map(|(_, bytes)| bytes).sum()
}

/// Returns the bytes that an image with these blobs needs in the store.
fn held(layers: &BTreeMap<DiffId, KnownLayer>, blobs: &Blobs) -> u64 {
    let own = layers.values().filter(|layer| has_any(layer, blobs));
    own.map(|layer| bytes(layers, &layer.stored.diff_id)).sum::<u64>() + loose_bytes(layers, blobs)
}

/// Removes files in and below `directory` whose inode changed before a time. The modification time
/// does not count: downloads have the time of the server.
fn remove_old_files(directory: &Path, before: u64) -> Result<(), StoreError> {
    use std::os::unix::fs::MetadataExt;
    let paths = match list_files(directory) {
        // No lock is held here, so builds may remove files and directories at the same time.
        Err(StoreError::Io(error)) if error.kind() == ErrorKind::NotFound => return Ok(()),
        paths => paths?,
    };
    for path in paths {
        let metadata = match std::fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            metadata => metadata.map_err(failed("inspect", &path))?,
        };
        if metadata.is_dir() {
            remove_old_files(&path, before)?;
        } else if metadata.ctime() < before as i64 {
            remove_if_there(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::bench::{Bench, date};
    use super::*;
    use crate::plan::Record;

    #[test]
    fn old_records_are_removed_with_their_layers() {
        let bench = Bench::new();
        bench.step("old", 10, 30);
        bench.step("new", 10, 3);
        let report = bench.gc(Some(7), None);
        assert_eq!((report.records, report.layers, report.blobs), (2, 1, 1));
        assert_eq!(bench.left(), ["new"]);
        assert!(bench.store.check().unwrap().is_sound());
    }

    #[test]
    fn least_recently_used_records_are_removed_until_the_rest_fits() {
        let bench = Bench::new();
        for (name, days) in [("a", 4), ("b", 3), ("c", 2), ("d", 1)] {
            bench.step(name, 100, days);
        }
        let report = bench.gc(None, Some(250));
        assert_eq!(bench.left(), ["c", "d"]);
        assert!(report.kept_bytes <= 250 * 1024, "{report:?}");
    }

    #[test]
    fn a_layer_stays_only_with_the_layers_below_it() {
        // The limit in KiB, and the steps that stay.
        type Case = (u64, &'static [&'static str]);
        let cases: [Case; 4] =
            [(1000, &["base", "big", "small"]), (700, &["base", "small"]), (520, &["base"]), (400, &[])];
        for (limit, left) in cases {
            let bench = Bench::new();
            let base = bench.step("base", 500, 9);
            let big = bench.step_above(Some(&base), "big", 300, 3);
            bench.step_above(Some(&big), "small", 50, 1);
            let left_alone = bench.step_above(Some(&base), "small", 50, 2);
            assert_ne!(left_alone.input_key, big.input_key);
            bench.gc(None, Some(limit));
            let mut found = bench.left_unused();
            found.dedup();
            assert_eq!(found, left, "{limit}");
        }
    }

    #[test]
    fn a_base_stays_as_long_as_steps_above_it() {
        let bench = Bench::new();
        let base = bench.step("base", 10, 90);
        bench.step_above(Some(&base), "child", 10, 3);
        bench.gc(Some(30), None);
        assert_eq!(bench.left_unused(), ["base", "child"]);
    }

    #[test]
    fn a_record_that_was_used_since_a_process_opened_the_store_stays() {
        let bench = Bench::new();
        let found = bench.step("found", 10, 30);
        bench.step("forgotten", 10, 30);
        bench.store.records().by_input(found.input_key).unwrap();
        bench.gc(Some(0), Some(0));
        assert_eq!(bench.left(), ["found"]);
    }

    #[test]
    fn the_last_build_of_an_image_stays_unless_it_exceeds_the_limit() {
        let bench = Bench::new();
        let [first, second] = ["first", "second"].map(|name| bench.step(name, 100, 90));
        let build = |steps: &[&Record]| {
            let keys = steps.iter().map(|record| record.input_key);
            bench.store.builds().put("vm", b"{}".to_vec(), keys).unwrap()
        };
        build(&[&first]);
        let manifest = build(&[&first, &second]);
        date(bench.store.layout().blob(&manifest), 90);
        bench.step("other", 100, 90);
        bench.gc(Some(30), None);
        assert_eq!(bench.left_unused(), ["first", "second"]);
        build(&[&second]);
        bench.gc(Some(30), None);
        assert_eq!(bench.left_unused(), ["second"]);
        bench.gc(Some(30), Some(50));
        assert!(bench.left_unused().is_empty(), "the limit counts also for the last build");
    }

    #[test]
    fn a_directory_that_another_process_removes_does_not_stop_a_collection() {
        let bench = Bench::new();
        remove_old_files(&bench.store.layout().cache("gone"), u64::MAX).unwrap();
    }

    #[test]
    fn images_keep_their_layers() {
        use crate::oci::{descriptor, image_manifest};
        let bench = Bench::new();
        let record = bench.step("imaged", 10, 30);
        let layer = bench.store.layers().get(&record.diff_ids[0]).unwrap().unwrap();
        bench.store.blobs().put(b"{}").unwrap();
        let layers = vec![descriptor(layer.encoding.media_type(), &layer.blob, layer.blob_bytes)];
        let manifest =
            bench.store.images().put("i", &image_manifest(b"{}", layers, &BTreeMap::new())).unwrap();
        for digest in [manifest, Digest::of("{}")] {
            date(bench.store.layout().blob(&digest), 30);
        }
        bench.gc(Some(7), None);
        assert!(bench.store.check().unwrap().is_sound());
        assert_eq!(bench.store.images().names().unwrap().len(), 1);
        bench.store.images().remove("i").unwrap();
        assert_eq!(bench.gc(Some(7), None).blobs, 3);
    }

    #[test]
    fn blobs_that_nothing_names_are_removed() {
        let bench = Bench::new();
        let blob = bench.store.blobs().put(b"lost").unwrap();
        assert_eq!(bench.gc(None, None).blobs, 0, "a running build may name it soon");
        date(bench.store.layout().blob(&blob), 1);
        assert_eq!(bench.gc(None, None).blobs, 1);
    }

    #[test]
    fn a_directory_in_place_of_a_blob_is_removed() {
        let bench = Bench::new();
        let path = bench.store.layout().blob(&Digest::of("lost"));
        std::fs::create_dir_all(path.join("inner")).unwrap();
        assert_eq!(bench.gc(None, None).blobs, 0, "it is not older than this process");
        std::fs::File::open(&path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(bench.gc(None, None).blobs, 1);
        assert!(!path.exists());
    }

    #[test]
    fn the_limit_removes_containers_and_the_report_names_the_images_that_stay() {
        let bench = Bench::new();
        let name = |image: &str, record: &Record| {
            let layer = bench.store.layers().get(&record.diff_ids[0]).unwrap().unwrap();
            let manifest =
                bench.store.builds().put_container(image, b"{}", std::slice::from_ref(&layer)).unwrap();
            for digest in [manifest, Digest::of("{}"), layer.blob] {
                date(bench.store.layout().blob(&digest), 30);
            }
        };
        let [old, new] = [("old", 30), ("new", 3)].map(|(step, days)| bench.step(step, 100, days));
        name("old", &old);
        name("new", &new);
        let left =
            || bench.store.images().names().unwrap().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        bench.gc(Some(7), None);
        assert_eq!(left(), ["container/new", "container/old"], "without a limit, both stay");
        bench.gc(Some(0), Some(150));
        assert_eq!(left(), ["container/new"]);

        let base = bench.step("base", 200, 30);
        let layer = bench.store.layers().get(&base.diff_ids[0]).unwrap().unwrap();
        let digest = bench.store.bases().put_layers(b"{}", &[layer]).unwrap();
        date(bench.store.layout().blob(&digest), 30);
        let report = bench.gc(Some(0), Some(100));
        let name = super::super::Bases::name(&digest);
        assert_eq!(left(), std::slice::from_ref(&name), "the base stays, so the container does not fit");
        assert!(
            report.images[&name] >= 200 * 1024 && report.images[&name] == report.image_bytes,
            "{report:?}"
        );
        assert!(bench.store.check().unwrap().is_sound());
    }
}
