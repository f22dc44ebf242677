//! Decodes tar archives of any writer into entries.
//!
//! Reads archives of [`Encoder`](super::Encoder), and ustar, GNU and PAX archives of docker,
//! buildkit, umoci and GNU tar. Unpacks nothing.
//!
//! Paths become relative, without `.` and empty components; `..` is refused. Extended attributes
//! that do not belong to the layer ([`is_content`]) are dropped. A global PAX header that would
//! change members is refused.

use std::io::{self, Read};
use std::ops::Range;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use tar::EntryType;

use super::acl::add_lists;
use super::encode::{OPAQUE, WHITEOUT, XATTR};
use super::entry::{Entry, Kind, Meta, Xattrs};
use super::error::{LayerError, display};
use super::member::{Member, Members};
use super::number::parse_number;
use super::xattr::is_content;

/// Prefix of the names that AUFS uses in the root for its own files: `.wh..wh.aufs`,
/// `.wh..wh.orph`, `.wh..wh.plnk`. The decoder returns them as ordinary entries. They are not part
/// of the layer, but hard links may lead to files in `.wh..wh.plnk`.
///
/// Source: `aufs(5)`; moby `pkg/archive/whiteouts.go`.
pub const AUFS: &[u8] = b".wh..wh.";

/// Reads a layer's tar archive, entry by entry.
pub struct Decoder<R> {
    members: Members<R>,
}

impl<R: Read> Decoder<R> {
    /// Reads an uncompressed archive. Makes many small reads, so `input` should be buffered.
    pub fn new(input: R) -> Self {
        Self { members: Members::new(input) }
    }

    /// Returns the next entry with a reader of its content, or `None` at the end of the archive.
    ///
    /// # Errors
    /// [`LayerError::Read`] where the archive is no tar archive or ends early,
    /// [`LayerError::BadPath`], [`LayerError::BadHeader`] and [`LayerError::Unsupported`] for a
    /// member that no layer may hold.
    pub fn next_entry(&mut self) -> Result<Option<(Entry, Content<'_, R>)>, LayerError> {
        let Some(member) = self.members.next()? else { return Ok(None) };
        Ok(Some((decode(member)?, Content(&mut self.members))))
    }

    /// Returns the reader, at an unspecified position after the last entry.
    pub fn into_inner(self) -> R {
        self.members.into_inner()
    }
}

/// The content of a file in an archive; empty for other kinds.
pub struct Content<'a, R>(&'a mut Members<R>);

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

fn decode(member: Member) -> Result<Entry, LayerError> {
    let path = normalise(&member.path)?;
    let entry = match whiteout(&path)? {
        Some(entry) => entry,
        None => match kind(&member, &path)? {
            // overlayfs treats every such device as a whiteout, so all engines that use it do.
            Kind::CharDevice(0, 0) => Entry::whiteout(path),
            kind => Entry { kind, meta: meta(&member, &path)?, path },
        },
    };
    if entry.path.is_empty() && !matches!(entry.kind, Kind::Directory | Kind::OpaqueWhiteout) {
        let problem = "replaces the root directory by another kind of entry";
        return Err(LayerError::BadPath { path: display(&member.path), problem });
    }
    Ok(entry)
}

/// Makes a path of an archive relative, and removes `.` and empty components.
fn normalise(raw: &[u8]) -> Result<Vec<u8>, LayerError> {
    let bad = |problem| LayerError::BadPath { path: display(raw), problem };
    if raw.contains(&0) {
        return Err(bad("contains a NUL byte"));
    }
    let parts: Vec<&[u8]> =
        raw.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.contains(&b"..".as_slice()) {
        return Err(bad("contains `..`"));
    }
    Ok(parts.join(&b'/'))
}

fn whiteout(path: &[u8]) -> Result<Option<Entry>, LayerError> {
    let split = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let (parent, name) = path.split_at(split);
    if name == OPAQUE {
        let path = parent.strip_suffix(b"/").unwrap_or(parent).to_vec();
        return Ok(Some(Entry { path, kind: Kind::OpaqueWhiteout, meta: Meta::NONE }));
    }
    match name.strip_prefix(WHITEOUT) {
        None => Ok(None),
        Some(_) if parent.is_empty() && name.starts_with(AUFS) => Ok(None),
        Some(b"" | b"." | b"..") => {
            Err(LayerError::BadPath { path: display(path), problem: "is a whiteout without a valid name" })
        }
        Some(hidden) => Ok(Some(Entry::whiteout([parent, hidden].concat()))),
    }
}

fn kind(member: &Member, path: &[u8]) -> Result<Kind, LayerError> {
    Ok(match member.header.entry_type() {
        EntryType::GNUSparse => Kind::File(member.bytes),
        EntryType::Directory => Kind::Directory,
        // Version 7 tar had no type for directories. Readers do not agree on such an entry with
        // content.
        EntryType::Regular if member.path.ends_with(b"/") => match member.bytes {
            0 => Kind::Directory,
            _ => {
                let problem = "is a file with content, and its name ends with `/`";
                return Err(LayerError::BadPath { path: display(path), problem });
            }
        },
        EntryType::Regular | EntryType::Continuous => Kind::File(member.bytes),
        EntryType::Symlink => Kind::Symlink(link(member, path)?.to_vec()),
        EntryType::Link => Kind::Hardlink(normalise(link(member, path)?)?),
        EntryType::Char => device(member, path, Kind::CharDevice)?,
        EntryType::Block => device(member, path, Kind::BlockDevice)?,
        EntryType::Fifo => Kind::Fifo,
        other => return Err(unsupported(path, &format!("of type {:?}", char::from(other.as_byte())))),
    })
}

fn link<'m>(member: &'m Member, path: &[u8]) -> Result<&'m [u8], LayerError> {
    let bad = |problem| LayerError::BadPath { path: display(path), problem };
    match member.link.as_deref() {
        Some(target) if target.contains(&0) => Err(bad("links to a name with a NUL byte")),
        Some(target) if !target.is_empty() => Ok(target),
        _ => Err(bad("is a link without a target")),
    }
}

/// Reads the number of a device. Refuses numbers of which the kernel would ignore some bits: the
/// node would be another device.
///
/// Source: Linux, `include/linux/kdev_t.h`: a major number has 12 bits, a minor one 20.
fn device(member: &Member, path: &[u8], kind: fn(u32, u32) -> Kind) -> Result<Kind, LayerError> {
    let number = |field: Range<usize>, value: io::Result<Option<u32>>, bits: u32| {
        // Some writers leave the fields of a zero empty.
        let is_empty = member.header.as_bytes()[field].iter().all(|byte| matches!(byte, 0 | b' '));
        let number = match value {
            // Version 7 headers lack these fields. As zeros, they would make the device a whiteout.
            Ok(None) => Err(io::ErrorKind::InvalidData.into()),
            Err(_) if is_empty => Ok(0),
            value => value.map(Option::unwrap_or_default),
        };
        let number = number.and_then(|number| match number >> bits {
            0 => Ok(number),
            _ => Err(io::ErrorKind::InvalidData.into()),
        });
        number.map_err(|source| bad_header(path, "device number", source))
    };
    let major = number(329..337, member.header.device_major(), 12)?;
    Ok(kind(major, number(337..345, member.header.device_minor(), 20)?))
}

fn meta(member: &Member, path: &[u8]) -> Result<Meta, LayerError> {
    let header = &member.header;
    Ok(Meta {
        mode: header.mode().map_err(|source| bad_header(path, "mode", source))? & 0o7777,
        uid: owner(member, path, "uid", header.uid())?,
        gid: owner(member, path, "gid", header.gid())?,
        mtime: mtime(member, path)?,
        xattrs: xattrs(member, path)?,
    })
}

fn owner(
    member: &Member,
    path: &[u8],
    key: &'static str,
    in_header: io::Result<u64>,
) -> Result<u32, LayerError> {
    let number = match member.pax.get(key.as_bytes()) {
        Some(text) => parse_number(text).ok_or_else(|| io::ErrorKind::InvalidData.into()),
        None => in_header,
    };
    // For chown(2), the highest number is -1, "keep the owner": the file would belong to the user
    // who unpacks it.
    let narrow = |number: u64| u32::try_from(number).ok().filter(|number| *number != u32::MAX);
    number
        .and_then(|number| narrow(number).ok_or_else(|| io::ErrorKind::InvalidData.into()))
        .map_err(|source| bad_header(path, key, source))
}

fn mtime(member: &Member, path: &[u8]) -> Result<i64, LayerError> {
    let seconds = match member.pax.get(b"mtime".as_slice()) {
        Some(text) => parse_seconds(text).ok_or_else(|| io::ErrorKind::InvalidData.into()),
        // Fields in base 256 can be negative. The crate returns them as unsigned, with the same
        // bits.
        None => member.header.mtime().map(|seconds| seconds as i64),
    };
    seconds.map_err(|source| bad_header(path, "mtime", source))
}

/// Parses `-12.5` as whole seconds, rounded down.
fn parse_seconds(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let below = whole.starts_with('-') && fraction.bytes().any(|digit| digit != b'0');
    seconds.checked_sub(i64::from(below))
}

/// Reads the extended attributes of star, GNU tar and Go (`SCHILY.xattr`), and of libarchive
/// (`LIBARCHIVE.xattr`), which escapes names as in URLs and encodes values in base64. libarchive
/// writes both forms.
fn xattrs(member: &Member, path: &[u8]) -> Result<Xattrs, LayerError> {
    let mut xattrs = Xattrs::new();
    for (key, value) in &member.pax {
        if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
            let invalid = || bad_header(path, "extended attribute", io::ErrorKind::InvalidData.into());
            let name = unescape(name).ok_or_else(invalid)?;
            if is_content(&name) {
                xattrs.insert(name, BASE64.decode(value).map_err(|_| invalid())?);
            }
        }
    }
    // After libarchive's form, so that the plain form wins if there are both.
    let named = |(key, value): (&Vec<u8>, &Vec<u8>)| {
        let name = key.strip_prefix(XATTR.as_bytes()).filter(|name| is_content(name))?;
        Some((name.to_vec(), value.clone()))
    };
    xattrs.extend(member.pax.iter().filter_map(named));
    add_lists(|key| member.pax.get(key), &mut xattrs).map_err(|what| unsupported(path, &what))?;
    Ok(xattrs)
}

/// Decodes `a%3Db`.
fn unescape(text: &[u8]) -> Option<Vec<u8>> {
    let (mut plain, mut rest) = (Vec::new(), text);
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            plain.push(*first);
            continue;
        }
        let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
        plain.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &tail[2..];
    }
    Some(plain)
}

/// libarchive omits the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn bad_header(path: &[u8], field: &'static str, source: io::Error) -> LayerError {
    LayerError::BadHeader { path: display(path), field, source }
}

fn unsupported(path: &[u8], what: &str) -> LayerError {
    LayerError::Unsupported { path: display(path), what: what.to_owned() }
}

#[cfg(test)]
mod tests {
    use tar::{Builder, Header};

    use super::*;

    /// Returns an archive of one member; names are written as they are.
    fn archive(kind: EntryType, name: &[u8], link: &[u8]) -> Vec<u8> {
        let header =
            member(kind, name, |header| header.as_old_mut().linkname[..link.len()].copy_from_slice(link));
        [header, vec![0; 1024]].concat()
    }

    /// Returns a member without content, in GNU format.
    fn member(kind: EntryType, name: &[u8], set: impl FnOnce(&mut Header)) -> Vec<u8> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        set(&mut header);
        header.set_cksum();
        header.as_bytes().to_vec()
    }

    fn paths(archive: &[u8]) -> Result<Vec<String>, LayerError> {
        let mut decoder = Decoder::new(archive);
        let mut paths = Vec::new();
        while let Some((entry, _)) = decoder.next_entry()? {
            paths.push(display(&entry.path));
        }
        Ok(paths)
    }

    fn decode_one(archive: &[u8]) -> Result<Entry, LayerError> {
        let mut decoder = Decoder::new(archive);
        let (entry, _) = decoder.next_entry()?.expect("an entry");
        Ok(entry)
    }

    #[test]
    fn paths_come_out_relative_and_plain() {
        for (name, expected) in
            [("/etc/x", "etc/x"), ("./etc//x", "etc/x"), ("etc/./x", "etc/x"), ("x..", "x..")]
        {
            let entry = decode_one(&archive(EntryType::Regular, name.as_bytes(), b"")).unwrap();
            assert_eq!(entry.path, expected.as_bytes(), "{name}");
        }
        for name in ["./", "/", "."] {
            assert_eq!(decode_one(&archive(EntryType::Directory, name.as_bytes(), b"")).unwrap().path, b"");
        }
    }

    #[test]
    fn paths_and_links_out_of_the_root_are_refused() {
        for (kind, name, link) in [
            (EntryType::Regular, "../x", ""),
            (EntryType::Regular, "a/../../x", ""),
            (EntryType::Link, "x", "../etc/passwd"),
            (EntryType::Link, "x", ""),
            (EntryType::Regular, "a/.wh...", ""),
            (EntryType::Regular, ".wh..", ""),
            (EntryType::Regular, ".wh.", ""),
            (EntryType::Symlink, "/", "etc"),
        ] {
            let result = decode_one(&archive(kind, name.as_bytes(), link.as_bytes()));
            assert!(matches!(result, Err(LayerError::BadPath { .. })), "{name} {link}: {result:?}");
        }
    }

    #[test]
    fn foreign_forms_are_understood() {
        let kind = |kind, name: &str, link: &str| {
            decode_one(&archive(kind, name.as_bytes(), link.as_bytes())).map(|entry| entry.kind)
        };
        assert_eq!(kind(EntryType::Regular, "v7/", "").unwrap(), Kind::Directory);
        let with_content = member(EntryType::Regular, b"file/", |header| header.set_size(1));
        assert!(
            matches!(decode_one(&with_content), Err(LayerError::BadPath { .. })),
            "no content is dropped"
        );
        assert_eq!(kind(EntryType::Continuous, "x", "").unwrap(), Kind::File(0));
        assert_eq!(kind(EntryType::Link, "x", "/a/b").unwrap(), Kind::Hardlink(b"a/b".to_vec()));
        assert_eq!(kind(EntryType::Symlink, "x", "/../b").unwrap(), Kind::Symlink(b"/../b".to_vec()));
        assert_eq!(kind(EntryType::Regular, "a/.wh..wh..opq", "").unwrap(), Kind::OpaqueWhiteout);
        assert!(matches!(kind(EntryType::new(b'V'), "volume", ""), Err(LayerError::Unsupported { .. })));
    }

    #[test]
    fn a_size_in_the_header_of_a_member_without_content_is_ignored() {
        for kind in
            [EntryType::Directory, EntryType::Link, EntryType::Symlink, EntryType::Fifo, EntryType::Char]
        {
            let first = member(kind, b"first", |header| {
                header.set_size(1000);
                header.as_old_mut().linkname[0] = b'x';
                header.set_device_major(1).unwrap();
                header.set_device_minor(3).unwrap();
            });
            let archive = [first, member(EntryType::Regular, b"second", |_| ())].concat();
            assert_eq!(paths(&archive).unwrap(), ["first", "second"], "{kind:?}");
        }
    }

    #[test]
    fn entries_after_a_single_block_of_zeros_are_an_error() {
        let (file, zeros) = (|name: &[u8]| member(EntryType::Regular, name, |_| ()), vec![0; 512]);
        let broken = [file(b"a"), zeros.clone(), file(b"b")].concat();
        let error = paths(&broken).unwrap_err();
        assert!(
            std::error::Error::source(&error).unwrap().to_string().contains("single block of zeros"),
            "{error:?}"
        );
        for end in [vec![], zeros.clone(), zeros.repeat(2), zeros.repeat(20)] {
            assert_eq!(paths(&[file(b"a"), end].concat()).unwrap(), ["a"]);
        }
        assert_eq!(paths(&[file(b"a"), zeros.repeat(2), file(b"b")].concat()).unwrap(), ["a"]);
    }

    #[test]
    fn numbers_that_the_kernel_cuts_off_are_refused() {
        let device = |major, minor| {
            let device = member(EntryType::Char, b"dev", |header| {
                header.set_device_major(major).unwrap();
                header.set_device_minor(minor).unwrap();
            });
            decode_one(&device).map(|entry| entry.kind)
        };
        assert_eq!(device(4095, (1 << 20) - 1).unwrap(), Kind::CharDevice(4095, (1 << 20) - 1));
        for (major, minor) in [(4096, 0), (1, 1 << 20)] {
            assert!(matches!(
                device(major, minor),
                Err(LayerError::BadHeader { field: "device number", .. })
            ));
        }
        let owned = |uid| decode_one(&member(EntryType::Regular, b"file", |header| header.set_uid(uid)));
        assert_eq!(owned(u64::from(u32::MAX) - 1).unwrap().meta.uid, u32::MAX - 1);
        for uid in [u64::from(u32::MAX), 1 << 32] {
            assert!(matches!(owned(uid), Err(LayerError::BadHeader { field: "uid", .. })), "{uid}");
        }
    }

    #[test]
    fn checksums_of_signed_bytes_are_accepted() {
        let mut bytes = member(EntryType::Regular, b"x", |header| header.as_old_mut().name[1] = 0xe9);
        let sum =
            bytes[..148].iter().chain(&bytes[156..]).map(|byte| i32::from(byte.cast_signed())).sum::<i32>()
                + 256;
        bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        assert_eq!(decode_one(&bytes).unwrap().path, b"x\xe9");
        bytes[148] ^= 1;
        assert!(matches!(decode_one(&bytes), Err(LayerError::Read(_))));
    }

    #[test]
    fn a_global_header_that_changes_members_is_refused() {
        let global = |record: &str| {
            let header =
                member(EntryType::XGlobalHeader, b"g", |header| header.set_size(record.len() as u64));
            let padding = vec![0; 512 - record.len()];
            paths(
                &[header, record.as_bytes().to_vec(), padding, member(EntryType::Regular, b"file", |_| ())]
                    .concat(),
            )
        };
        assert_eq!(global("13 comment=a\n").unwrap(), ["file"]);
        for record in ["9 uid=10\n", "29 SCHILY.xattr.user.a=value\n"] {
            assert!(matches!(global(record), Err(LayerError::Read(_))), "{record}");
        }
    }

    #[test]
    fn access_control_lists_become_attributes() {
        let list = |text: &[u8]| {
            let mut builder = Builder::new(Vec::new());
            builder.append_pax_extensions([("SCHILY.acl.access", text)]).unwrap();
            let mut bytes = builder.into_inner().unwrap();
            bytes.truncate(bytes.len() - 1024);
            bytes.extend(archive(EntryType::Regular, b"x", b""));
            decode_one(&bytes).map(|entry| entry.meta.xattrs.into_keys().collect::<Vec<_>>())
        };
        let numbers = b"user::rw-\nuser:7:rwx\ngroup::r--\nmask::rwx\nother::---\n";
        assert_eq!(list(numbers).unwrap(), [b"system.posix_acl_access"]);
        assert!(matches!(list(b"user::rw-\nuser:bob:rwx"), Err(LayerError::Unsupported { .. })));
    }

    #[test]
    fn fractions_of_seconds_are_rounded_down() {
        for (text, expected) in [
            ("12", Some(12)),
            ("12.999", Some(12)),
            ("-5", Some(-5)),
            ("-5.0", Some(-5)),
            ("-5.1", Some(-6)),
            ("-0.5", Some(-1)),
            ("x", None),
            ("1.x", None),
        ] {
            assert_eq!(parse_seconds(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn an_archive_that_ends_early_is_an_error() {
        let bytes = archive(EntryType::Regular, b"x", b"");
        let result = decode_one(&bytes[..300]);
        assert!(matches!(result, Err(LayerError::Read(_))), "{result:?}");
    }

    #[test]
    fn other_files_than_tar_archives_are_an_error() {
        let result = decode_one(&[b'x'; 2048]);
        assert!(matches!(result, Err(LayerError::Read(_))), "{result:?}");
    }

    #[test]
    fn machine_dependent_attributes_are_dropped() {
        let mut builder = Builder::new(Vec::new());
        let records = [
            ("SCHILY.xattr.security.selinux", b"x".as_slice()),
            ("SCHILY.xattr.user.a", b"1"),
            ("LIBARCHIVE.xattr.user.b%3Dc", b"AQIDBA=="),
            ("LIBARCHIVE.xattr.security.ima", b"AQ=="),
            ("mtime", b"7.9"),
        ];
        builder.append_pax_extensions(records).unwrap();
        let mut bytes = builder.into_inner().unwrap();
        bytes.truncate(bytes.len() - 1024);
        bytes.extend(archive(EntryType::Regular, b"x", b""));
        let entry = decode_one(&bytes).unwrap();
        assert_eq!(
            entry.meta.xattrs,
            Xattrs::from([(b"user.a".to_vec(), b"1".to_vec()), (b"user.b=c".to_vec(), vec![1, 2, 3, 4])])
        );
        assert_eq!(entry.meta.mtime, 7);
    }
}
