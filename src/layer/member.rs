//! Members of a tar archive: a header, its extension headers, and the content.
//!
//! The `tar` crate parses headers. Its iterator over members is not used, because it splits PAX
//! records at line ends instead of by their length. It therefore cannot read a file capability that
//! contains a byte 10, or a name with a line end.
//!
//! Source: POSIX.1-2017 `pax`, "pax Header Block"; GNU tar manual, "Basic Tar Format".

use std::collections::BTreeMap;
use std::io::{self, Read};

use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

use super::error::{LayerError, display};
use super::number::parse_number;
use super::sparse::{Run, SPARSE_MAP, SparseForm, SparseMap, SparseReader};

const BLOCK_BYTES: u64 = 512;
/// Path and attributes of a real file are smaller: a value has at most 64 KiB, and ext4 stores the
/// names in one block. The limit stops a hostile archive from exhausting memory.
const EXTENSION_LIMIT_BYTES: u64 = 8 << 20;

/// One member.
pub(super) struct Member {
    pub header: Header,
    /// Name in the archive, not normalized.
    pub path: Vec<u8>,
    /// Target of a link, not normalized.
    pub link: Option<Vec<u8>>,
    /// Size of the content, including the holes of a sparse file.
    pub bytes: u64,
    pub pax: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Reads members one after the other.
pub(super) struct Members<R> {
    input: R,
    /// Unread bytes of the current member's content.
    content: u64,
    /// Bytes between this content and the next header.
    padding: u64,
    /// The map of the current member if it is sparse.
    sparse: Option<SparseReader>,
}

impl<R: Read> Members<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, content: 0, padding: 0, sparse: None }
    }

    pub(super) fn into_inner(self) -> R {
        self.input
    }

    /// Returns the next member, or `None` at the end of the archive. Skips the unread content of
    /// the previous one.
    pub(super) fn next(&mut self) -> Result<Option<Member>, LayerError> {
        let mut extensions = Extensions::default();
        while let Some(header) = self.next_header()? {
            let size = header.entry_size().map_err(|source| bad_header(&header, "size", source))?;
            match header.entry_type() {
                EntryType::XHeader => extensions.pax = parse_pax(&self.extension(&header, size)?)?,
                EntryType::GNULongName => extensions.path = Some(until_nul(self.extension(&header, size)?)),
                EntryType::GNULongLink => extensions.link = Some(until_nul(self.extension(&header, size)?)),
                EntryType::XGlobalHeader => refuse_global(&parse_pax(&self.extension(&header, size)?)?)?,
                _ => return self.member(header, size, extensions).map(Some),
            }
        }
        Ok(None)
    }

    /// Reads content of the current member. Holes of a sparse file are zeros.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Taken out, because reading stored bytes borrows all of `self`.
        let Some(mut sparse) = self.sparse.take() else { return self.read_stored(buffer) };
        let count = match sparse.next(buffer.len() as u64) {
            Run::Hole(bytes) => {
                buffer[..bytes as usize].fill(0);
                Ok(bytes as usize)
            }
            Run::Data(bytes) => self.read_stored(&mut buffer[..bytes as usize]),
        };
        if let Ok(count) = count {
            sparse.advance(count as u64);
        }
        self.sparse = Some(sparse);
        count
    }

    fn read_stored(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = self.content.min(buffer.len() as u64) as usize;
        let count = self.input.read(&mut buffer[..wanted])?;
        if count == 0 && wanted > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends within a file"));
        }
        self.content -= count as u64;
        Ok(count)
    }

    fn member(&mut self, header: Header, size: u64, extensions: Extensions) -> Result<Member, LayerError> {
        let Extensions { path, link, mut pax } = extensions;
        let bytes = match pax.get(b"size".as_slice()) {
            _ if has_no_content(header.entry_type()) => 0,
            Some(text) => parse_number(text)
                .ok_or_else(|| bad_header(&header, "size", io::Error::from(io::ErrorKind::InvalidData)))?,
            None => size,
        };
        // Before the map is read: in version 1.0, the map is part of the content, and the size
        // includes it.
        self.expect(bytes);
        let sparse = self.sparse_map(&header, &pax)?;
        // The rest is data: reading the map has consumed its part of the content.
        let stored = self.content;
        let bytes = sparse.as_ref().map_or(bytes, |sparse| sparse.bytes);
        self.sparse = sparse.map(|sparse| sparse.reader(stored)).transpose().map_err(LayerError::Read)?;
        // For readers that do not support sparse files, GNU tar writes a path with
        // `GNUSparseFile.0` in it. The real name is in this record, so it comes first.
        let named = pax.remove(b"GNU.sparse.name".as_slice());
        let path = named.or_else(|| pax.remove(b"path".as_slice())).or(path);
        let path = path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = pax.remove(b"linkpath".as_slice()).or(link);
        let link = link.or_else(|| header.link_name_bytes().map(|name| name.into_owned()));
        Ok(Member { header, path, link, bytes, pax })
    }

    /// Returns the map of a sparse file; `None` for other members.
    fn sparse_map(
        &mut self,
        header: &Header,
        pax: &BTreeMap<Vec<u8>, Vec<u8>>,
    ) -> Result<Option<SparseMap>, LayerError> {
        let map = match SparseForm::of(header, pax) {
            None => return Ok(None),
            Some(SparseForm::Old) => self.old_sparse_map(header),
            Some(SparseForm::Records) => SparseMap::of_records(pax),
            Some(SparseForm::Content) => self.sparse_map_in_content(pax),
        };
        map.map(Some).map_err(|source| bad_header(header, "map of a sparse file", source))
    }

    /// Source: GNU tar, "Old GNU Format": four ranges in the header, 21 in each block after it.
    fn old_sparse_map(&mut self, header: &Header) -> io::Result<SparseMap> {
        let gnu = header.as_gnu().ok_or(io::ErrorKind::InvalidData)?;
        let mut map = SparseMap { bytes: gnu.real_size()?, ranges: Vec::new() };
        let mut add = |ranges: &[GnuSparseHeader]| -> io::Result<()> {
            for range in ranges.iter().filter(|range| !range.is_empty()) {
                map.add(range.offset()?, range.length()?)?;
            }
            Ok(())
        };
        add(&gnu.sparse)?;
        let mut is_extended = gnu.is_extended();
        while is_extended {
            let mut block = GnuExtSparseHeader::new();
            self.input.read_exact(block.as_mut_bytes())?;
            add(&block.sparse)?;
            is_extended = block.is_extended();
        }
        Ok(map)
    }

    /// Source: GNU tar, "PAX Format, Version 1.0": decimal numbers, one a line, in whole blocks
    /// before the data.
    fn sparse_map_in_content(&mut self, pax: &BTreeMap<Vec<u8>, Vec<u8>>) -> io::Result<SparseMap> {
        let bytes = pax.get(b"GNU.sparse.realsize".as_slice()).and_then(|text| parse_number(text));
        let mut map = SparseMap { bytes: bytes.ok_or(io::ErrorKind::InvalidData)?, ranges: Vec::new() };
        let mut block = Vec::new();
        let mut number = |members: &mut Self| loop {
            if let Some(end) = block.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = block.drain(..=end).collect();
                return parse_number(&line[..end]).ok_or(io::Error::from(io::ErrorKind::InvalidData));
            }
            // A number has at most 20 digits.
            if block.len() > BLOCK_BYTES as usize {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let start = block.len();
            block.resize(start + BLOCK_BYTES as usize, 0);
            let mut filled = start;
            while filled < block.len() {
                match members.read_stored(&mut block[filled..])? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    count => filled += count,
                }
            }
        };
        for _ in 0..number(self)? {
            map.add(number(self)?, number(self)?)?;
        }
        Ok(map)
    }

    fn expect(&mut self, bytes: u64) {
        self.sparse = None;
        self.content = bytes;
        self.padding = (BLOCK_BYTES - bytes % BLOCK_BYTES) % BLOCK_BYTES;
    }

    fn next_header(&mut self) -> Result<Option<Header>, LayerError> {
        self.skip()?;
        let mut header = Header::new_old();
        // The archive ends with two blocks of zeros, but some writers omit one or both. If a single
        // block is followed by more, the archive is damaged or concatenated: ending here would
        // silently lose the rest.
        if self.next_block(&mut header)? == Block::Content {
            verify_checksum(&header)?;
            return Ok(Some(header));
        }
        match self.next_block(&mut header)? {
            Block::Content => Err(invalid_archive(
                "more data follows a single block of zeros: the archive is damaged or concatenated",
            )),
            Block::End => Ok(None),
        }
    }

    fn next_block(&mut self, block: &mut Header) -> Result<Block, LayerError> {
        let count = read_full(&mut self.input, block.as_mut_bytes()).map_err(LayerError::Read)?;
        if block.as_bytes()[..count].iter().all(|byte| *byte == 0) {
            return Ok(Block::End);
        }
        if count < block.as_bytes().len() {
            let end = io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends within a header");
            return Err(LayerError::Read(end));
        }
        Ok(Block::Content)
    }

    fn skip(&mut self) -> Result<(), LayerError> {
        let bytes = self.content.checked_add(self.padding);
        let bytes = bytes.ok_or_else(|| invalid_archive("the size of a member is too large"))?;
        let skipped =
            io::copy(&mut self.input.by_ref().take(bytes), &mut io::sink()).map_err(LayerError::Read)?;
        if skipped < bytes {
            let end = io::Error::new(io::ErrorKind::UnexpectedEof, "the archive ends within a file");
            return Err(LayerError::Read(end));
        }
        (self.content, self.padding) = (0, 0);
        Ok(())
    }

    /// Returns the content of an extension header.
    fn extension(&mut self, header: &Header, bytes: u64) -> Result<Vec<u8>, LayerError> {
        if bytes > EXTENSION_LIMIT_BYTES {
            let what = format!("an extension header of {bytes} bytes");
            return Err(LayerError::Unsupported { path: display(&header.path_bytes()), what });
        }
        self.expect(bytes);
        let mut content = vec![0; bytes as usize];
        self.input.read_exact(&mut content).map_err(LayerError::Read)?;
        self.content = 0;
        Ok(content)
    }
}

/// A block at the position of a header.
#[derive(PartialEq)]
enum Block {
    Content,
    /// Zeros, or the end of the input.
    End,
}

/// The values of the extension headers before a member.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Reads until `buffer` is full or the input ends. Returns the number of bytes.
pub(crate) fn read_full(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Returns true for types of members without content. Their size field must be ignored: star writes
/// the size of the file into a hard link, and other writers the size of a directory on disk.
/// Skipping that many bytes would swallow the members after it.
///
/// Source: Go `archive/tar`, `isHeaderOnlyType`, which container engines read layers with.
fn has_no_content(kind: EntryType) -> bool {
    use EntryType::{Block, Char, Directory, Fifo, Link, Symlink};
    matches!(kind, Link | Symlink | Char | Block | Directory | Fifo)
}

/// Fails for a global header that changes the members after it. GNU tar and bsdtar apply it,
/// container engines ignore it, so the layer would be different for each. A header with a comment
/// alone is accepted: `git archive` writes one.
fn refuse_global(pax: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<(), LayerError> {
    let changes = |key: &&Vec<u8>| {
        let is_known =
            [b"path".as_slice(), b"linkpath", b"size", b"uid", b"gid", b"uname", b"gname", b"mtime"]
                .contains(&key.as_slice());
        is_known
            || [b"SCHILY.".as_slice(), b"LIBARCHIVE.", b"GNU."].iter().any(|start| key.starts_with(start))
    };
    pax.keys().find(changes).map_or(Ok(()), |key| {
        Err(invalid_archive(&format!(
            "its global PAX header sets `{}` for all members, which container engines ignore: write the archive without \
             global headers",
            String::from_utf8_lossy(key).escape_debug()
        )))
    })
}

fn invalid_archive(reason: &str) -> LayerError {
    LayerError::Read(io::Error::new(io::ErrorKind::InvalidData, reason))
}

fn verify_checksum(header: &Header) -> Result<(), LayerError> {
    let bytes = header.as_bytes();
    let blanks = 8 * u32::from(b' ');
    let summed = || bytes[..148].iter().chain(&bytes[156..]);
    let sum = summed().map(|byte| u32::from(*byte)).sum::<u32>() + blanks;
    // Old writers summed signed bytes. The result differs for names that are not ASCII.
    let signed = summed().map(|byte| i32::from(byte.cast_signed())).sum::<i32>() + blanks as i32;
    if header.cksum().is_ok_and(|expected| expected == sum || i64::from(expected) == i64::from(signed)) {
        return Ok(());
    }
    Err(invalid_archive("the checksum of a header is wrong: the file is no tar archive, or it is damaged"))
}

/// Parses records `<length> <key>=<value>\n`. The last record of a key wins, and an empty value
/// deletes the key. Extended attributes are the exception: their values may be empty.
fn parse_pax(mut records: &[u8]) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, LayerError> {
    let mut pax = BTreeMap::new();
    while !records.is_empty() {
        let (key, value, rest) =
            parse_record(records).ok_or_else(|| invalid_archive("a PAX record is malformed"))?;
        if matches!(key, b"GNU.sparse.offset" | b"GNU.sparse.numbytes") {
            // Version 0.0 repeats these two keys for each range. Joined to a list, they have the
            // form of version 0.1.
            let map: &mut Vec<u8> = pax.entry(SPARSE_MAP.to_vec()).or_default();
            if !map.is_empty() {
                map.push(b',');
            }
            map.extend_from_slice(value);
        } else if value.is_empty() && !key.starts_with(super::encode::XATTR.as_bytes()) {
            pax.remove(key);
        } else {
            pax.insert(key.to_vec(), value.to_vec());
        }
        records = rest;
    }
    Ok(pax)
}

fn parse_record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().position(|byte| *byte == b' ')?;
    let length = usize::try_from(parse_number(&records[..space])?).ok()?;
    let record = records.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &records[length..]))
}

fn until_nul(mut name: Vec<u8>) -> Vec<u8> {
    name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
    name
}

fn bad_header(header: &Header, field: &'static str, source: io::Error) -> LayerError {
    LayerError::BadHeader { path: display(&header.path_bytes()), field, source }
}
