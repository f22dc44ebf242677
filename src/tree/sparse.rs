//! Reading files with holes.
//!
//! An archive also holds the zeros of a hole. Reading these zeros from the file would fill the page
//! cache: for a file of 200 GiB with a few bytes in it, all memory of the build host. The reader
//! here makes the zeros itself.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{SeekFrom, Stat, fstat, seek};
use rustix::io::Errno;

/// Bytes of a block in `st_blocks`. Source: stat(3type).
const BLOCK_BYTES: u64 = 512;

/// Returns true if a file uses less disk space than its length.
pub fn has_holes(stat: &Stat) -> bool {
    (stat.st_blocks as u64).saturating_mul(BLOCK_BYTES) < stat.st_size as u64
}

/// Returns the first range of data at or after `position`, or `None` if there is none. On a file
/// system that does not report holes, everything up to the end of the file counts as data.
pub fn next_data(file: impl AsFd, position: u64) -> Result<Option<Range<u64>>, Errno> {
    match seek(&file, SeekFrom::Data(position)) {
        Ok(start) => Ok(Some(start..seek(&file, SeekFrom::Hole(start))?)),
        Err(Errno::NXIO) => Ok(None),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => {
            // The range ends at the end of the file: otherwise a caller that continues at the end
            // of each range would never get `None`.
            let size = fstat(&file)?.st_size as u64;
            Ok((position < size).then_some(position..size))
        }
        Err(error) => Err(error),
    }
}

/// Returns a reader of the content: the file itself, or a reader that does not read its holes.
pub fn content(file: File) -> io::Result<Box<dyn Read>> {
    if !has_holes(&fstat(&file)?) {
        return Ok(Box::new(file));
    }
    Ok(Box::new(SparseFile { file, position: 0, part: Part::Data(0) }))
}

struct SparseFile {
    file: File,
    position: u64,
    part: Part,
}

/// The kind of the part at the position, and where this part ends.
#[derive(Debug, Clone, Copy)]
enum Part {
    Data(u64),
    Hole(u64),
}

impl SparseFile {
    /// Returns the part at the position. At the end of the file the part is empty.
    fn look(&mut self) -> io::Result<Part> {
        Ok(match next_data(&self.file, self.position)? {
            Some(data) if data.start > self.position => Part::Hole(data.start),
            Some(data) => Part::Data(data.end),
            None => Part::Hole(self.file.metadata()?.len()),
        })
    }
}

impl Read for SparseFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (Part::Data(end) | Part::Hole(end)) = self.part;
        if self.position >= end {
            self.part = self.look()?;
        }
        let wanted = |end: u64| buffer.len().min(usize::try_from(end - self.position).unwrap_or(usize::MAX));
        let count = match self.part {
            Part::Hole(end) if end > self.position => {
                let count = wanted(end);
                buffer[..count].fill(0);
                count
            }
            Part::Data(end) if end > self.position => {
                let count = wanted(end);
                self.file.read_at(&mut buffer[..count], self.position)?
            }
            // At the end of the file. If the file has grown since, this returns more bytes, and the
            // encoder reports the difference.
            _ => self.file.read_at(buffer, self.position)?,
        };
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    /// Files of `/proc` have size 0, and their file system does not report holes.
    #[test]
    fn data_ends_with_the_file_if_the_file_system_reports_no_holes() {
        let file = File::open("/proc/self/status").unwrap();
        assert_eq!(seek(&file, SeekFrom::Data(0)), Err(Errno::INVAL));
        assert_eq!(next_data(&file, 0).unwrap(), None);
    }

    #[test]
    fn a_file_with_holes_reads_as_if_it_had_none() {
        const MIB: u64 = 1 << 20;
        for parts in [&[][..], &[0], &[3], &[0, 3], &[1, 2, 7]] {
            let mut file = tempfile::tempfile().unwrap();
            for part in parts {
                file.seek(io::SeekFrom::Start(part * MIB)).unwrap();
                file.write_all(format!("part {part}").as_bytes()).unwrap();
            }
            file.set_len(8 * MIB + 77).unwrap();
            let mut expected = vec![0; 8 * MIB as usize + 77];
            file.read_exact_at(&mut expected, 0).unwrap();
            let mut found = Vec::new();
            let mut reader = SparseFile { file, position: 0, part: Part::Data(0) };
            reader.read_to_end(&mut found).unwrap();
            assert!(found == expected, "{parts:?}");
        }
    }
}
