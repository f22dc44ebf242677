//! Writes qcow2 files of QEMU in one pass.
//!
//! ```text
//! cluster 0   header
//!         1…  L1 table: one entry for 512 MiB of disk, each pointing to an L2 table
//!         …   data: compressed clusters close together, others on cluster boundaries; behind the data of each
//!             512 MiB, their L2 table: one entry for 64 KiB of disk
//!         …   refcount blocks and table: how many users each cluster of this file has
//! ```
//!
//! Clusters of zeros are not in the file. The bytes do not depend on the time or the number of
//! threads.
//!
//! Source: QEMU, `docs/interop/qcow2.txt`.

use std::fs::File;
use std::io;
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::sync::atomic::AtomicBool;
use std::thread;

use super::clusters::{Cluster, KnownClusters};
use super::format::{Compatibility, Qcow2Options};
use super::pack::{Packed, Packing, pack};
use crate::image::Qcow2Compression;
use crate::oci::Digest;

const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;

/// Entries of a table of one cluster.
const TABLE_ENTRIES: u64 = CLUSTER / 8;

/// Refcounts of 16 bits in a block of one cluster.
const BLOCK_ENTRIES: u64 = CLUSTER / 2;

/// Only this entry refers to the cluster, so QEMU may write to it in place.
const COPIED: u64 = 1 << 63;

const COMPRESSED: u64 = 1 << 62;

/// The first bit of the number of further sectors in an entry of a compressed cluster.
const SECTORS_SHIFT: u32 = 62 - (CLUSTER_BITS - 8);

/// Incompatible feature: the header names a compression other than deflate.
const COMPRESSION_TYPE: u64 = 1 << 3;

const HEADER_BYTES: usize = 112;

/// Writes the disk `raw` to the empty file `target`, and reuses `known` clusters. If `known` is
/// given, returns the compressed clusters.
pub(super) fn write_qcow2(
    raw: &File,
    target: &File,
    options: Qcow2Options,
    known: Option<&KnownClusters>,
    interrupt: &AtomicBool,
) -> io::Result<Vec<Cluster>> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let packing =
        Packing { cluster_bytes: CLUSTER as usize, compression: options.compression, known, threads };
    let mut image = Image::new(target, raw.metadata()?.len());
    pack(raw, packing, interrupt, |number, cluster| image.append(number, &cluster))?;
    image.finish(options)
}

struct Image<'a> {
    file: &'a File,
    /// The size of the disk, in whole sectors.
    disk_bytes: u64,
    l1: Vec<u64>,
    /// The L2 table being filled, and its number.
    l2: Vec<u64>,
    l2_number: u64,
    /// One for each cluster of the file.
    refcounts: Vec<u16>,
    /// Compressed clusters with a known digest of their content.
    clusters: Vec<Cluster>,
    /// The offset for the next compressed cluster, and the end of the space that is reserved for
    /// compressed clusters.
    packed: (u64, u64),
}

impl<'a> Image<'a> {
    fn new(file: &'a File, disk_bytes: u64) -> Self {
        let l1_entries = disk_bytes.div_ceil(CLUSTER * TABLE_ENTRIES).max(1);
        let mut image = Self {
            file,
            disk_bytes: disk_bytes.next_multiple_of(512),
            l1: vec![0; l1_entries as usize],
            l2: vec![0; TABLE_ENTRIES as usize],
            l2_number: 0,
            refcounts: Vec::new(),
            clusters: Vec::new(),
            packed: (0, 0),
        };
        image.take(1 + (l1_entries * 8).div_ceil(CLUSTER));
        image
    }

    /// Appends clusters to the file, each with refcount 1, and returns the offset of the first.
    fn take(&mut self, clusters: u64) -> u64 {
        let start = self.end();
        self.refcounts.resize(self.refcounts.len() + clusters as usize, 1);
        start
    }

    fn end(&self) -> u64 {
        self.refcounts.len() as u64 * CLUSTER
    }

    fn append(&mut self, number: u64, cluster: &Packed) -> io::Result<()> {
        let entry = match cluster {
            Packed::Zero => return Ok(()),
            Packed::Plain(bytes) => {
                let offset = self.take(1);
                self.file.write_all_at(bytes, offset)?;
                offset | COPIED
            }
            Packed::Compressed { bytes, content } => self.append_compressed(bytes, *content)?,
        };
        if number / TABLE_ENTRIES != self.l2_number {
            self.write_l2()?;
            self.l2_number = number / TABLE_ENTRIES;
        }
        self.l2[(number % TABLE_ENTRIES) as usize] = entry;
        Ok(())
    }

    /// Appends a compressed cluster directly after the one before; it may cross a boundary of
    /// clusters of the file. The refcount of a cluster of the file is the number of compressed
    /// clusters in it.
    fn append_compressed(&mut self, bytes: &[u8], content: Option<Digest>) -> io::Result<u64> {
        let offset = self.room_for(bytes.len() as u64);
        self.file.write_all_at(bytes, offset)?;
        let (length, checksum) = (bytes.len() as u32, crc32fast::hash(bytes));
        self.clusters.extend(content.map(|content| Cluster { content, offset, length, checksum }));
        let last = offset + bytes.len() as u64 - 1;
        for cluster in offset / CLUSTER..=last / CLUSTER {
            self.refcounts[cluster as usize] += 1;
        }
        let further_sectors = last / 512 - offset / 512;
        Ok(offset | further_sectors << SECTORS_SHIFT | COMPRESSED)
    }

    fn room_for(&mut self, bytes: u64) -> u64 {
        let (mut start, mut end) = self.packed;
        if start + bytes > end {
            let next = self.end();
            // If other data follows the last compressed cluster, the rest of its cluster stays
            // empty.
            if end != next {
                start = next;
            }
            end = next + CLUSTER;
            // Refcount 0: `append_compressed` counts each compressed cluster.
            self.refcounts.push(0);
        }
        self.packed = (start + bytes, end);
        start
    }

    fn write_l2(&mut self) -> io::Result<()> {
        if self.l2.iter().any(|&entry| entry != 0) {
            let offset = self.take(1);
            self.file.write_all_at(&big_endian(&self.l2), offset)?;
            self.l1[self.l2_number as usize] = offset | COPIED;
            self.l2.fill(0);
        }
        Ok(())
    }

    fn finish(mut self, options: Qcow2Options) -> io::Result<Vec<Cluster>> {
        self.write_l2()?;
        self.file.write_all_at(&big_endian(&self.l1), CLUSTER)?;
        let (table, table_clusters) = self.write_refcounts()?;
        self.file.set_len(self.end())?;
        self.file.write_all_at(&self.header(options, table, table_clusters), 0)?;
        Ok(self.clusters)
    }

    /// Writes the refcounts, also of their own clusters. Returns the offset of their table and its
    /// number of clusters.
    fn write_refcounts(&mut self) -> io::Result<(u64, u64)> {
        let data_clusters = self.refcounts.len() as u64;
        let (mut blocks, mut table_clusters) = (0, 0);
        // Each block has the refcounts of 32,768 clusters. The blocks and the table are clusters
        // too, so their number is increased until it fits.
        while (blocks, table_clusters) != refcount_clusters(data_clusters + blocks + table_clusters) {
            (blocks, table_clusters) = refcount_clusters(data_clusters + blocks + table_clusters);
        }
        let first_block = self.take(blocks);
        let table = self.take(table_clusters);
        let counts: Vec<u8> = self.refcounts.iter().flat_map(|count| count.to_be_bytes()).collect();
        self.file.write_all_at(&counts, first_block)?;
        let entries: Vec<_> = (0..blocks).map(|block| first_block + block * CLUSTER).collect();
        self.file.write_all_at(&big_endian(&entries), table)?;
        Ok((table, table_clusters))
    }

    fn header(&self, options: Qcow2Options, table: u64, table_clusters: u64) -> Vec<u8> {
        let zstd = options.compression == Qcow2Compression::Zstd;
        let version = if options.compatibility == Compatibility::V2 { 2 } else { 3u32 };
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend(b"QFI\xfb");
        header.extend(version.to_be_bytes());
        // No backing file: offset and size.
        header.extend([0; 12]);
        header.extend(CLUSTER_BITS.to_be_bytes());
        header.extend(self.disk_bytes.to_be_bytes());
        // No encryption.
        header.extend([0; 4]);
        header.extend((self.l1.len() as u32).to_be_bytes());
        header.extend(CLUSTER.to_be_bytes());
        header.extend(table.to_be_bytes());
        header.extend((table_clusters as u32).to_be_bytes());
        // No snapshots: number and offset.
        header.extend([0; 12]);
        if version == 3 {
            header.extend(if zstd { COMPRESSION_TYPE } else { 0 }.to_be_bytes());
            // No compatible and no auto-clear features.
            header.extend([0; 16]);
            // Refcounts have 2^4 bits.
            header.extend(4u32.to_be_bytes());
            header.extend((HEADER_BYTES as u32).to_be_bytes());
            header.extend([u8::from(zstd), 0, 0, 0, 0, 0, 0, 0]);
        }
        header
    }
}

/// Returns the number of blocks and table clusters for `clusters` refcounts.
fn refcount_clusters(clusters: u64) -> (u64, u64) {
    let blocks = clusters.div_ceil(BLOCK_ENTRIES);
    (blocks, blocks.div_ceil(TABLE_ENTRIES))
}

fn big_endian(table: &[u64]) -> Vec<u8> {
    table.iter().flat_map(|entry| entry.to_be_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a disk with two clusters of text around a hole as large as an L2 table, and then
    /// noise.
    fn raw() -> File {
        let raw = tempfile::tempfile().unwrap();
        raw.set_len((600 << 20) + 512).unwrap();
        raw.write_all_at(&b"plywood ".repeat(16_384), 0).unwrap();
        let noise: Vec<u8> = (0..CLUSTER / 32).flat_map(|n| *Digest::of(n.to_be_bytes()).bytes()).collect();
        raw.write_all_at(&noise, 599 << 20).unwrap();
        raw
    }

    fn written(options: Qcow2Options) -> Vec<u8> {
        let target = tempfile::tempfile().unwrap();
        write_qcow2(&raw(), &target, options, None, &AtomicBool::new(false)).unwrap();
        let mut bytes = vec![0; target.metadata().unwrap().len() as usize];
        target.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    fn number(bytes: &[u8], offset: u64) -> u64 {
        u64::from_be_bytes(bytes[offset as usize..][..8].try_into().unwrap())
    }

    #[test]
    fn headers_match_the_specification() {
        use Qcow2Compression::{Zlib, Zstd};
        for (compression, compatibility, expected) in [
            (Zlib, Compatibility::V2, "2 0 0"),
            (Zlib, Compatibility::V3, "3 0 0"),
            (Zstd, Compatibility::V3, "3 8 1"),
        ] {
            let image = written(Qcow2Options { compression, compatibility });
            assert_eq!(&image[..4], b"QFI\xfb");
            let (version, features, kind) = (image[7], number(&image, 72), image[104]);
            assert_eq!(format!("{version} {features} {kind}"), expected);
            assert_eq!((number(&image, 24), number(&image, 40)), ((600 << 20) + 512, CLUSTER));
            assert_eq!(u32::from_be_bytes(image[36..40].try_into().unwrap()), 2);
            assert_eq!(image.len() as u64 % CLUSTER, 0);
        }
    }

    #[test]
    fn tables_lead_to_the_data() {
        let image = written(Qcow2Options::default());
        let table = |index: u64| number(&image, CLUSTER + 8 * index) & !COPIED;
        let first = number(&image, table(0));
        assert_eq!(first >> 62, 1, "compressed");
        let offset = (first & ((1 << SECTORS_SHIFT) - 1)) as usize;
        let mut inflate = flate2::Decompress::new_with_window_bits(false, 12);
        let mut cluster = vec![0; CLUSTER as usize];
        inflate.decompress(&image[offset..], &mut cluster, flate2::FlushDecompress::Finish).unwrap();
        assert_eq!(cluster, b"plywood ".repeat(8192));
        let noise = number(&image, table(1) + 8 * ((599 << 20) / CLUSTER % TABLE_ENTRIES));
        assert_eq!(noise >> 62, 2, "in place");
        assert_eq!(image[(noise & !COPIED) as usize..][..32], *Digest::of(0u64.to_be_bytes()).bytes());
    }

    /// A golden test without compression: a new version of a compressor may change its bytes, but
    /// plywood's own layout must not change.
    #[test]
    fn layout_is_pinned() {
        let options = Qcow2Options { compression: Qcow2Compression::None, compatibility: Compatibility::V3 };
        assert_eq!(Digest::of(written(options)).short(), "02cc3df01447");
    }
}
