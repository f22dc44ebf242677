//! Writes a root file system as one tar archive, in the form of layers.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::write::GzEncoder;

use super::OutputError;
use super::destination::{Destination, Written};
use super::error::io_error;
use super::pending::Pending;
use crate::layer::{Clamp, Encoder, Entry, Kind, Meta, Xattrs};
use crate::tree::{self, Dir, Links, meta};

/// The form of member names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberNames {
    /// `etc/hosts`, as in layers.
    Bare,
    /// `./etc/hosts`, as `tar -C ROOT .` writes them.
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
    /// Uncompressed.
    Plain(MemberNames),
    /// Compressed with gzip, without name and time in its header.
    Gzip(MemberNames),
    /// An App Container Image: the tree in the directory `rootfs`, and the file `manifest`.
    ///
    /// Source: App Container specification, `aci.md`, "Image Layout".
    AppContainer { manifest: &'a [u8] },
}

/// Writes everything below the directory `root` to an archive, with clamped times.
///
/// Leaves sockets out. Stops when `interrupt` becomes true.
pub fn write_tar(
    root: &Path,
    destination: &Destination,
    form: TarForm<'_>,
    clamp: &Clamp,
    interrupt: &AtomicBool,
) -> Result<Written, OutputError> {
    let pending = destination.pending()?;
    write_archive(root, &pending, form, clamp, interrupt)
        .map_err(|error| error.of_result(pending.target()))?;
    destination.publish(pending)
}

fn write_archive(
    tree: &Path,
    pending: &Pending,
    form: TarForm<'_>,
    clamp: &Clamp,
    interrupt: &AtomicBool,
) -> Result<(), OutputError> {
    let out = BufWriter::with_capacity(1 << 20, pending.file());
    let failed = io_error("write", pending.target());
    let tree = Tree { root: tree, clamp, interrupt };
    match form {
        TarForm::Plain(names) => tree.write(Encoder::new(out), names.root())?.flush().map_err(failed),
        TarForm::Gzip(names) => {
            let gzip = GzEncoder::new(out, flate2::Compression::default());
            let gzip = tree.write(Encoder::new(gzip), names.root())?;
            gzip.finish().and_then(|mut out| out.flush()).map_err(failed)
        }
        TarForm::AppContainer { manifest } => {
            let mut encoder = Encoder::new(out);
            encoder.append_file(&manifest_entry(manifest, clamp.epoch), &mut &*manifest)?;
            tree.write(encoder, b"rootfs")?.flush().map_err(failed)
        }
    }
}

fn manifest_entry(manifest: &[u8], time: i64) -> Entry {
    let meta = Meta { mode: 0o644, uid: 0, gid: 0, mtime: time, xattrs: Xattrs::default() };
    Entry { path: b"manifest".to_vec(), kind: Kind::File(manifest.len() as u64), meta }
}

/// The tree to write.
#[derive(Clone, Copy)]
struct Tree<'a> {
    root: &'a Path,
    clamp: &'a Clamp,
    interrupt: &'a AtomicBool,
}

impl Tree<'_> {
    /// Adds the tree as the directory `name`. With an empty name, the tree is the root of the
    /// archive.
    fn write<W: Write>(self, encoder: Encoder<W>, name: &[u8]) -> Result<W, OutputError> {
        let mut archive = Archive { clamp: self.clamp, name, encoder, links: Links::default() };
        let root = Dir::open(self.root)?;
        archive.append(&root.itself()?)?;
        tree::walk(&root, &mut |entry| match self.interrupt.load(Ordering::Relaxed) {
            true => Err(OutputError::Interrupted),
            false => archive.append(entry),
        })?;
        Ok(archive.encoder.finish()?.0)
    }
}

struct Archive<'a, W: Write> {
    clamp: &'a Clamp,
    /// The name of the root.
    name: &'a [u8],
    encoder: Encoder<W>,
    /// The member name of the first name of each hard-linked file.
    links: Links<Vec<u8>>,
}

impl<W: Write> Archive<'_, W> {
    fn append(&mut self, found: &tree::Entry<'_>) -> Result<(), OutputError> {
        let path = self.member(&found.path);
        let Some(kind) = found.kind()? else { return Ok(()) };
        let kind = match (self.links.first(&found.stat, || path.clone()), kind) {
            (Some(first), _) => Kind::Hardlink(first.clone()),
            // In a complete root file system, a character device 0/0 is not a removal, but a
            // device.
            (None, Kind::Whiteout) => Kind::CharDevice(0, 0),
            (None, kind) => kind,
        };
        let meta = Meta { xattrs: found.xattrs()?, ..meta(&found.stat, self.clamp) };
        let entry = Entry { path, kind, meta };
        if let Kind::File(_) = entry.kind {
            let mut content = tree::content(found.open()?).map_err(found.failed("read"))?;
            return Ok(self.encoder.append_file(&entry, &mut content)?);
        }
        Ok(self.encoder.append(&entry)?)
    }

    /// Returns the member name of a path below the root.
    fn member(&self, path: &[u8]) -> Vec<u8> {
        let parts = [self.name, path].into_iter().filter(|part| !part.is_empty());
        parts.collect::<Vec<_>>().join(&b'/')
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn sample() -> tempfile::TempDir {
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
        write_archive(tree, &pending, form, &Clamp::to(LATEST), &AtomicBool::new(false)).unwrap();
        fs::read(pending.path_for_programs()).unwrap()
    }

    #[test]
    fn an_archive_has_everything_except_sockets_in_byte_order() {
        let bytes = archive(sample().path(), TarForm::Plain(MemberNames::Bare));
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

    /// Its path is longer than a system call accepts.
    #[test]
    fn a_tree_of_300_levels_is_archived_to_the_end() {
        const NAME: &str = "a-name-of-some-length";
        let place = tempfile::tempdir().unwrap();
        let mut handle = tree::open_directory(rustix::fs::CWD, place.path()).unwrap();
        for _ in 0..300 {
            rustix::fs::mkdirat(&handle, NAME, rustix::fs::Mode::RWXU).unwrap();
            handle = tree::open_directory(&handle, NAME).unwrap();
        }
        rustix::fs::symlinkat("target", &handle, "link").unwrap();
        let bytes = archive(place.path(), TarForm::Plain(MemberNames::Bare));
        let mut decoder = crate::layer::Decoder::new(&bytes[..]);
        let mut last = None;
        while let Some((entry, _)) = decoder.next_entry().unwrap() {
            last = Some((entry.path.len(), entry.kind));
        }
        assert_eq!(last, Some((300 * (NAME.len() + 1) + 4, Kind::Symlink(b"target".to_vec()))));
    }

    #[test]
    fn an_app_container_has_its_tree_in_a_directory_beside_its_manifest() {
        let form = TarForm::AppContainer { manifest: b"{}" };
        let bytes = archive(sample().path(), form);
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
    fn dotted_names_are_as_tar_writes_them() {
        let bytes = archive(sample().path(), TarForm::Plain(MemberNames::Dotted));
        for (place, name) in [(0, &b"./\0"[..]), (512, b"./a\0")] {
            let place = bytes.windows(name.len()).skip(place).position(|bytes| bytes == name);
            assert!(place.is_some(), "{}", String::from_utf8_lossy(name));
        }
    }

    #[test]
    fn gzip_holds_the_same_bytes_and_no_time() {
        let tree = sample();
        let packed = archive(tree.path(), TarForm::Gzip(MemberNames::Dotted));
        assert_eq!(packed[4..8], [0; 4]);
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut bytes).unwrap();
        assert!(bytes == archive(tree.path(), TarForm::Plain(MemberNames::Dotted)));
    }
}
