//! A root file system as one tar archive, in the form that layers have.

use std::collections::HashMap;
use std::fs::{self, DirEntry, File, Metadata};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::write::GzEncoder;
use rustix::buffer::spare_capacity;
use rustix::fs::{lgetxattr, llistxattr, major, minor};
use rustix::io::Errno;

use super::OutputError;
use super::destination::{Destination, Written};
use super::error::io_error;
use super::pending::Pending;
use crate::layer::{Encoder, Entry, Kind, Meta, Xattrs, is_content};

/// The kernel's limit of a list of names, and of a value: `XATTR_LIST_MAX`, `XATTR_SIZE_MAX`.
const XATTR_LIMIT_BYTES: usize = 64 << 10;

/// How the members of an archive are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberNames {
    /// `etc/hosts`, as in layers.
    Bare,
    /// `./etc/hosts`, as `tar -C ROOT .` has them.
    Dotted,
}

impl MemberNames {
    const fn root(self) -> &'static [u8] {
        match self {
            MemberNames::Bare => b"",
            MemberNames::Dotted => b".",
        }
    }
}

/// The form of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TarForm<'a> {
    /// As it is.
    Plain(MemberNames),
    /// Compressed by gzip, without name and time in its header.
    Gzip(MemberNames),
    /// An App Container Image: the tree in the directory `rootfs`, beside it the file `manifest`.
    ///
    /// Source: App Container specification, `aci.md`, "Image Layout".
    AppContainer {
        /// The manifest's text.
        manifest: &'a [u8],
    },
}

/// Writes everything below the directory `root` to an archive. No time in it is later than `latest`, in seconds since 1970.
///
/// Sockets are left out. Stops when `interrupt` becomes true.
pub fn write_tar(
    root: &Path,
    destination: &Destination,
    form: TarForm<'_>,
    latest: i64,
    interrupt: &AtomicBool,
) -> Result<Written, OutputError> {
    let pending = destination.pending()?;
    write_archive(root, &pending, form, latest, interrupt)
        .map_err(|error| error.of_result(pending.target()))?;
    destination.publish(pending)
}

fn write_archive(
    tree: &Path,
    pending: &Pending,
    form: TarForm<'_>,
    latest: i64,
    interrupt: &AtomicBool,
) -> Result<(), OutputError> {
    let out = BufWriter::with_capacity(1 << 20, pending.file());
    let failed = io_error("write", pending.target());
    let tree = Tree { root: tree, latest, interrupt };
    match form {
        TarForm::Plain(names) => tree.write(Encoder::new(out), names.root())?.flush().map_err(failed),
        TarForm::Gzip(names) => {
            let gzip = GzEncoder::new(out, flate2::Compression::default());
            let gzip = tree.write(Encoder::new(gzip), names.root())?;
            gzip.finish().and_then(|mut out| out.flush()).map_err(failed)
        }
        TarForm::AppContainer { manifest } => {
            let mut encoder = Encoder::new(out);
            encoder.append_file(&manifest_entry(manifest, latest), &mut &*manifest)?;
            tree.write(encoder, b"rootfs")?.flush().map_err(failed)
        }
    }
}

fn manifest_entry(manifest: &[u8], time: i64) -> Entry {
    let meta = Meta { mode: 0o644, uid: 0, gid: 0, mtime: time, xattrs: Xattrs::default() };
    Entry { path: b"manifest".to_vec(), kind: Kind::File(manifest.len() as u64), meta }
}

/// What is written.
#[derive(Clone, Copy)]
struct Tree<'a> {
    root: &'a Path,
    /// No time is later.
    latest: i64,
    interrupt: &'a AtomicBool,
}

impl Tree<'_> {
    /// Adds the tree as the directory `name`; with an empty name, as the archive's own root.
    fn write<W: Write>(self, encoder: Encoder<W>, name: &[u8]) -> Result<W, OutputError> {
        let mut walk = Walk { tree: self, encoder, links: HashMap::new() };
        let status = fs::symlink_metadata(self.root).map_err(io_error("examine", self.root))?;
        walk.append(self.root, name.to_vec(), &status)?;
        walk.directory(self.root, name)?;
        Ok(walk.encoder.finish()?.0)
    }
}

struct Walk<'a, W: Write> {
    tree: Tree<'a>,
    encoder: Encoder<W>,
    /// Where in the archive the first name of a hard-linked file is.
    links: HashMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> Walk<'_, W> {
    fn directory(&mut self, source: &Path, name: &[u8]) -> Result<(), OutputError> {
        let entries = fs::read_dir(source).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut entries = entries.map_err(io_error("read directory", source))?;
        entries.sort_by_key(DirEntry::file_name);
        for entry in entries {
            if self.tree.interrupt.load(Ordering::Relaxed) {
                return Err(OutputError::Interrupted);
            }
            let source = entry.path();
            let name =
                [name, entry.file_name().as_bytes()].join(if name.is_empty() { &b""[..] } else { b"/" });
            let status = fs::symlink_metadata(&source).map_err(io_error("examine", &source))?;
            self.append(&source, name.clone(), &status)?;
            if status.is_dir() {
                self.directory(&source, &name)?;
            }
        }
        Ok(())
    }

    fn append(&mut self, source: &Path, path: Vec<u8>, status: &Metadata) -> Result<(), OutputError> {
        let Some(kind) = self.kind(source, &path, status).map_err(io_error("read", source))? else {
            return Ok(());
        };
        let meta = Meta {
            mode: status.mode() & 0o7777,
            uid: status.uid(),
            gid: status.gid(),
            mtime: status.mtime().min(self.tree.latest),
            xattrs: xattrs(source).map_err(|errno| io_error("read attributes of", source)(errno.into()))?,
        };
        if let Kind::File(_) = kind {
            let mut content = File::open(source).map_err(io_error("open", source))?;
            return Ok(self.encoder.append_file(&Entry { path, kind, meta }, &mut content)?);
        }
        Ok(self.encoder.append(&Entry { path, kind, meta })?)
    }

    fn kind(&mut self, source: &Path, path: &[u8], status: &Metadata) -> io::Result<Option<Kind>> {
        let device = (major(status.rdev()), minor(status.rdev()));
        Ok(Some(match status.file_type() {
            kind if kind.is_dir() => Kind::Directory,
            kind if kind.is_symlink() => Kind::Symlink(fs::read_link(source)?.into_os_string().into_vec()),
            kind if kind.is_file() => self.first_or_link(path, status),
            kind if kind.is_char_device() => Kind::CharDevice(device.0, device.1),
            kind if kind.is_block_device() => Kind::BlockDevice(device.0, device.1),
            kind if kind.is_fifo() => Kind::Fifo,
            _ => return Ok(None),
        }))
    }

    fn first_or_link(&mut self, path: &[u8], status: &Metadata) -> Kind {
        let id = (status.dev(), status.ino());
        match self.links.get(&id) {
            Some(first) => Kind::Hardlink(first.clone()),
            None => {
                if status.nlink() > 1 {
                    self.links.insert(id, path.to_vec());
                }
                Kind::File(status.len())
            }
        }
    }
}

fn xattrs(path: &Path) -> Result<Xattrs, Errno> {
    let mut names = Vec::with_capacity(XATTR_LIMIT_BYTES);
    match llistxattr(path, spare_capacity(&mut names)) {
        // A file system without attributes has none.
        Ok(_) | Err(Errno::OPNOTSUPP) => {}
        Err(errno) => return Err(errno),
    }
    let names = names.split(|&byte| byte == 0).filter(|name| is_content(name));
    names.map(|name| Ok((name.to_vec(), xattr(path, name)?))).collect()
}

fn xattr(path: &Path, name: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut value = Vec::with_capacity(XATTR_LIMIT_BYTES);
    lgetxattr(path, name, spare_capacity(&mut value))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        let at = |name: &str| tree.path().join(name);
        fs::create_dir(at("b")).unwrap();
        fs::write(at("b/file"), "text").unwrap();
        fs::write(at("a"), "linked").unwrap();
        fs::hard_link(at("a"), at("b/also-a")).unwrap();
        symlink("../nowhere", at("b/link")).unwrap();
        UnixListener::bind(at("socket")).unwrap();
        rustix::fs::setxattr(at("a"), "user.name", b"value", rustix::fs::XattrFlags::empty()).unwrap();
        tree
    }

    const LATEST: i64 = 1_600_000_000;

    fn archive(tree: &Path, form: TarForm<'_>) -> Vec<u8> {
        let directory = tempfile::tempdir().unwrap();
        let pending = Destination::at(&directory.path().join("root.tar")).unwrap().pending().unwrap();
        write_archive(tree, &pending, form, LATEST, &AtomicBool::new(false)).unwrap();
        fs::read(pending.path_for_programs()).unwrap()
    }

    #[test]
    fn an_archive_has_everything_but_sockets_in_order() {
        let bytes = archive(tree().path(), TarForm::Plain(MemberNames::Bare));
        let mut decoder = crate::layer::Decoder::new(&bytes[..]);
        let mut entries = Vec::new();
        while let Some((entry, _)) = decoder.next_entry().unwrap() {
            assert_eq!(entry.meta.mtime, LATEST);
            entries.push((String::from_utf8(entry.path).unwrap(), entry.kind, entry.meta.xattrs.len()));
        }
        let expected = [
            ("", Kind::Directory, 0),
            ("a", Kind::File(6), 1),
            ("b", Kind::Directory, 0),
            ("b/also-a", Kind::Hardlink(b"a".to_vec()), 1),
            ("b/file", Kind::File(4), 0),
            ("b/link", Kind::Symlink(b"../nowhere".to_vec()), 0),
        ];
        assert_eq!(entries, expected.map(|(path, kind, xattrs)| (path.to_owned(), kind, xattrs)));
    }

    #[test]
    fn an_app_container_has_its_tree_in_a_directory_beside_its_manifest() {
        let form = TarForm::AppContainer { manifest: b"{}" };
        let bytes = archive(tree().path(), form);
        let mut decoder = crate::layer::Decoder::new(&bytes[..]);
        let mut names = Vec::new();
        while let Some((entry, _)) = decoder.next_entry().unwrap() {
            if let Kind::Hardlink(first) = &entry.kind {
                assert_eq!(first, b"rootfs/a");
            }
            names.push(String::from_utf8(entry.path).unwrap());
        }
        let expected = ["manifest", "rootfs", "rootfs/a", "rootfs/b", "rootfs/b/also-a", "rootfs/b/file"];
        assert_eq!(names[..expected.len()], expected);
    }

    #[test]
    fn members_are_named_as_tar_names_what_is_in_a_directory() {
        let bytes = archive(tree().path(), TarForm::Plain(MemberNames::Dotted));
        for (place, name) in [(0, &b"./\0"[..]), (512, b"./a\0")] {
            let place = bytes.windows(name.len()).skip(place).position(|bytes| bytes == name);
            assert!(place.is_some(), "{}", String::from_utf8_lossy(name));
        }
    }

    #[test]
    fn gzip_holds_the_same_bytes_and_no_time() {
        let tree = tree();
        let packed = archive(tree.path(), TarForm::Gzip(MemberNames::Dotted));
        assert_eq!(packed[4..8], [0; 4]);
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut bytes).unwrap();
        assert!(bytes == archive(tree.path(), TarForm::Plain(MemberNames::Dotted)));
    }
}
