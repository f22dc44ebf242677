//! Files with holes: where their data is.
//!
//! Only holes of at least [`HOLE_BYTES`] count, as where layers are unpacked. Smaller holes may be lost there, and disks of the
//! same files would differ.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, SeekFrom, Stat, openat, seek};
use rustix::io::Errno;

use crate::layer::HOLE_BYTES;

const GRANULE: u64 = HOLE_BYTES as u64;

/// Returns true if a file takes less of the disk than it is long.
pub(super) fn has_holes(stat: &Stat) -> bool {
    stat.st_blocks * 512 < stat.st_size
}

/// Returns how many bytes of the file `name` are written where it is copied to.
pub(super) fn data_bytes(directory: &OwnedFd, name: &CString, stat: &Stat) -> Result<u64, Errno> {
    let size = stat.st_size as u64;
    if !has_holes(stat) || size < GRANULE {
        return Ok(size);
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(openat(directory, name, flags, Mode::empty())?);
    let (mut bytes, mut position) = (0, 0);
    while let Some((start, end)) = next_data(&file, position, size)? {
        bytes += end - start;
        position = end;
    }
    Ok(bytes)
}

/// Returns the first range of data from `position` on, an earlier range's end or 0.
pub(super) fn next_data(file: impl AsFd, position: u64, size: u64) -> Result<Option<(u64, u64)>, Errno> {
    match seek(&file, SeekFrom::Data(position)) {
        Ok(start) => {
            // Data is widened to whole granules. It cannot reach into the range before, which ends at a granule.
            let hole = seek(&file, SeekFrom::Hole(start))?;
            let end = hole.div_ceil(GRANULE).saturating_mul(GRANULE).min(size);
            Ok(Some((start / GRANULE * GRANULE, end)))
        }
        Err(Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use rustix::fs::{AtFlags, statat};

    use super::*;
    use crate::block::walk::open_directory;

    #[test]
    fn holes_count_from_their_least_size_on() {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let handle = open_directory(rustix::fs::CWD, directory.path()).unwrap();
        let measured = |size: u64, data: &[u64]| {
            let file = File::create(directory.path().join("file")).unwrap();
            file.set_len(size).unwrap();
            data.iter().for_each(|offset| file.write_all_at(&[1; 4096], *offset).unwrap());
            let stat = statat(&handle, c"file", AtFlags::empty()).unwrap();
            data_bytes(&handle, &c"file".to_owned(), &stat).unwrap()
        };
        assert_eq!(measured(3 << 30, &[]), 0);
        assert_eq!(measured(3 << 30, &[1 << 30]), GRANULE);
        assert_eq!(measured(10 * GRANULE, &[0, 8192, 9 * GRANULE]), 2 * GRANULE);
        assert_eq!(measured(GRANULE + 4096, &[GRANULE]), 4096);
        assert_eq!(measured(8192, &[0]), 8192, "too short to have any");
    }
}
