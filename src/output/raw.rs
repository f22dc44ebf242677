//! Reading a raw disk: ranges of data, holes left out.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// How much is copied at once.
const BUFFER_BYTES: usize = 1 << 20;

/// Returns the first range of data in `file` from `position` on; `None` if there are holes alone.
pub(super) fn next_data(file: &File, position: u64) -> io::Result<Option<(u64, u64)>> {
    match seek(file, SeekFrom::Data(position)) {
        Ok(start) => Ok(Some((start, seek(file, SeekFrom::Hole(start))?))),
        Err(Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Gives `part` the content of `raw`, holes included.
pub(super) fn copy_sparse(raw: &File, part: &File) -> io::Result<()> {
    part.set_len(raw.metadata()?.len())?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut position = 0;
    while let Some((start, end)) = next_data(raw, position)? {
        position = start;
        while position < end {
            let count = (end - position).min(BUFFER_BYTES as u64) as usize;
            raw.read_exact_at(&mut buffer[..count], position)?;
            part.write_all_at(&buffer[..count], position)?;
            position += count as u64;
        }
    }
    Ok(())
}
