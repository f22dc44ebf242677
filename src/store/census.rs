//! Lists the content of a store, with the time of its last use.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::Store;
use super::file::failed;
use super::stored_layer::StoredLayer;
use crate::oci::{ChainId, DiffId, Digest};
use crate::plan::{InputKey, Record};
use crate::port::StoreError;
use crate::tree::sorted_paths;

/// A layer and the space that it uses.
pub(super) struct KnownLayer {
    pub stored: StoredLayer,
    pub used: u64,
    /// Number of its snapshots. A layer that depends on the layers below has one for each stack.
    pub unpacked: u64,
}

impl KnownLayer {
    pub(super) fn blob_bytes(&self) -> u64 {
        self.stored.blobs.iter().map(|blob| blob.bytes).sum()
    }

    pub(super) fn unpacked_bytes(&self) -> u64 {
        self.unpacked * self.stored.tar_bytes
    }
}

impl Store {
    /// Returns the stacks of all records and images in the store, and all lower parts of these
    /// stacks.
    pub(super) fn stacks(&self) -> Result<BTreeMap<ChainId, Vec<DiffId>>, StoreError> {
        let files = self.records().files_by_input()?;
        let known: BTreeMap<_, _> = files.iter().map(|(_, record, _)| (record.input_key, record)).collect();
        let mut stacks = BTreeMap::new();
        let mut add = |stack: &[DiffId]| {
            for height in (1..=stack.len()).rev() {
                let Some(chain) = ChainId::of(&stack[..height]) else { return };
                // The lower parts of a known stack are known already.
                if stacks.insert(chain, stack[..height].to_vec()).is_some() {
                    return;
                }
            }
        };
        for record in known.values() {
            let mut records = chain(record, &known);
            records.reverse();
            let stack: Vec<_> = records.iter().flat_map(|record| record.diff_ids.iter().copied()).collect();
            add(&stack);
        }
        for (name, _) in self.images().names()? {
            add(&self.images().stack(&name)?);
        }
        Ok(stacks)
    }
}

/// An unpacked layer.
pub(super) struct Snapshot {
    pub path: PathBuf,
    pub diff_id: DiffId,
    /// If the layer depends on the layers below: the ChainID of the stack that ends with it.
    pub chain: Option<ChainId>,
}

impl Snapshot {
    pub(super) fn at(path: PathBuf) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let (diff_id, chain) = name.split_once('@').map_or((name, None), |(name, chain)| (name, Some(chain)));
        let digest = |hex: &str| format!("sha256:{hex}").parse::<Digest>().ok();
        let chain = match chain {
            Some(hex) => Some(ChainId::new(digest(hex)?)),
            None => None,
        };
        Some(Self { diff_id: DiffId::new(digest(diff_id)?), chain, path })
    }
}

/// Returns a record and the `known` records of the steps below it, highest first.
pub(super) fn chain<'a>(record: &'a Record, known: &BTreeMap<InputKey, &'a Record>) -> Vec<&'a Record> {
    let below = |record: &&'a Record| known.get(&record.parent?).copied();
    // The limit matters for a damaged record whose parents form a loop.
    std::iter::successors(Some(record), below).take(known.len()).collect()
}

/// Returns the entries of a directory, sorted.
pub(super) fn list_files(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    sorted_paths(directory).map_err(failed("read directory", directory))
}

/// Returns the time when a file was last written or marked as used, in seconds since 1970.
pub(super) fn used(path: &Path) -> u64 {
    let modified = std::fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    seconds(modified.unwrap_or(UNIX_EPOCH))
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
