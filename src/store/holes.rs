//! Holes in files.
//!
//! An archive holds all zeros of a file. Where many follow each other, nothing is written: a layer that is unpacked
//! takes no more of the disk than the files that it was made of.
//!
//! What is a hole depends on the content alone, so that a disk made of unpacked layers is the same everywhere: each
//! granule of [`HOLE_BYTES`](crate::layer::HOLE_BYTES) that holds nothing but zeros. A swap file has none: the kernel refuses it otherwise.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use crate::layer::HOLE_BYTES as GRANULE_BYTES;

/// A read that fills this takes the kernel few calls.
const BUFFER_BYTES: usize = 2 * GRANULE_BYTES;

static ZEROS: [u8; GRANULE_BYTES] = [0; GRANULE_BYTES];

/// Writes `content` to the empty `file`; calls `spend` with the number of bytes before each write.
pub(super) fn copy(
    content: &mut impl Read,
    file: &File,
    mut spend: impl FnMut(u64) -> io::Result<()>,
) -> io::Result<()> {
    let (mut buffer, mut offset, mut written, mut is_swap) = (vec![0; BUFFER_BYTES], 0, 0, false);
    loop {
        let filled = fill(content, &mut buffer)?;
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
    if written < offset { file.set_len(offset) } else { Ok(()) }
}

/// Returns true for a granule that is not written. A shorter one, at a file's end, always is.
pub(super) fn is_hole(granule: &[u8]) -> bool {
    granule.len() == GRANULE_BYTES && *granule == ZEROS
}

/// Source: `mkswap(8)`, Linux `include/linux/swap.h`, `union swap_header`. Pages have 4 KiB on most machines and 64 KiB at most.
pub(super) fn has_swap_signature(start: &[u8]) -> bool {
    let pages = [4096, 8192, 16384, 65536];
    pages.iter().any(|page| matches!(start.get(page - 10..*page), Some(b"SWAPSPACE2" | b"SWAP-SPACE")))
}

fn fill(content: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match content.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
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

    #[test]
    fn swap_files_have_no_holes() {
        let mut content = vec![0; 5 * GRANULE_BYTES];
        content[4086..4096].copy_from_slice(b"SWAPSPACE2");
        assert_eq!(copied(&content), (content.clone(), content.len() as u64));
    }
}
