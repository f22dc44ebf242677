//! Copies raw disks with their holes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::tree::next_data;

/// The size of a read.
const BUFFER_BYTES: usize = 1 << 20;

/// Copies `raw` with its holes to the empty file `part`.
pub(super) fn copy_sparse(raw: &File, part: &File) -> io::Result<()> {
    part.set_len(raw.metadata()?.len())?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut position = 0;
    while let Some(data) = next_data(raw, position)? {
        position = data.start;
        while position < data.end {
            let count = (data.end - position).min(BUFFER_BYTES as u64) as usize;
            raw.read_exact_at(&mut buffer[..count], position)?;
            part.write_all_at(&buffer[..count], position)?;
            position += count as u64;
        }
    }
    Ok(())
}
