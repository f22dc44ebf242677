//! Encodes entries as a tar archive.
//!
//! Equal entries give equal bytes, on every build host and in every release of plywood, because
//! DiffIDs depend on the bytes. The form:
//!
//! | what | choice |
//! |---|---|
//! | header | ustar; one PAX header (type `x`) before it where a value does not fit |
//! | order | as given: [`diff`](super::diff()) sorts |
//! | name | `usr/bin/x`, without `./`; directories end in `/`; the root is `./` |
//! | long name, long link | over 100 bytes: PAX `path`, `linkpath`; ustar's prefix field is not used |
//! | owner | numbers only, names empty; from 2 097 152 on PAX `uid`, `gid` |
//! | mtime | whole seconds; before 1970 or after 2242 PAX `mtime` |
//! | size | from 8 GiB on PAX `size` |
//! | extended attributes | PAX `SCHILY.xattr.` records, sorted by name |
//! | sparse files | written in full, because holes depend on the file system |
//! | hard link | type `1` with the metadata of its file and no content |
//! | whiteout | empty file `.wh.<name>`, mode 0, owner 0, time 0: no metadata that could differ |
//! | end | two zero blocks, no padding to a record |
//!
//! Records of one PAX header are sorted by key, bytewise. GNU tar, Go's `archive/tar` (docker,
//! skopeo, umoci) and Python read this form.
//!
//! Source: POSIX.1-2017 `pax`, "ustar Interchange Format"; OCI image-spec, `layer.md`.

use std::io::{self, Read, Write};

use tar::{EntryType, Header};

use super::entry::{Entry, Kind, Meta};
use super::error::{LayerError, display};

/// Prefix of a whiteout's name.
pub(super) const WHITEOUT: &[u8] = b".wh.";
/// Name of an opaque whiteout.
pub(super) const OPAQUE: &[u8] = b".wh..wh..opq";
/// PAX key of an extended attribute, before its name.
pub(super) const XATTR: &str = "SCHILY.xattr.";

/// The largest name a ustar header holds.
const NAME_BYTES: usize = 100;
/// The first owner number that does not fit into seven octal digits.
const OWNER_LIMIT: u64 = 1 << 21;
/// The first size and time that does not fit into eleven octal digits.
const NUMBER_LIMIT: u64 = 1 << 33;
/// Size of the buffer between a file and the archive.
const COPY_BYTES: usize = 256 * 1024;

/// Writes entries as a tar archive.
pub struct Encoder<W: Write> {
    tar: tar::Builder<W>,
    buffer: Vec<u8>,
    entries: u64,
}

impl<W: Write> Encoder<W> {
    /// Starts an archive.
    pub fn new(out: W) -> Self {
        Self { tar: tar::Builder::new(out), buffer: vec![0; COPY_BYTES], entries: 0 }
    }

    /// Appends an entry without content: any kind except a file of more than 0 bytes.
    ///
    /// # Errors
    /// [`LayerError::ReservedName`], [`LayerError::Write`].
    pub fn append(&mut self, entry: &Entry) -> Result<(), LayerError> {
        self.append_file(entry, &mut io::empty())
    }

    /// Appends an entry; `content` is read to its end if it is a file.
    ///
    /// # Errors
    /// [`LayerError::SizeChanged`] if `content` has another size than the entry, otherwise as
    /// [`Encoder::append`].
    pub fn append_file(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), LayerError> {
        let name = member_name(entry)?;
        let write_error = |source| LayerError::Write { path: display(&entry.path), source };
        let mut records = Records::default();
        let header = header(entry, &name, &mut records);
        add_xattrs(entry, &mut records)?;
        records.sort();
        self.tar.append_pax_extensions(records.iter()).map_err(write_error)?;
        // The header alone. `copy` writes the content, because the crate does not notice a changed
        // size: the archive would go out of step with its headers.
        self.tar.append(&header, io::empty()).map_err(write_error)?;
        if let Kind::File(bytes) = entry.kind {
            self.copy(&entry.path, bytes, content)?;
        }
        self.entries += 1;
        Ok(())
    }

    /// Writes the end of the archive. Returns the writer and the number of entries.
    ///
    /// # Errors
    /// [`LayerError::Write`].
    pub fn finish(self) -> Result<(W, u64), LayerError> {
        let entries = self.entries;
        let out =
            self.tar.into_inner().map_err(|source| LayerError::Write { path: "/".to_owned(), source })?;
        Ok((out, entries))
    }

    fn copy(&mut self, path: &[u8], expected: u64, content: &mut dyn Read) -> Result<(), LayerError> {
        let error = |source| LayerError::Write { path: display(path), source };
        let mut found = 0;
        loop {
            // Asks for one byte past the end, to notice a file that grew.
            let wanted = (expected - found).saturating_add(1).min(COPY_BYTES as u64) as usize;
            let count = read_some(content, &mut self.buffer[..wanted]).map_err(error)?;
            found += count as u64;
            if count == 0 || found > expected {
                break;
            }
            self.tar.get_mut().write_all(&self.buffer[..count]).map_err(error)?;
        }
        if found != expected {
            return Err(LayerError::SizeChanged { path: display(path), expected, found });
        }
        let padding = (512 - expected % 512) % 512;
        self.tar.get_mut().write_all(&[0; 512][..padding as usize]).map_err(error)
    }
}

fn read_some(reader: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// PAX records of one entry.
#[derive(Default)]
struct Records(Vec<(String, Vec<u8>)>);

impl Records {
    fn add(&mut self, key: impl Into<String>, value: impl Into<Vec<u8>>) {
        self.0.push((key.into(), value.into()));
    }

    fn sort(&mut self) {
        self.0.sort();
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_slice()))
    }

    /// Returns `value` for the header if it is below `limit`; otherwise adds a record and returns
    /// 0.
    fn number(&mut self, key: &str, value: i64, limit: u64) -> u64 {
        match u64::try_from(value) {
            Ok(value) if value < limit => value,
            _ => {
                self.add(key, value.to_string());
                0
            }
        }
    }

    /// Returns the part of `value` that fits into the name field of a header; adds a record if that
    /// is not all.
    fn name<'v>(&mut self, key: &str, value: &'v [u8]) -> &'v [u8] {
        if value.len() > NAME_BYTES {
            self.add(key, value);
        }
        &value[..value.len().min(NAME_BYTES)]
    }
}

fn header(entry: &Entry, name: &[u8], records: &mut Records) -> Header {
    let mut header = Header::new_ustar();
    set_meta(&mut header, &entry.meta, records);
    let (entry_type, link, bytes, device) = match &entry.kind {
        Kind::Directory => (EntryType::Directory, None, 0, None),
        Kind::File(bytes) => (EntryType::Regular, None, *bytes, None),
        Kind::Whiteout | Kind::OpaqueWhiteout => (EntryType::Regular, None, 0, None),
        Kind::Symlink(target) => (EntryType::Symlink, Some(target), 0, None),
        Kind::Hardlink(target) => (EntryType::Link, Some(target), 0, None),
        Kind::CharDevice(major, minor) => (EntryType::Char, None, 0, Some((*major, *minor))),
        Kind::BlockDevice(major, minor) => (EntryType::Block, None, 0, Some((*major, *minor))),
        Kind::Fifo => (EntryType::Fifo, None, 0, None),
    };
    header.set_entry_type(entry_type);
    header.set_size(records.number("size", bytes as i64, NUMBER_LIMIT));
    let old = header.as_old_mut();
    fill(&mut old.name, records.name("path", name));
    if let Some(link) = link {
        fill(&mut old.linkname, records.name("linkpath", link));
    }
    if let (Some((major, minor)), Some(ustar)) = (device, header.as_ustar_mut()) {
        ustar.set_device_major(major);
        ustar.set_device_minor(minor);
    }
    header.set_cksum();
    header
}

fn set_meta(header: &mut Header, meta: &Meta, records: &mut Records) {
    let Meta { mode, uid, gid, mtime, xattrs: _ } = meta;
    header.set_mode(*mode);
    header.set_uid(records.number("uid", i64::from(*uid), OWNER_LIMIT));
    header.set_gid(records.number("gid", i64::from(*gid), OWNER_LIMIT));
    header.set_mtime(records.number("mtime", *mtime, NUMBER_LIMIT));
}

/// Adds records for extended attributes. PAX keys are UTF-8 and end at the first `=`. Other names
/// are refused, because a reader would see another name.
fn add_xattrs(entry: &Entry, records: &mut Records) -> Result<(), LayerError> {
    for (name, value) in &entry.meta.xattrs {
        let key = std::str::from_utf8(name).ok().filter(|key| !key.contains(['=', '\0']));
        let Some(key) = key else {
            let what = format!("a file with the extended attribute `{}`", display(name));
            return Err(LayerError::Unsupported { path: display(&entry.path), what });
        };
        records.add(format!("{XATTR}{key}"), value.as_slice());
    }
    Ok(())
}

fn fill(field: &mut [u8], value: &[u8]) {
    field.fill(0);
    field[..value.len()].copy_from_slice(value);
}

/// Returns the name of `entry` in the archive.
fn member_name(entry: &Entry) -> Result<Vec<u8>, LayerError> {
    let path = &entry.path;
    let split = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    match entry.kind {
        Kind::Whiteout => Ok([&path[..split], WHITEOUT, &path[split..]].concat()),
        Kind::OpaqueWhiteout if path.is_empty() => Ok(OPAQUE.to_vec()),
        Kind::OpaqueWhiteout => Ok([path, b"/".as_slice(), OPAQUE].concat()),
        _ if path[split..].starts_with(WHITEOUT) => Err(LayerError::ReservedName { path: display(path) }),
        Kind::Directory if path.is_empty() => Ok(b"./".to_vec()),
        Kind::Directory => Ok([path, b"/".as_slice()].concat()),
        _ => Ok(path.clone()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::layer::{Decoder, Xattrs};
    use crate::oci::Digest;

    const META: Meta = Meta { mode: 0o4755, uid: 0, gid: 42, mtime: 1_700_000_000, xattrs: Xattrs::new() };

    fn encode(entries: &[(Entry, Vec<u8>)]) -> Result<Vec<u8>, LayerError> {
        let mut encoder = Encoder::new(Vec::new());
        for (entry, content) in entries {
            encoder.append_file(entry, &mut content.as_slice())?;
        }
        Ok(encoder.finish()?.0)
    }

    fn decode(archive: &[u8]) -> Vec<(Entry, Vec<u8>)> {
        let mut decoder = Decoder::new(archive);
        let mut entries = Vec::new();
        while let Some((entry, mut content)) = decoder.next_entry().unwrap() {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).unwrap();
            entries.push((entry, bytes));
        }
        entries
    }

    fn entry(path: &[u8], kind: Kind) -> Entry {
        Entry { path: path.to_vec(), kind, meta: META }
    }

    fn name(lengths: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(1u8..=255, lengths).prop_map(|mut bytes| {
            bytes.iter_mut().filter(|byte| **byte == b'/').for_each(|byte| *byte = b'_');
            // Not `.`, `..` or a whiteout.
            bytes[0] = bytes[0].max(b'0');
            bytes
        })
    }

    fn path() -> impl Strategy<Value = Vec<u8>> {
        let edge = prop_oneof![
            Just(1usize),
            Just(99),
            Just(100),
            Just(101),
            Just(155),
            Just(156),
            Just(255),
            Just(256)
        ];
        let long = edge.prop_flat_map(name);
        prop_oneof![proptest::collection::vec(name(1..40), 1..6).prop_map(|parts| parts.join(&b'/')), long,]
    }

    fn kind() -> impl Strategy<Value = Kind> {
        prop_oneof![
            Just(Kind::Directory),
            (0u64..2000).prop_map(Kind::File),
            path().prop_map(Kind::Symlink),
            path().prop_map(Kind::Hardlink),
            (0u32..4096, 0u32..1 << 20).prop_map(|(major, minor)| Kind::CharDevice(major, minor)),
            (0u32..4096, 0u32..1 << 20).prop_map(|(major, minor)| Kind::BlockDevice(major, minor)),
            Just(Kind::Fifo),
            Just(Kind::Whiteout),
            Just(Kind::OpaqueWhiteout),
        ]
    }

    fn meta() -> impl Strategy<Value = Meta> {
        let value = || proptest::collection::vec(any::<u8>(), 0..40);
        let names =
            prop_oneof![Just("security.capability"), Just("user.a b"), Just("user.é"), Just("user.zz")];
        let xattrs =
            proptest::collection::btree_map(names.prop_map(|name| name.as_bytes().to_vec()), value(), 0..4);
        let owner = || prop_oneof![0u32..100, Just((1 << 21) - 1), Just(1 << 21), Just(u32::MAX - 1)];
        let mtime = prop_oneof![-10i64..10, Just((1 << 33) - 1), Just(1 << 33), Just(i64::MIN)];
        (0u32..=0o7777, owner(), owner(), mtime, xattrs).prop_map(|(mode, uid, gid, mtime, xattrs)| Meta {
            mode,
            uid,
            gid,
            mtime,
            xattrs,
        })
    }

    fn any_entry() -> impl Strategy<Value = (Entry, Vec<u8>)> {
        (path(), kind(), meta()).prop_map(|(path, kind, meta)| {
            let content = match kind {
                Kind::File(bytes) => path.iter().copied().cycle().take(bytes as usize).collect(),
                _ => Vec::new(),
            };
            let hides = matches!(kind, Kind::Whiteout | Kind::OpaqueWhiteout);
            (Entry { path, kind, meta: if hides { Meta::NONE } else { meta } }, content)
        })
    }

    proptest! {
        #[test]
        fn decoding_gives_back_what_was_encoded(entries in proptest::collection::vec(any_entry(), 0..8)) {
            let archive = encode(&entries).unwrap();
            prop_assert_eq!(archive.len() % 512, 0);
            prop_assert_eq!(decode(&archive), entries);
        }
    }

    /// Pinned: another digest here is another DiffID for every layer there is.
    #[test]
    fn the_form_does_not_change() {
        let mut special = entry(&b"n".repeat(300), Kind::Symlink(b"t".repeat(101)));
        special.meta = Meta { uid: 1 << 21, gid: u32::MAX, mtime: -5, ..META };
        special.meta.xattrs.insert(b"security.capability".to_vec(), vec![1, 0, 0, 2, b'\n', 0]);
        let archive = encode(&[
            (entry(b"", Kind::Directory), vec![]),
            (entry(b"etc", Kind::Directory), vec![]),
            (Entry::whiteout(b"etc/motd".to_vec()), vec![]),
            (entry(b"etc/hosts", Kind::File(5)), b"hosts".to_vec()),
            (entry(b"etc/link", Kind::Hardlink(b"etc/hosts".to_vec())), vec![]),
            (entry(b"null", Kind::CharDevice(1, 3)), vec![]),
            (special, vec![]),
        ]);
        let digest = Digest::of(archive.unwrap());
        assert_eq!(
            digest.to_string(),
            "sha256:ef477f15c704e255251fc0c152b5f3a60ceb6c28a8ab984d9ebf6efb3914efe6"
        );
    }

    #[test]
    fn reserved_names_are_refused() {
        for path in ["etc/.wh.x", ".wh.x", "etc/.wh..wh..opq"] {
            let result = encode(&[(entry(path.as_bytes(), Kind::Fifo), vec![])]);
            assert!(matches!(result, Err(LayerError::ReservedName { .. })), "{path}: {result:?}");
        }
    }

    #[test]
    fn attribute_names_that_a_pax_key_cannot_hold_are_refused() {
        for name in [b"user.a=b".as_slice(), b"user.\xff"] {
            let mut file = entry(b"x", Kind::File(0));
            file.meta.xattrs.insert(name.to_vec(), vec![]);
            assert!(matches!(encode(&[(file, vec![])]), Err(LayerError::Unsupported { .. })));
        }
    }

    #[test]
    fn a_file_that_changes_its_size_is_an_error() {
        for (listed, read) in [(3, 2), (3, 4), (0, 1)] {
            let result = encode(&[(entry(b"x", Kind::File(listed)), vec![7; read])]);
            assert!(matches!(result, Err(LayerError::SizeChanged { expected, .. }) if expected == listed));
        }
    }
}
