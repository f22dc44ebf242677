//! Finds the data of files with holes.
//!
//! Only holes of at least [`HOLE_BYTES`] count, as in unpacked layers. Unpacking may lose smaller
//! holes, and disks of the same files would then differ.

use std::ops::Range;
use std::os::fd::AsFd;

use rustix::io::Errno;

use crate::layer::HOLE_BYTES;
use crate::port::IoError;
use crate::tree::{Entry, has_holes, next_data};

const GRANULE: u64 = HOLE_BYTES as u64;

/// Returns the number of bytes that a copy of a regular file writes.
pub(super) fn data_bytes(entry: &Entry<'_>) -> Result<u64, IoError> {
    let size = entry.stat.st_size as u64;
    if !has_holes(&entry.stat) || size < GRANULE {
        return Ok(size);
    }
    let file = entry.open()?;
    let (mut bytes, mut position) = (0, 0);
    while let Some(data) = next_granules(&file, position, size).map_err(entry.failed("measure"))? {
        bytes += data.end - data.start;
        position = data.end;
    }
    Ok(bytes)
}

/// Returns the first range of data at or after `position` in a file of `size` bytes. `position` is
/// 0 or the end of an earlier range.
pub(super) fn next_granules(file: impl AsFd, position: u64, size: u64) -> Result<Option<Range<u64>>, Errno> {
    let data = next_data(file, position)?;
    // Ranges are widened to whole granules. They cannot overlap, because each range ends at a
    // granule.
    let granules = |data: Range<u64>| {
        data.start / GRANULE * GRANULE..data.end.div_ceil(GRANULE).saturating_mul(GRANULE).min(size)
    };
    Ok(data.map(granules))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::tree::Dir;

    #[test]
    fn only_holes_of_a_whole_granule_count() {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let tree = Dir::open(directory.path()).unwrap();
        let measured = |size: u64, data: &[u64]| {
            let file = File::create(directory.path().join("file")).unwrap();
            file.set_len(size).unwrap();
            data.iter().for_each(|offset| file.write_all_at(&[1; 4096], *offset).unwrap());
            data_bytes(&tree.entry(b"file".to_vec()).unwrap()).unwrap()
        };
        assert_eq!(measured(3 << 30, &[]), 0);
        assert_eq!(measured(3 << 30, &[1 << 30]), GRANULE);
        assert_eq!(measured(10 * GRANULE, &[0, 8192, 9 * GRANULE]), 2 * GRANULE);
        assert_eq!(measured(GRANULE + 4096, &[GRANULE]), 4096);
        assert_eq!(measured(8192, &[0]), 8192, "too short for a hole");
    }
}
