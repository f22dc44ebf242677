//! Compressed clusters of earlier disks.
//!
//! Compression takes most of the time of writing a qcow2, and few clusters change from one build of
//! an image to the next. Finished files are therefore kept, each with an index of its clusters at
//! the end:
//!
//! ```text
//! qcow2 | a compressed cluster: SHA-256 of its content, offset (8 bytes), length (4), CRC-32 of what is stored (4) | …
//!       | number of clusters (8), CRC-32 of the index (4), mark (32)
//! ```
//!
//! Numbers are little endian. The mark identifies this format and the compressor, so a cached
//! cluster has exactly the bytes that compression would give. Clusters that are missing or damaged,
//! or come from another compressor, are compressed again. The index needs about 100 bytes of memory
//! for each 64 KiB of a kept file.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use super::OutputError;
use super::error::io_error;
use super::pending::Pending;
use crate::directory::Directory;
use crate::image::Qcow2Compression;
use crate::oci::Digest;

/// The number of files that are kept: the most recently used ones.
const KEPT_FILES: usize = 8;

const ENTRY_BYTES: usize = 48;
const FOOTER_BYTES: usize = 44;

/// The clusters of the last disks, in a directory of their own.
#[derive(Debug, Clone)]
pub struct ClusterCache {
    directory: PathBuf,
    image: String,
}

impl ClusterCache {
    /// Returns the cache for the image of this name.
    pub fn new(directory: PathBuf, image: &str) -> Self {
        Self { directory, image: image.to_owned() }
    }

    /// Reads the indexes of all kept files. Ignores unreadable files.
    pub(super) fn load(&self, compression: Qcow2Compression) -> KnownClusters {
        let mut known = KnownClusters::none(compression);
        for path in self.newest_first() {
            let _ = File::options().read(true).append(true).open(path).and_then(|file| known.add(file));
        }
        known
    }

    /// Keeps a finished file, unless nearly all its clusters were in the cache.
    pub(super) fn keep(
        &self,
        known: &KnownClusters,
        qcow2: &File,
        clusters: &[Cluster],
    ) -> Result<(), OutputError> {
        if known.take_stock() * 10 >= clusters.len() as u64 * 9 {
            return Ok(());
        }
        let directory =
            Directory::open(&self.directory).map_err(io_error("open directory", &self.directory))?;
        let pending = Pending::new(&directory, self.image.as_ref())?;
        write_kept(pending.file(), qcow2, clusters, known.mark)
            .map_err(io_error("write", pending.target()))?;
        pending.commit()?;
        self.newest_first().iter().skip(KEPT_FILES).try_for_each(|path| match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
            _ => Ok(()),
        })
    }

    /// Returns the complete files.
    fn newest_first(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let complete = entries.filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
        let mut files: Vec<_> = complete
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort_by(|a, b| b.cmp(a));
        files.into_iter().map(|(_, path)| path).collect()
    }
}

/// A compressed cluster of a finished file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cluster {
    /// The digest of the uncompressed content.
    pub(super) content: Digest,
    /// The offset in the file.
    pub(super) offset: u64,
    pub(super) length: u32,
    /// The CRC-32 of the stored bytes.
    pub(super) checksum: u32,
}

impl Cluster {
    fn to_bytes(self) -> Vec<u8> {
        let numbers = [self.length, self.checksum].map(u32::to_le_bytes).concat();
        [&self.content.bytes()[..], &self.offset.to_le_bytes(), &numbers].concat()
    }

    fn from_bytes(entry: &[u8]) -> Option<Self> {
        let (content, rest) = entry.split_first_chunk()?;
        let (offset, rest) = rest.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let (checksum, _) = rest.split_first_chunk()?;
        Some(Self {
            content: Digest::from_bytes(*content),
            offset: u64::from_le_bytes(*offset),
            length: u32::from_le_bytes(*length),
            checksum: u32::from_le_bytes(*checksum),
        })
    }
}

/// The clusters of all kept files of one compressor.
#[derive(Debug)]
pub(super) struct KnownClusters {
    mark: Digest,
    files: Vec<KeptFile>,
    /// By content, with the number of the file.
    places: HashMap<Digest, (usize, Cluster)>,
}

#[derive(Debug)]
struct KeptFile {
    file: File,
    /// The number of clusters that were reused from the file.
    found: AtomicU64,
}

impl KnownClusters {
    fn none(compression: Qcow2Compression) -> Self {
        Self { mark: mark(compression), files: Vec::new(), places: HashMap::new() }
    }

    /// Returns the stored bytes of a cluster by the digest of its content.
    pub(super) fn find(&self, content: &Digest) -> Option<Vec<u8>> {
        let (number, cluster) = self.places.get(content)?;
        let kept = &self.files[*number];
        let mut bytes = vec![0; cluster.length as usize];
        kept.file.read_exact_at(&mut bytes, cluster.offset).ok()?;
        // Nothing would notice a wrong cluster in the disk. A damaged cluster is therefore
        // compressed again.
        let is_sound = crc32fast::hash(&bytes) == cluster.checksum;
        is_sound.then(|| {
            kept.found.fetch_add(1, Ordering::Relaxed);
            bytes
        })
    }

    /// Adds the index of a file. Fails if it is damaged or belongs to another compressor.
    fn add(&mut self, file: File) -> io::Result<()> {
        let index = read_index(&file, &self.mark)?;
        let number = self.files.len();
        for cluster in index.chunks_exact(ENTRY_BYTES).filter_map(Cluster::from_bytes) {
            self.places.entry(cluster.content).or_insert((number, cluster));
        }
        self.files.push(KeptFile { file, found: AtomicU64::new(0) });
        Ok(())
    }

    /// Returns the number of reused clusters, and sets the time of the files that had them to now.
    fn take_stock(&self) -> u64 {
        let used = self.files.iter().filter(|kept| kept.found.load(Ordering::Relaxed) > 0);
        used.map(|kept| {
            // Errors are ignored: the file then only looks older.
            let _ = kept.file.set_modified(SystemTime::now());
            kept.found.load(Ordering::Relaxed)
        })
        .sum()
    }
}

/// Identifies the format of the files, and everything that determines the bytes of a compressed
/// cluster.
fn mark(compression: Qcow2Compression) -> Digest {
    Digest::of(format!("plywood clusters 1\n{}\n{compression:?}\n", env!("CARGO_PKG_VERSION")))
}

fn read_index(file: &File, mark: &Digest) -> io::Result<Vec<u8>> {
    let other = || io::Error::from(io::ErrorKind::InvalidData);
    let end = file.metadata()?.len().checked_sub(FOOTER_BYTES as u64).ok_or_else(other)?;
    let mut footer = [0; FOOTER_BYTES];
    file.read_exact_at(&mut footer, end)?;
    let (count, rest) = footer.split_first_chunk().expect("the footer has 44 bytes");
    let (checksum, rest) = rest.split_first_chunk().expect("the footer has 44 bytes");
    let bytes = u64::from_le_bytes(*count).checked_mul(ENTRY_BYTES as u64).filter(|bytes| *bytes <= end);
    let bytes = bytes.filter(|_| rest == mark.bytes()).ok_or_else(other)?;
    let mut index = vec![0; bytes as usize];
    file.read_exact_at(&mut index, end - bytes)?;
    if crc32fast::hash(&index) != u32::from_le_bytes(*checksum) {
        return Err(other());
    }
    Ok(index)
}

/// Writes a finished qcow2 and the index of its clusters to an empty file.
fn write_kept(mut kept: &File, mut qcow2: &File, clusters: &[Cluster], mark: Digest) -> io::Result<()> {
    qcow2.rewind()?;
    io::copy(&mut qcow2, &mut kept)?;
    let index: Vec<u8> = clusters.iter().flat_map(|cluster| cluster.to_bytes()).collect();
    kept.write_all(&index)?;
    kept.write_all(&(clusters.len() as u64).to_le_bytes())?;
    kept.write_all(&crc32fast::hash(&index).to_le_bytes())?;
    kept.write_all(mark.bytes())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::output::qcow2::write_qcow2;
    use crate::output::{Compatibility, Qcow2Options};

    const OPTIONS: Qcow2Options =
        Qcow2Options { compression: Qcow2Compression::Zlib, compatibility: Compatibility::V3 };

    /// Returns a disk of clusters of text, a different one for each number.
    fn disk(numbers: impl IntoIterator<Item = u64>) -> File {
        let disk = tempfile::tempfile().unwrap();
        disk.set_len(100 << 16).unwrap();
        for (place, number) in (0..).zip(numbers) {
            disk.write_all_at(format!("cluster {number:06} ").repeat(4096).as_bytes(), place << 16).unwrap();
        }
        disk
    }

    /// Writes a disk, with the cache if given. Returns the bytes of the file and the number of
    /// reused clusters.
    fn written(disk: &File, cache: Option<&ClusterCache>) -> (Vec<u8>, u64) {
        let target = tempfile::tempfile().unwrap();
        let known = cache.map(|cache| cache.load(OPTIONS.compression));
        let clusters = write_qcow2(disk, &target, OPTIONS, known.as_ref(), &AtomicBool::new(false)).unwrap();
        let found = known.as_ref().map_or(0, KnownClusters::take_stock);
        if let (Some(cache), Some(known)) = (cache, &known) {
            cache.keep(known, &target, &clusters).unwrap();
        }
        let mut bytes = vec![0; target.metadata().unwrap().len() as usize];
        target.read_exact_at(&mut bytes, 0).unwrap();
        (bytes, found)
    }

    #[test]
    fn clusters_of_an_earlier_disk_are_reused_and_give_the_same_file() {
        let directory = tempfile::tempdir().unwrap();
        let cache = ClusterCache::new(directory.path().to_owned(), "tiny");
        let (first, second) = (disk(0..50), disk((20..60).chain(0..10)));
        assert_eq!(written(&first, Some(&cache)).1, 0);
        assert_eq!(written(&second, Some(&cache)), (written(&second, None).0, 40));
        // The second file has replaced the first.
        assert_eq!(
            written(&disk(0..20), Some(&ClusterCache::new(directory.path().to_owned(), "other"))).1,
            10
        );
    }

    #[test]
    fn a_file_with_new_clusters_is_kept_and_the_oldest_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let cache = |image: &str| ClusterCache::new(directory.path().to_owned(), image);
        written(&disk(0..50), Some(&cache("first")));
        written(&disk(4..54), Some(&cache("like-the-first")));
        let names = || {
            let files = cache("any").newest_first();
            files
                .iter()
                .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(), ["first"]);
        for number in 1..=KEPT_FILES as u64 {
            written(&disk(number * 1000..number * 1000 + 9), Some(&cache(&number.to_string())));
            // Its clusters are used, so it stays.
            written(&disk(1000..1009), Some(&cache("again")));
        }
        assert_eq!(names().len(), KEPT_FILES);
        assert!(names().contains(&"1".to_owned()) && !names().contains(&"first".to_owned()), "{:?}", names());
    }

    #[test]
    fn damaged_clusters_and_other_compressors_are_ignored() {
        let directory = tempfile::tempdir().unwrap();
        let cache = ClusterCache::new(directory.path().to_owned(), "tiny");
        let disk = disk(0..50);
        let expected = written(&disk, Some(&cache)).0;
        assert_eq!(cache.load(Qcow2Compression::Zstd).files.len(), 0);
        let path = directory.path().join("tiny");
        let sound = fs::read(&path).unwrap();
        // The place of the damage, and the number of clusters that are still reused.
        let (data, index) = (2 << 16, sound.len() - FOOTER_BYTES - 10);
        for (damage, found) in [(data, 49), (index, 0), (sound.len() - 1, 0), (sound.len() - FOOTER_BYTES, 0)]
        {
            let mut bytes = sound.clone();
            bytes[damage] ^= 1;
            fs::write(&path, bytes).unwrap();
            assert_eq!(written(&disk, Some(&cache)), (expected.clone(), found), "byte {damage}");
        }
        for length in [0, 10, sound.len() / 2] {
            fs::write(&path, &sound[..length]).unwrap();
            assert_eq!(written(&disk, Some(&cache)), (expected.clone(), 0), "{length} bytes");
        }
    }
}
