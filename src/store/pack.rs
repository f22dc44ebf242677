//! Packs a changeset into a blob, with several threads.
//!
//! ```text
//! files ──> tar ──┬──> DiffID
//! (this thread)   └──> zstd (its own workers) ──> digest, blob
//! ```
//!
//! A few chunks are in memory, whatever the size of the layer. The output of zstd is the same for
//! every number of workers, but differs without workers, so there is always at least one.

use std::io::{self, Write};
use std::num::NonZero;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use rustix::fs::OFlags;

use super::blob::BlobWriter;
use super::file::{DIRECTORY, failed, open_beneath, split};
use super::holes::{self, ZeroFinder};
use super::interrupt::Interrupt;
use super::overlay::apply_meta;
use crate::layer::{Encoder, Encoding, Entry, Kind, LayerError, display};
use crate::oci::{DiffId, Digest, Hasher};
use crate::port::{Layer, StoreError};
use crate::tree;

/// zstd's own default: three times as fast as the default of gzip, and smaller.
const LEVEL: i32 = 3;
const CHUNK_BYTES: usize = 1 << 20;
/// Chunks that may wait for a consumer.
const QUEUE: usize = 4;

type Chunk = Arc<Vec<u8>>;

/// Writes `entries` of the upper directory as a compressed archive into `blob`.
///
/// # Errors
/// [`LayerError`] if an entry cannot be encoded, [`StoreError::Io`].
pub(super) fn pack(
    entries: &[Entry],
    upper: BorrowedFd<'_>,
    blob: BlobWriter,
    interrupt: &Interrupt,
) -> Result<Layer, StoreError> {
    let (to_hash, hashed) = sync_channel(QUEUE);
    let (to_blob, compressed) = sync_channel(QUEUE);
    thread::scope(|scope| {
        let hashing = scope.spawn(|| hash(hashed));
        let compressing = scope.spawn(|| compress(compressed, blob));
        let written = write_archive(entries, upper, Fanout::new([to_hash, to_blob]), interrupt);
        let (diff_id, tar_bytes) = hashing.join().expect("hashing does not panic");
        // On a full disk the compressor fails first, and this makes the archive fail. The error of
        // the compressor is the cause, so it is reported.
        let (blob, blob_bytes) = compressing.join().expect("compressing does not panic")?;
        let entries = written?;
        let encoding = Encoding::Zstd;
        Ok(Layer { diff_id: DiffId::new(diff_id), tar_bytes, entries, blob, blob_bytes, encoding })
    })
}

/// Returns the number of compressing threads.
pub(super) fn workers() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

fn hash(chunks: Receiver<Chunk>) -> (Digest, u64) {
    let (mut hasher, mut bytes) = (Hasher::default(), 0);
    for chunk in chunks {
        hasher.update(&chunk);
        bytes += chunk.len() as u64;
    }
    (hasher.finish(), bytes)
}

fn compress(chunks: Receiver<Chunk>, blob: BlobWriter) -> Result<(Digest, u64), StoreError> {
    let path = blob.path().to_owned();
    let write = || -> io::Result<BlobWriter> {
        let mut encoder = zstd_encoder(blob)?;
        chunks.iter().try_for_each(|chunk| encoder.write_all(&chunk))?;
        encoder.finish()
    };
    write().map_err(failed("write", &path))?.finish()
}

/// Starts a zstd frame with plywood's settings.
pub(super) fn zstd_encoder<W: Write>(out: W) -> io::Result<zstd::Encoder<'static, W>> {
    let mut encoder = zstd::Encoder::new(out, LEVEL)?;
    encoder.multithread(workers() as u32)?;
    Ok(encoder)
}

fn write_archive(
    entries: &[Entry],
    upper: BorrowedFd<'_>,
    out: Fanout,
    interrupt: &Interrupt,
) -> Result<u64, StoreError> {
    let mut encoder = Encoder::new(out);
    for entry in entries {
        match entry.kind {
            Kind::File(_) => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW;
                let error = |source| LayerError::Write { path: display(&entry.path), source };
                let file = open_beneath(upper, &entry.path, flags).map_err(|source| error(source.into()))?;
                let content = tree::content(file.into()).map_err(error)?;
                let mut content = ZeroFinder::new(interrupt.reader(content));
                encoder.append_file(entry, &mut content)?;
                make_holes(entry, upper, &content.into_holes()).map_err(error)?;
            }
            _ => encoder.append(entry)?,
        }
    }
    let (out, entries) = encoder.finish()?;
    out.finish().map_err(|source| LayerError::Write { path: "/".to_owned(), source })?;
    Ok(entries)
}

/// Makes the same holes in a file as unpacking its layer would. A disk made from this snapshot then
/// has the same size as a disk made from an unpacked layer.
fn make_holes(entry: &Entry, upper: BorrowedFd<'_>, zeros: &[Range<u64>]) -> io::Result<()> {
    let bytes: u64 = zeros.iter().map(|range| range.end - range.start).sum();
    if bytes == 0 {
        return Ok(());
    }
    let file = std::fs::File::from(open_beneath(upper, &entry.path, OFlags::RDWR | OFlags::NOFOLLOW)?);
    let stat = rustix::fs::fstat(&file)?;
    // If the file has these holes already, it is not changed.
    if (stat.st_blocks as u64).saturating_mul(512) > (stat.st_size as u64).saturating_sub(bytes) {
        holes::punch(&file, zeros)?;
        // Punching a hole is a write for the kernel: it sets the time and removes file
        // capabilities. Both are restored from the entry.
        let (parent, name) = split(&entry.path);
        let parent = open_beneath(upper, parent, DIRECTORY)?;
        apply_meta(parent.as_fd(), name, &entry.kind, &entry.meta)?;
    }
    Ok(())
}

/// Collects bytes into chunks and sends each chunk to both consumers.
struct Fanout {
    consumers: [SyncSender<Chunk>; 2],
    chunk: Vec<u8>,
    /// Sent chunks, oldest first. Their memory is reused after both consumers have finished with
    /// them.
    sent: std::collections::VecDeque<Chunk>,
}

impl Fanout {
    fn new(consumers: [SyncSender<Chunk>; 2]) -> Self {
        Self { consumers, chunk: Vec::with_capacity(CHUNK_BYTES), sent: Default::default() }
    }

    fn send(&mut self) -> io::Result<()> {
        let empty = self.recycled();
        let chunk = Arc::new(std::mem::replace(&mut self.chunk, empty));
        for consumer in &self.consumers {
            let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the compressor ended early");
            consumer.send(chunk.clone()).map_err(gone)?;
        }
        self.sent.push_back(chunk);
        Ok(())
    }

    fn recycled(&mut self) -> Vec<u8> {
        let oldest = self.sent.pop_front().map(Arc::try_unwrap);
        match oldest {
            Some(Ok(mut chunk)) => {
                chunk.clear();
                chunk
            }
            Some(Err(busy)) => {
                self.sent.push_front(busy);
                Vec::with_capacity(CHUNK_BYTES)
            }
            None => Vec::with_capacity(CHUNK_BYTES),
        }
    }

    fn finish(mut self) -> io::Result<()> {
        self.send()
    }
}

impl Write for Fanout {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let count = buffer.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&buffer[..count]);
        if self.chunk.len() == CHUNK_BYTES {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
