//! Holes in files.
//!
//! An archive holds all zeros of a sparse file. Unpacking does not write long runs of zeros, so an
//! unpacked layer uses no more disk space than the files that the layer was made of.
//!
//! Holes depend only on the content, so that a disk made of unpacked layers is the same everywhere:
//! each granule of [`HOLE_BYTES`](crate::layer::HOLE_BYTES) that holds only zeros is a hole. Swap
//! files get no holes, because the kernel refuses swap files with holes.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use crate::layer::{HOLE_BYTES as GRANULE_BYTES, read_full};

/// Large enough for few system calls, and for the first buffer to hold every swap signature.
const BUFFER_BYTES: usize = 2 * GRANULE_BYTES;

/// The largest page size of Linux. The signature of a swap area is at the end of the first page.
const SWAP_HEADER_BYTES: usize = 64 * 1024;

static ZEROS: [u8; GRANULE_BYTES] = [0; GRANULE_BYTES];

/// Writes `content` to the empty `file`. Before each write, calls `spend` with the number of bytes.
pub(super) fn copy(
    content: &mut impl Read,
    file: &File,
    mut spend: impl FnMut(u64) -> io::Result<()>,
) -> io::Result<()> {
    let (mut buffer, mut offset, mut written, mut is_swap) = (vec![0; BUFFER_BYTES], 0, 0, false);
    loop {
        // Full buffers keep granules aligned: a single read of a decoder may return fewer bytes.
        let filled = read_full(content, &mut buffer)?;
        if filled == 0 {
            break;
        }
        is_swap |= offset == 0 && has_swap_signature(&buffer[..filled]);
        for granule in buffer[..filled].chunks(GRANULE_BYTES) {
            if is_swap || !is_hole(granule) {
                spend(granule.len() as u64)?;
                file.write_all_at(granule, offset)?;
                written = offset + granule.len() as u64;
            }
            offset += granule.len() as u64;
        }
    }
    // A hole at the end was not written, so the file is still too short.
    if written < offset { file.set_len(offset) } else { Ok(()) }
}

/// Returns true for a granule that becomes a hole. A shorter one at the end of a file is always
/// written.
fn is_hole(granule: &[u8]) -> bool {
    granule.len() == GRANULE_BYTES && *granule == ZEROS
}

/// Returns true if `start`, the beginning of a file, has the signature of a swap area.
///
/// Source: `mkswap(8)`, Linux `include/linux/swap.h`, `union swap_header`. Pages have 4 KiB on most
/// machines and 64 KiB at most.
fn has_swap_signature(start: &[u8]) -> bool {
    let pages = [4096, 8192, 16384, SWAP_HEADER_BYTES];
    pages.iter().any(|page| matches!(start.get(page - 10..*page), Some(b"SWAPSPACE2" | b"SWAP-SPACE")))
}

/// A reader that passes content on, and collects the granules of zeros that unpacking turns into
/// holes.
pub(super) struct ZeroFinder<R> {
    content: R,
    position: u64,
    /// True if the current granule so far holds only zeros.
    is_zero: bool,
    /// The start of the file, up to the last place of a swap signature.
    start: Vec<u8>,
    /// Granules of zeros; adjacent ones are one range.
    zeros: Vec<Range<u64>>,
}

impl<R: Read> ZeroFinder<R> {
    pub(super) fn new(content: R) -> Self {
        Self { content, position: 0, is_zero: true, start: Vec::new(), zeros: Vec::new() }
    }

    /// Returns the ranges that are holes after the file was unpacked.
    pub(super) fn into_holes(self) -> Vec<Range<u64>> {
        if has_swap_signature(&self.start) { Vec::new() } else { self.zeros }
    }

    fn look_at(&mut self, mut bytes: &[u8]) {
        // Collected over several reads, because one read may return less than a page.
        let missing = SWAP_HEADER_BYTES - self.start.len();
        self.start.extend_from_slice(&bytes[..missing.min(bytes.len())]);
        while !bytes.is_empty() {
            let left = GRANULE_BYTES - (self.position % GRANULE_BYTES as u64) as usize;
            let (part, rest) = bytes.split_at(left.min(bytes.len()));
            self.is_zero &= *part == ZEROS[..part.len()];
            self.position += part.len() as u64;
            if part.len() == left {
                self.end_granule();
            }
            bytes = rest;
        }
    }

    fn end_granule(&mut self) {
        let start = self.position - GRANULE_BYTES as u64;
        match self.zeros.last_mut() {
            _ if !self.is_zero => {}
            Some(last) if last.end == start => last.end = self.position,
            _ => self.zeros.push(start..self.position),
        }
        self.is_zero = true;
    }
}

impl<R: Read> Read for ZeroFinder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.content.read(buffer)?;
        self.look_at(&buffer[..count]);
        Ok(count)
    }
}

/// Makes these ranges holes. The kernel treats this as a write: it changes the time of the file and
/// removes file capabilities.
pub(super) fn punch(file: &File, holes: &[Range<u64>]) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    for hole in holes {
        match rustix::fs::fallocate(file, flags, hole.start, hole.end - hole.start) {
            // On a file system without holes, unpacking creates none either.
            Err(Errno::OPNOTSUPP) => return Ok(()),
            result => result?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn copied(content: &[u8]) -> (Vec<u8>, u64) {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = directory.path().join("file");
        let mut spent = 0;
        let spend = |bytes| {
            spent += bytes;
            Ok(())
        };
        copy(&mut &*content, &File::create(&path).unwrap(), spend).unwrap();
        let taken = std::fs::metadata(&path).unwrap().blocks() * 512;
        assert!(taken <= spent + 4096, "{taken} {spent}");
        (std::fs::read(&path).unwrap(), spent)
    }

    #[test]
    fn long_runs_of_zeros_are_not_written() {
        const G: usize = GRANULE_BYTES;
        for (runs, expected) in [
            (vec![], 0),
            (vec![(0, 100)], 100),
            (vec![(0, G)], 0),
            (vec![(0, 10 * G)], 0),
            (vec![(0, 10 * G + 1)], 1),
            (vec![(1, G), (0, 3 * G), (1, 5)], G + 5),
            (vec![(0, 3 * G), (1, G)], G),
            (vec![(1, 7), (0, G)], G + 7),
            (vec![(1, 3 * G)], 3 * G),
        ] {
            let content: Vec<u8> = runs.iter().flat_map(|(byte, count)| vec![*byte; *count]).collect();
            let (found, spent) = copied(&content);
            assert!(found == content, "{runs:?}");
            assert_eq!(spent, expected as u64, "{runs:?}");
        }
    }

    /// A file that was written in full uses no more space than an unpacked one.
    #[test]
    fn written_zeros_become_the_same_holes_as_unpacked_zeros() {
        const G: usize = GRANULE_BYTES;
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let (written, unpacked) = (directory.path().join("written"), directory.path().join("unpacked"));
        let content: Vec<u8> = [vec![1; G + 5], vec![0; 4 * G], vec![2; 9], vec![0; 3 * G + 7]].concat();
        std::fs::write(&written, &content).unwrap();
        File::open(&written).unwrap().sync_all().unwrap();
        let mut finder = ZeroFinder::new(File::open(&written).unwrap());
        let mut read = vec![0; 1000];
        while finder.read(&mut read).unwrap() > 0 {}
        let holes = finder.into_holes();
        let g = G as u64;
        assert_eq!(holes, [2 * g..5 * g, 6 * g..8 * g]);
        punch(&File::options().write(true).open(&written).unwrap(), &holes).unwrap();
        assert!(std::fs::read(&written).unwrap() == content);
        copy(&mut content.as_slice(), &File::create(&unpacked).unwrap(), |_| Ok(())).unwrap();
        File::open(&unpacked).unwrap().sync_all().unwrap();
        let blocks = |path| std::fs::metadata(path).unwrap().blocks();
        assert_eq!(blocks(&written), blocks(&unpacked));
    }

    #[test]
    fn swap_files_have_no_holes() {
        let mut content = vec![0; 5 * GRANULE_BYTES];
        content[4086..4096].copy_from_slice(b"SWAPSPACE2");
        assert_eq!(copied(&content), (content.clone(), content.len() as u64));
    }

    #[test]
    fn swap_files_that_are_read_in_small_parts_have_no_holes() {
        for page in [4096, 65_536] {
            let mut content = vec![0; 5 * GRANULE_BYTES];
            content[page - 10..page].copy_from_slice(b"SWAPSPACE2");
            let mut finder = ZeroFinder::new(content.as_slice());
            while finder.read(&mut [0; 1000]).unwrap() > 0 {}
            assert!(finder.into_holes().is_empty(), "{page}");
        }
    }
}
