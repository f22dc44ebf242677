//! Compressing and decompressing archives.
//!
//! gzip compresses several blocks at a time, as `pigz` does. The dictionary of each block is the
//! end of the block before, and each block ends at a byte boundary. All blocks have the same size,
//! so that the output does not depend on the number of threads. The header has no name and no time.
//!
//! Source: RFC 1951, RFC 1952.

use std::collections::VecDeque;
use std::io::{self, BufReader, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

use super::pack::{workers, zstd_encoder};
use crate::layer::Encoding;

/// Returns a reader of the archive in `blob`. Blobs of several gzip members or zstd frames are one
/// archive.
pub(super) fn decoder<'a, R: Read + 'a>(encoding: Encoding, blob: R) -> io::Result<Box<dyn Read + 'a>> {
    let blob = BufReader::with_capacity(128 * 1024, blob);
    Ok(match encoding {
        Encoding::None => Box::new(blob),
        Encoding::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(blob)),
        Encoding::Zstd => Box::new(zstd::Decoder::with_buffer(blob)?),
    })
}

/// Writes all of `archive` to `out` in an encoding, on all processors.
pub(super) fn encode<W: Write>(encoding: Encoding, archive: &mut dyn Read, out: W) -> io::Result<W> {
    match encoding {
        Encoding::None => {
            let mut out = out;
            io::copy(archive, &mut out)?;
            Ok(out)
        }
        Encoding::Gzip => gzip(archive, out, workers()),
        Encoding::Zstd => {
            let mut encoder = zstd_encoder(out)?;
            io::copy(archive, &mut encoder)?;
            encoder.finish()
        }
    }
}

/// gzip's own default. Higher levels take twice the time to save one percent.
const GZIP_LEVEL: u32 = 6;
/// A change of this size changes the bytes of every gzip blob.
const BLOCK_BYTES: usize = 512 * 1024;
/// The window of deflate.
const DICTIONARY_BYTES: usize = 32 * 1024;
/// Identification, method deflate, no flags, no time, no extra flags, unknown system.
const GZIP_HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// One block and the bytes before it.
struct Block {
    dictionary: Vec<u8>,
    bytes: Vec<u8>,
    flush: FlushCompress,
}

fn gzip<W: Write>(archive: &mut dyn Read, mut out: W, threads: usize) -> io::Result<W> {
    out.write_all(&GZIP_HEADER)?;
    let mut crc = Crc::new();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                let (to_worker, blocks) = sync_channel(2);
                let (to_writer, deflated) = sync_channel(2);
                scope.spawn(move || deflate_all(blocks, to_writer));
                (to_worker, deflated)
            })
            .collect();
        deflate_in_order(archive, &mut out, &mut crc, &workers)
    })?;
    out.write_all(&crc.sum().to_le_bytes())?;
    out.write_all(&crc.amount().to_le_bytes())?;
    Ok(out)
}

type Worker = (SyncSender<Block>, Receiver<io::Result<Vec<u8>>>);

/// Gives blocks to the workers in turn, and collects the results in the same order.
fn deflate_in_order(
    archive: &mut dyn Read,
    out: &mut impl Write,
    crc: &mut Crc,
    workers: &[Worker],
) -> io::Result<()> {
    let gone = || io::Error::other("a compressing thread ended early");
    let mut turns = workers.iter().cycle();
    let mut waiting: VecDeque<&Worker> = VecDeque::new();
    let mut dictionary = Vec::new();
    let mut bytes = read_block(archive)?;
    loop {
        let next = read_block(archive)?;
        let flush = if next.is_empty() { FlushCompress::Finish } else { FlushCompress::Sync };
        crc.update(&bytes);
        let tail = bytes[bytes.len().saturating_sub(DICTIONARY_BYTES)..].to_vec();
        let block = Block { dictionary: std::mem::replace(&mut dictionary, tail), bytes, flush };
        let worker = turns.next().ok_or_else(gone)?;
        worker.0.send(block).map_err(|_| gone())?;
        waiting.push_back(worker);
        let is_last = next.is_empty();
        while waiting.len() > if is_last { 0 } else { 2 * workers.len() - 1 } {
            let worker = waiting.pop_front().ok_or_else(gone)?;
            out.write_all(&worker.1.recv().map_err(|_| gone())??)?;
        }
        if is_last {
            return Ok(());
        }
        bytes = next;
    }
}

fn read_block(archive: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    archive.take(BLOCK_BYTES as u64).read_to_end(&mut block)?;
    Ok(block)
}

fn deflate_all(blocks: Receiver<Block>, results: SyncSender<io::Result<Vec<u8>>>) {
    for block in blocks {
        if results.send(deflate(&block)).is_err() {
            return;
        }
    }
}

fn deflate(block: &Block) -> io::Result<Vec<u8>> {
    let mut deflate = Compress::new(Compression::new(GZIP_LEVEL), false);
    if !block.dictionary.is_empty() {
        deflate.set_dictionary(&block.dictionary)?;
    }
    // An incompressible block grows by a few bytes, so the output is a little larger than the
    // block.
    let mut out = Vec::with_capacity(block.bytes.len() + block.bytes.len() / 1000 + 64);
    loop {
        let rest = &block.bytes[deflate.total_in() as usize..];
        let status = deflate.compress_vec(rest, &mut out, block.flush)?;
        let is_done = match block.flush {
            FlushCompress::Finish => status == Status::StreamEnd,
            _ => deflate.total_in() as usize == block.bytes.len() && out.len() < out.capacity(),
        };
        if is_done {
            return Ok(out);
        }
        out.reserve(BLOCK_BYTES / 8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns compressible text without a period, because blocks could align with one.
    fn sample(bytes: usize) -> Vec<u8> {
        let mut state = 1u32;
        let mut step = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b"abcdefgh    \n"[(state >> 24) as usize % 13]
        };
        (0..bytes).map(|_| step()).collect()
    }

    fn read_all(mut reader: impl Read) -> Vec<u8> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn every_encoding_decodes_to_the_same_bytes() {
        for bytes in [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 5 * BLOCK_BYTES + 7] {
            let content = sample(bytes);
            for encoding in [Encoding::None, Encoding::Gzip, Encoding::Zstd] {
                let blob = encode(encoding, &mut content.as_slice(), Vec::new()).unwrap();
                assert!(
                    read_all(decoder(encoding, blob.as_slice()).unwrap()) == content,
                    "{encoding:?} {bytes}"
                );
                if bytes > 0 && encoding != Encoding::None {
                    assert_eq!(Encoding::detect(&blob), encoding);
                    assert!(blob.len() < bytes + 64, "{encoding:?} {bytes}: {}", blob.len());
                }
            }
        }
    }

    #[test]
    fn skippable_frames_are_skipped_wherever_they_are() {
        let content = sample(1000);
        let frame = |part: &[u8]| encode(Encoding::Zstd, &mut &*part, Vec::new()).unwrap();
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        let blob = [&skippable[..], &frame(&content[..400]), &skippable, &frame(&content[400..]), &skippable]
            .concat();
        assert_eq!(Encoding::detect(&blob), Encoding::Zstd);
        assert!(read_all(decoder(Encoding::detect(&blob), blob.as_slice()).unwrap()) == content);
    }

    #[test]
    fn threads_do_not_change_the_bytes() {
        let content = sample(7 * BLOCK_BYTES + 100);
        let one = gzip(&mut content.as_slice(), Vec::new(), 1).unwrap();
        for threads in [2, 3, 8] {
            assert!(gzip(&mut content.as_slice(), Vec::new(), threads).unwrap() == one, "{threads} threads");
        }
    }

    #[test]
    fn incompressible_bytes_survive() {
        let mut state = 7u64;
        let random: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .take(3 * BLOCK_BYTES + 5)
        .collect();
        let blob = gzip(&mut random.as_slice(), Vec::new(), 2).unwrap();
        assert!(read_all(decoder(Encoding::Gzip, blob.as_slice()).unwrap()) == random);
    }
}
