//! Compresses the clusters of a disk on all processors, and returns them in the order of the disk.
//!
//! ```text
//! reader ─ batches ─> packers (one a processor) ─ each through a channel of its own ─┐
//!    └──────────────── those channels, in the disk's order ──────────────────> consumer
//! ```
//!
//! The order in which the consumer gets clusters depends only on the disk, and not on the number or
//! speed of packers. Every channel is bounded, so the memory is limited.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use flate2::{Compress, Compression, FlushCompress, Status};

use super::clusters::KnownClusters;
use crate::image::Qcow2Compression;
use crate::oci::Digest;
use crate::tree::next_data;

/// Clusters of one batch: with 1 MiB, channels and system calls cost little.
const BATCH_CLUSTERS: usize = 16;

/// The default of zlib, which qemu-img uses.
const ZLIB_LEVEL: u32 = 6;

/// The default of zstd.
const ZSTD_LEVEL: i32 = 3;

/// QEMU decompresses with a window of 4 KiB.
const ZLIB_WINDOW_BITS: u8 = 12;

/// A cluster in its stored form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Packed {
    /// All zeros. It is not stored.
    Zero,
    /// Uncompressed, because compression is off or does not make it smaller.
    Plain(Vec<u8>),
    /// Compressed, and smaller than a cluster.
    Compressed {
        bytes: Vec<u8>,
        /// The digest of the content, if the known clusters were searched for it.
        content: Option<Digest>,
    },
}

/// Options of packing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packing<'a> {
    /// The size of a cluster, a power of two.
    pub(super) cluster_bytes: usize,
    pub(super) compression: Qcow2Compression,
    /// Compressed clusters that may be reused.
    pub(super) known: Option<&'a KnownClusters>,
    /// The number of packers.
    pub(super) threads: usize,
}

struct Batch {
    first_cluster: u64,
    bytes: Vec<u8>,
}

/// The number of the first cluster, and the packed clusters.
type PackedBatch = io::Result<(u64, Vec<Packed>)>;

/// Calls `consume` for every cluster of `raw` that is not a hole, with its number, in ascending
/// order.
///
/// # Errors
/// The first error of reading, compressing or consuming; [`io::ErrorKind::Interrupted`] if
/// `interrupt` becomes true.
pub(super) fn pack(
    raw: &File,
    packing: Packing<'_>,
    interrupt: &AtomicBool,
    mut consume: impl FnMut(u64, Packed) -> io::Result<()>,
) -> io::Result<()> {
    let (batches, to_pack) = sync_channel::<(Batch, SyncSender<PackedBatch>)>(packing.threads);
    let (in_order, packed) = sync_channel::<Receiver<PackedBatch>>(2 * packing.threads);
    let to_pack = Mutex::new(to_pack);
    thread::scope(|scope| {
        for _ in 0..packing.threads {
            scope.spawn(|| run_packer(packing, &to_pack));
        }
        let reader = scope.spawn(move || {
            read_batches(raw, packing, |batch| {
                let (reply, result) = sync_channel(1);
                // The channel of the result is sent first, because it fixes the order for the
                // consumer. Both sends fail after the consumer has given up.
                !interrupt.load(Ordering::Relaxed)
                    && in_order.send(result).is_ok()
                    && batches.send((batch, reply)).is_ok()
            })
        });
        let consumed = packed.iter().try_for_each(|result| {
            let (first, clusters) = result.recv().map_err(io::Error::other)??;
            (first..).zip(clusters).try_for_each(|(number, cluster)| consume(number, cluster))
        });
        // After a failure, the reader may be waiting for space in this channel. Without the drop it
        // would wait forever.
        drop(packed);
        let read = reader.join().expect("reading does not panic");
        if interrupt.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        read.and(consumed)
    })
}

/// Reads the data of `raw` in whole clusters and passes them to `send`, until `send` returns false.
fn read_batches(raw: &File, packing: Packing<'_>, send: impl Fn(Batch) -> bool) -> io::Result<()> {
    let cluster = packing.cluster_bytes as u64;
    let size = raw.metadata()?.len();
    let mut position = 0;
    while let Some(data) = next_data(raw, position)? {
        // A range may begin in the cluster in which the range before ended.
        position = position.max(data.start / cluster * cluster);
        let end = data.end.div_ceil(cluster) * cluster;
        while position < end {
            let bytes = (end - position).min(BATCH_CLUSTERS as u64 * cluster);
            let batch =
                Batch { first_cluster: position / cluster, bytes: read_padded(raw, position, bytes, size)? };
            if !send(batch) {
                return Ok(());
            }
            position += bytes;
        }
        if position >= size {
            break;
        }
    }
    Ok(())
}

/// Reads `bytes` at `position`. Fills with zeros beyond the end of the file, whose last cluster may
/// be incomplete.
fn read_padded(raw: &File, position: u64, bytes: u64, size: u64) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; bytes as usize];
    let present = bytes.min(size - position) as usize;
    raw.read_exact_at(&mut buffer[..present], position)?;
    Ok(buffer)
}

fn run_packer(packing: Packing<'_>, batches: &Mutex<Receiver<(Batch, SyncSender<PackedBatch>)>>) {
    let mut packer = Packer::new(packing);
    loop {
        let next = batches.lock().expect("no packer panics").recv();
        let Ok((batch, reply)) = next else { return };
        let clusters = packer.as_mut().map_err(|error| io::Error::new(error.kind(), error.to_string()));
        let clusters = clusters.and_then(|packer| packer.pack_batch(&batch.bytes, packing.cluster_bytes));
        // The send fails after the consumer has given up.
        let _ = reply.send(clusters.map(|clusters| (batch.first_cluster, clusters)));
    }
}

struct Packer<'a> {
    compressor: Compressor,
    known: Option<&'a KnownClusters>,
}

impl<'a> Packer<'a> {
    fn new(packing: Packing<'a>) -> io::Result<Self> {
        Ok(Self { compressor: Compressor::new(packing.compression)?, known: packing.known })
    }

    fn pack_batch(&mut self, bytes: &[u8], cluster_bytes: usize) -> io::Result<Vec<Packed>> {
        bytes.chunks_exact(cluster_bytes).map(|cluster| self.pack_cluster(cluster)).collect()
    }

    fn pack_cluster(&mut self, cluster: &[u8]) -> io::Result<Packed> {
        if is_zero(cluster) {
            return Ok(Packed::Zero);
        }
        let content = self.known.map(|_| Digest::of(cluster));
        let known = self.known.zip(content.as_ref()).and_then(|(known, content)| known.find(content));
        let compressed = match known {
            Some(bytes) => Some(bytes),
            None => self.compressor.compress(cluster)?,
        };
        let smaller = compressed.filter(|compressed| compressed.len() < cluster.len());
        Ok(smaller
            .map_or_else(|| Packed::Plain(cluster.to_vec()), |bytes| Packed::Compressed { bytes, content }))
    }
}

/// A compressor. Its memory is reused for each cluster.
enum Compressor {
    None,
    Zlib(Compress),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Compressor {
    fn new(compression: Qcow2Compression) -> io::Result<Self> {
        Ok(match compression {
            Qcow2Compression::None => Compressor::None,
            Qcow2Compression::Zlib => {
                let level = Compression::new(ZLIB_LEVEL);
                Compressor::Zlib(Compress::new_with_window_bits(level, false, ZLIB_WINDOW_BITS))
            }
            Qcow2Compression::Zstd => Compressor::Zstd(zstd::bulk::Compressor::new(ZSTD_LEVEL)?),
        })
    }

    fn compress(&mut self, cluster: &[u8]) -> io::Result<Option<Vec<u8>>> {
        match self {
            Compressor::None => Ok(None),
            Compressor::Zlib(compress) => deflate(compress, cluster),
            Compressor::Zstd(compressor) => compressor.compress(cluster).map(Some),
        }
    }
}

/// Returns the cluster as one deflate stream without header, or `None` if that is not smaller.
fn deflate(compress: &mut Compress, cluster: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut compressed = vec![0; cluster.len()];
    compress.reset();
    let status =
        compress.compress(cluster, &mut compressed, FlushCompress::Finish).map_err(io::Error::other)?;
    compressed.truncate(compress.total_out() as usize);
    Ok((status == Status::StreamEnd).then_some(compressed))
}

/// Returns true if every byte is zero. Works on blocks, for which compilers use wide instructions.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(128).all(|block| block.iter().fold(0, |all, byte| all | byte) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: usize = 65536;

    fn packed(raw: &File, threads: usize, compression: Qcow2Compression) -> Vec<(u64, Packed)> {
        let packing = Packing { cluster_bytes: CLUSTER, compression, known: None, threads };
        let mut all = Vec::new();
        pack(raw, packing, &AtomicBool::new(false), |number, cluster| {
            all.push((number, cluster));
            Ok(())
        })
        .unwrap();
        all
    }

    /// Returns a disk with clusters 0, 100..140 and half of the last one: text, noise and zeros in
    /// turn.
    fn disk() -> File {
        let disk = tempfile::tempfile().unwrap();
        disk.set_len(200 * CLUSTER as u64 + 512).unwrap();
        let mut noise = 1u32;
        for number in (0..1).chain(100..140).chain(200..201) {
            let bytes: Vec<u8> = (0..if number == 200 { 512 } else { CLUSTER })
                .map(|at| {
                    noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    [b"text "[at % 5], (noise >> 24) as u8, 0][number % 3]
                })
                .collect();
            disk.write_all_at(&bytes, (number * CLUSTER) as u64).unwrap();
        }
        disk
    }

    #[test]
    fn order_and_bytes_do_not_depend_on_the_number_of_threads() {
        let disk = disk();
        for compression in [Qcow2Compression::None, Qcow2Compression::Zlib, Qcow2Compression::Zstd] {
            let one = packed(&disk, 1, compression);
            assert!(one.is_sorted_by_key(|(number, _)| *number));
            assert!(one == packed(&disk, 5, compression));
        }
    }

    #[test]
    fn holes_are_skipped_noise_is_plain_and_text_is_compressed() {
        let all = packed(&disk(), 2, Qcow2Compression::Zlib);
        let find = |wanted| all.iter().find(|(number, _)| *number == wanted).map(|(_, cluster)| cluster);
        assert!(matches!(find(0), Some(Packed::Compressed { bytes, .. }) if bytes.len() < 1000));
        assert!(matches!(find(100), Some(Packed::Plain(bytes)) if bytes.len() == CLUSTER));
        assert_eq!(find(101), Some(&Packed::Zero));
        assert_eq!(find(50), None);
    }

    #[test]
    fn errors_of_the_consumer_and_interrupts_end_packing() {
        let packing =
            Packing { cluster_bytes: CLUSTER, compression: Qcow2Compression::Zlib, known: None, threads: 2 };
        let full = |_, _| Err(io::ErrorKind::StorageFull.into());
        let error = pack(&disk(), packing, &AtomicBool::new(false), full).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let error = pack(&disk(), packing, &AtomicBool::new(true), |_, _| Ok(())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
    }
}
