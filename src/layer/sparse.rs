//! Sparse files of GNU tar: the map from stored bytes to offsets in the file.
//!
//! Source: GNU tar manual, "Storing Sparse Files": the old format and versions 0.0, 0.1 and 1.0 of
//! the PAX format.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use tar::{EntryType, Header};

use super::number::parse_number;

/// PAX key of the map in version 0.1.
pub(super) const SPARSE_MAP: &[u8] = b"GNU.sparse.map";
/// Files of real images have a few thousand ranges. The limit stops a hostile archive from
/// exhausting memory.
const MAX_RANGES: usize = 1 << 20;

/// The location of the map in the archive.
pub(super) enum SparseForm {
    /// In the header, and in blocks after it (old GNU format).
    Old,
    /// In PAX records (versions 0.0 and 0.1).
    Records,
    /// In the content, before the data (version 1.0).
    Content,
}

impl SparseForm {
    pub(super) fn of(header: &Header, pax: &BTreeMap<Vec<u8>, Vec<u8>>) -> Option<Self> {
        let has = |key: &[u8]| pax.contains_key(key);
        if header.entry_type() == EntryType::GNUSparse {
            Some(Self::Old)
        } else if has(b"GNU.sparse.major") {
            Some(Self::Content)
        } else if has(SPARSE_MAP) || has(b"GNU.sparse.size") {
            Some(Self::Records)
        } else {
            None
        }
    }
}

/// The ranges of a file that have data, in order.
pub(super) struct SparseMap {
    /// Size of the file, holes included.
    pub bytes: u64,
    /// Offsets and lengths.
    pub ranges: Vec<(u64, u64)>,
}

impl SparseMap {
    /// Parses the map in the records of versions 0.0 and 0.1.
    pub(super) fn of_records(pax: &BTreeMap<Vec<u8>, Vec<u8>>) -> io::Result<Self> {
        let bytes = pax.get(b"GNU.sparse.size".as_slice()).and_then(|text| parse_number(text));
        let mut map = Self { bytes: bytes.ok_or(io::ErrorKind::InvalidData)?, ranges: Vec::new() };
        let text = pax.get(SPARSE_MAP).map_or(b"".as_slice(), Vec::as_slice);
        let numbers = text.split(|byte| *byte == b',').filter(|number| !number.is_empty()).map(parse_number);
        let numbers: Vec<u64> = numbers.collect::<Option<_>>().ok_or(io::ErrorKind::InvalidData)?;
        for range in numbers.chunks(2) {
            let [offset, length] = range else { return Err(io::ErrorKind::InvalidData.into()) };
            map.add(*offset, *length)?;
        }
        Ok(map)
    }

    /// Adds a range. It must be after all others and within the file.
    pub(super) fn add(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let after = self.ranges.last().map_or(0, |(offset, length)| offset + length);
        let end = offset.checked_add(length).filter(|end| *end <= self.bytes);
        if offset < after || end.is_none() || self.ranges.len() >= MAX_RANGES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "its ranges overlap, are not in order, or exceed the file",
            ));
        }
        self.ranges.push((offset, length));
        Ok(())
    }

    /// Returns a reader of the file. `stored` is the number of data bytes in the archive.
    pub(super) fn reader(self, stored: u64) -> io::Result<SparseReader> {
        let mapped: u64 = self.ranges.iter().map(|(_, length)| length).sum();
        if mapped != stored {
            let reason = format!("a sparse file has {stored} bytes of data where its map has {mapped}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok(SparseReader { bytes: self.bytes, ranges: self.ranges.into(), position: 0 })
    }
}

/// A piece of a sparse file.
pub(super) enum Run {
    /// This many zeros.
    Hole(u64),
    /// This many bytes of the archive.
    Data(u64),
}

/// Splits a sparse file into runs.
pub(super) struct SparseReader {
    bytes: u64,
    ranges: VecDeque<(u64, u64)>,
    position: u64,
}

impl SparseReader {
    /// Returns the next run, of at most `limit` bytes; an empty hole at the end of the file.
    pub(super) fn next(&mut self, limit: u64) -> Run {
        while self.ranges.front().is_some_and(|(offset, length)| offset + length <= self.position) {
            self.ranges.pop_front();
        }
        match self.ranges.front() {
            Some((offset, length)) if *offset <= self.position => {
                Run::Data(limit.min(offset + length - self.position))
            }
            next => {
                let end = next.map_or(self.bytes, |(offset, _)| *offset);
                Run::Hole(limit.min(end - self.position))
            }
        }
    }

    pub(super) fn advance(&mut self, bytes: u64) {
        self.position += bytes;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::FileExt;
    use std::process::Command;

    use crate::layer::{Decoder, Kind};

    /// Decodes archives of GNU tar in all its sparse formats.
    #[test]
    fn sparse_files_of_gnu_tar_are_read_whole() {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let mut expected = Vec::new();
        let ends: [&[u64]; 4] =
            [&[], &[0], &[1 << 16, 1 << 20], &[0, 1 << 17, 3 << 17, 5 << 17, 7 << 17, 9 << 17]];
        for (number, offsets) in ends.iter().enumerate() {
            let file = std::fs::File::create(directory.path().join(number.to_string())).unwrap();
            file.set_len(3_000_001).unwrap();
            offsets.iter().for_each(|offset| file.write_all_at(b"data", *offset).unwrap());
            expected.push(std::fs::read(directory.path().join(number.to_string())).unwrap());
        }
        for format in [
            &["--format=gnu"][..],
            &["--format=pax", "--sparse-version=0.0"],
            &["--format=pax", "--sparse-version=0.1"],
            &["--format=pax", "--sparse-version=1.0"],
        ] {
            let mut tar = Command::new("tar");
            tar.arg("-S").args(format).args(["-cf", "-", "0", "1", "2", "3"]).current_dir(directory.path());
            let archive = tar.output().expect("this test needs GNU tar").stdout;
            assert!(archive.len() < 1_000_000, "{format:?}: it is not sparse");
            let mut decoder = Decoder::new(archive.as_slice());
            for (number, expected) in expected.iter().enumerate() {
                let (entry, mut content) = decoder.next_entry().unwrap().unwrap();
                assert_eq!(entry.path, number.to_string().as_bytes(), "{format:?}");
                assert_eq!(entry.kind, Kind::File(3_000_001), "{format:?}");
                let mut bytes = Vec::new();
                // Reads only a part of one file: the next entry must still be found.
                let limit = if number == 1 { 100_000 } else { u64::MAX };
                content.by_ref().take(limit).read_to_end(&mut bytes).unwrap();
                assert!(bytes == expected[..expected.len().min(limit as usize)], "{format:?} {number}");
            }
            assert!(decoder.next_entry().unwrap().is_none());
        }
    }
}
