//! A layer's archive to a directory for overlayfs.
//!
//! Every name is resolved by the kernel beneath the directory's handle (`RESOLVE_IN_ROOT`): whatever the archive
//! holds, links to anywhere included, nothing outside can be read or written. The last component is never followed.
//! Owners come before modes (chown clears setuid) and before attributes (chown clears file capabilities); directories
//! get their meta data when all entries are there, as every entry moves their times.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::deferred::Deferred;
use super::document::verify_diff_id;
use super::file::{DIRECTORY, failed, open_directory, remove_tree, retry, split};
use super::node::{apply_meta, make_whiteout};
use super::{Store, xattr};
use crate::layer::{Content, Decoder, Entry, Kind, LayerError};
use crate::oci::{DiffId, HashingReader};
use crate::port::StoreError;

impl Store {
    /// Unpacks a layer into its snapshot.
    pub(super) fn unpack(&self, diff_id: &DiffId) -> Result<(), StoreError> {
        let scratch = self.scratch()?;
        let directory = scratch.path().join("root");
        self.unpack_to(diff_id, &directory)?;
        let snapshot = self.layout().snapshot(diff_id);
        match std::fs::rename(&directory, &snapshot) {
            // Unpacked by another process meanwhile: the same.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            result => result.map_err(failed("rename an unpacked layer to", &snapshot)),
        }
    }

    /// Unpacks a layer into the new directory `directory`, and verifies its DiffID on the way.
    pub(super) fn unpack_to(&self, diff_id: &DiffId, directory: &Path) -> Result<(), StoreError> {
        let layer = self.layer(diff_id)?.ok_or(StoreError::MissingLayer { diff_id: *diff_id })?;
        self.room()?.admit_unpacked(&layer)?;
        let mut archive = HashingReader::new(self.decoded(&layer)?);
        std::fs::create_dir(directory).map_err(failed("create directory", directory))?;
        unpack(&mut archive, open_directory(directory)?)?;
        verify_diff_id(diff_id, archive.finish().0)
    }
}

/// Unpacks an archive into the empty directory `root`, and reads the archive to its very end.
///
/// # Errors
/// [`LayerError`] where an entry cannot be read or applied.
pub(super) fn unpack(archive: impl Read, root: OwnedFd) -> Result<(), LayerError> {
    let mut decoder = Decoder::new(BufReader::with_capacity(BUFFER_BYTES, archive));
    let mut unpacker = Unpacker::new(root);
    while let Some((entry, mut content)) = decoder.next_entry()? {
        unpacker.apply(&entry, &mut content).map_err(|source| cannot_apply(&entry, source))?;
    }
    unpacker.finish()?;
    io::copy(&mut decoder.into_inner(), &mut io::sink()).map_err(LayerError::Read)?;
    Ok(())
}

const BUFFER_BYTES: usize = 128 * 1024;

fn cannot_apply(entry: &Entry, source: io::Error) -> LayerError {
    let path = String::from_utf8_lossy(&entry.path).into_owned();
    match source.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => LayerError::Read(source),
        _ => LayerError::Apply { path, source },
    }
}

struct Unpacker {
    root: OwnedFd,
    /// The parent of the last entry: most entries have the same.
    parent: Option<(Vec<u8>, OwnedFd)>,
    directories: Deferred,
}

impl Unpacker {
    fn new(root: OwnedFd) -> Self {
        Self { root, parent: None, directories: Deferred::new() }
    }

    fn apply<R: Read>(&mut self, entry: &Entry, content: &mut Content<'_, R>) -> io::Result<()> {
        if entry.kind == Kind::OpaqueWhiteout {
            return self.make_opaque(&entry.path);
        }
        if entry.path.is_empty() {
            return self.directories.set(&entry.path, &entry.meta);
        }
        let (parent, name) = split(&entry.path);
        let parent = self.open_parent(parent)?;
        match &entry.kind {
            Kind::Directory => {
                self.directories.set(&entry.path, &entry.meta)?;
                return Ok(make_directory(parent.as_fd(), name)?);
            }
            Kind::Whiteout => return Ok(remove_below(parent.as_fd(), name)?),
            Kind::Hardlink(target) => return self.link(target, parent.as_fd(), name),
            _ => {}
        }
        remove_tree(parent.as_fd(), name)?;
        create(parent.as_fd(), name, &entry.kind, content)?;
        Ok(apply_meta(parent.as_fd(), name, &entry.kind, &entry.meta)?)
    }

    fn link(&self, target: &[u8], parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
        let (target_parent, target_name) = split(target);
        let from = self.resolve(target_parent)?;
        if same_file(from.as_fd(), target_name, parent, name) {
            return Ok(());
        }
        remove_tree(parent, name)?;
        Ok(rustix::fs::linkat(from, target_name, parent, name, AtFlags::empty())?)
    }

    fn make_opaque(&mut self, path: &[u8]) -> io::Result<()> {
        let directory = self.open_parent(path)?;
        Ok(xattr::set_opaque(directory.as_fd(), b".")?)
    }

    /// Opens a directory of the tree; makes it, and those above it, if the archive names it for the first time here.
    fn open_parent(&mut self, path: &[u8]) -> io::Result<OwnedFd> {
        if let Some((cached, directory)) = &self.parent
            && cached == path
        {
            return Ok(rustix::io::fcntl_dupfd_cloexec(directory, 0)?);
        }
        let directory = match self.resolve(path) {
            Err(Errno::NOENT) => self.make_parent(path)?,
            result => result?,
        };
        self.parent = Some((path.to_vec(), rustix::io::fcntl_dupfd_cloexec(&directory, 0)?));
        Ok(directory)
    }

    fn make_parent(&mut self, path: &[u8]) -> io::Result<OwnedFd> {
        let (above, name) = split(path);
        let parent = self.open_parent(above)?;
        make_directory(parent.as_fd(), name)?;
        self.directories.imply(path)?;
        Ok(self.resolve(path)?)
    }

    fn resolve(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        retry(|| rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve))
    }

    /// Gives directories their meta data, deepest first.
    fn finish(self) -> Result<(), LayerError> {
        for (path, meta) in self.directories.deepest_first() {
            let apply = || -> Result<(), Errno> {
                let (parent, name) = split(path);
                let name = if name.is_empty() { b"." } else { name };
                let parent = self.resolve(parent)?;
                match rustix::fs::openat(&parent, name, DIRECTORY, Mode::empty()) {
                    // Replaced by a later entry of the archive.
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
                    opened => apply_meta(opened?.as_fd(), b".", &Kind::Directory, meta),
                }
            };
            let path = || String::from_utf8_lossy(path).into_owned();
            match apply() {
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                result => {
                    result.map_err(|source| LayerError::Apply { path: path(), source: source.into() })?
                }
            }
        }
        Ok(())
    }
}

fn same_file(a: BorrowedFd<'_>, a_name: &[u8], b: BorrowedFd<'_>, b_name: &[u8]) -> bool {
    let id = |directory, name: &[u8]| {
        let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some((stat.st_dev, stat.st_ino))
    };
    id(a, a_name).is_some() && id(a, a_name) == id(b, b_name)
}

/// Makes a directory, or keeps the one that is there. One in the place of a removal hides all that is below.
fn make_directory(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
        Err(Errno::EXIST) => {}
        result => return result,
    }
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => return Ok(()),
        file_type => {
            remove_tree(parent, name)?;
            rustix::fs::mkdirat(parent, name, Mode::RWXU)?;
            if file_type == FileType::CharacterDevice && stat.st_rdev == 0 {
                xattr::set_opaque(parent, name)?;
            }
        }
    }
    Ok(())
}

/// Removes what lower layers have: entries of the same archive stay, whatever comes first.
fn remove_below(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match make_whiteout(parent, name) {
        Err(Errno::EXIST) => {}
        result => return result,
    }
    let stat = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => xattr::set_opaque(parent, name),
        _ => Ok(()),
    }
}

fn create(parent: BorrowedFd<'_>, name: &[u8], kind: &Kind, content: &mut impl Read) -> io::Result<()> {
    let node = |file_type, major, minor| {
        rustix::fs::mknodat(
            parent,
            name,
            file_type,
            Mode::RUSR | Mode::WUSR,
            rustix::fs::makedev(major, minor),
        )
    };
    match kind {
        Kind::File(_) => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?);
            io::copy(content, &mut file)?;
        }
        Kind::Symlink(target) => rustix::fs::symlinkat(target.as_slice(), parent, name)?,
        Kind::CharDevice(major, minor) => node(FileType::CharacterDevice, *major, *minor)?,
        Kind::BlockDevice(major, minor) => node(FileType::BlockDevice, *major, *minor)?,
        Kind::Fifo => node(FileType::Fifo, 0, 0)?,
        Kind::Directory | Kind::Hardlink(_) | Kind::Whiteout | Kind::OpaqueWhiteout => {
            unreachable!("applied elsewhere")
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::{Encoder, Meta, Xattrs};

    /// An archive of files and links whose owner is whoever runs the test.
    fn archive(members: &[(&str, Kind, &str)]) -> Vec<u8> {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let meta = Meta { mode: 0o755, uid, gid, mtime: 77, xattrs: Xattrs::new() };
        let mut encoder = Encoder::new(Vec::new());
        let mut add = |path: &str, kind: &Kind, content: &str| {
            let entry = Entry { path: path.into(), kind: kind.clone(), meta: meta.clone() };
            encoder.append_file(&entry, &mut content.as_bytes()).unwrap();
        };
        add("", &Kind::Directory, "");
        members.iter().for_each(|(path, kind, content)| add(path, kind, content));
        encoder.finish().unwrap().0
    }

    fn file(path: &'static str, content: &'static str) -> (&'static str, Kind, &'static str) {
        (path, Kind::File(content.len() as u64), content)
    }

    fn link(path: &'static str, target: &str) -> (&'static str, Kind, &'static str) {
        (path, Kind::Symlink(target.into()), "")
    }

    fn hard_link(path: &'static str, target: &str) -> (&'static str, Kind, &'static str) {
        (path, Kind::Hardlink(target.into()), "")
    }

    fn directory(path: &'static str) -> (&'static str, Kind, &'static str) {
        (path, Kind::Directory, "")
    }

    /// Unpacks into `outer/root`, beside a file `outer/secret` that must stay as it is and alone.
    fn unpack_in(members: &[(&str, Kind, &str)], look: impl FnOnce(&Path, Result<(), LayerError>)) {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("root");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(outer.path().join("secret"), "secret").unwrap();
        let result = unpack(archive(members).as_slice(), open_directory(&root).unwrap());
        assert_eq!(std::fs::read(outer.path().join("secret")).unwrap(), b"secret", "{members:?}");
        assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 2, "{members:?}");
        look(&root, result);
    }

    #[test]
    fn nothing_is_written_outside() {
        let outside = tempfile::tempdir().unwrap();
        let absolute = outside.path().to_str().unwrap();
        let attacks: &[&[(&str, Kind, &str)]] = &[
            &[file("../secret", "x")],
            &[file("a/../../secret", "x")],
            &[file("/../secret", "x")],
            &[link("l", ".."), file("l/secret", "x")],
            &[link("l", "../../.."), file("l/tmp/x", "x")],
            &[link("l", absolute), file("l/x", "x")],
            &[link("l", absolute), directory("l/d"), file("l/d/x", "x")],
            &[link("l", absolute), directory("l")],
            &[directory("l"), link("l", absolute), file("l/x", "x")],
            &[link("a", "b"), link("b", absolute), file("a/x", "x")],
            &[link("l", "../secret"), file("l", "x")],
            &[link("l", "../secret"), hard_link("h", "l"), file("h", "x")],
            &[hard_link("h", "../secret"), file("h", "x")],
            &[link("l", ".."), hard_link("h", "l/secret")],
            &[link("l", "/proc/self/cwd"), file("l/x", "x")],
        ];
        for attack in attacks {
            unpack_in(attack, |_, _| {});
            assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0, "{attack:?}");
        }
    }

    #[test]
    fn links_lead_where_they_would_inside() {
        unpack_in(
            &[link("lib", "usr/lib"), directory("usr"), directory("usr/lib"), file("lib/x", "x")],
            |root, result| {
                result.unwrap();
                assert_eq!(std::fs::read(root.join("usr/lib/x")).unwrap(), b"x");
            },
        );
        unpack_in(&[directory("run"), link("var", "/run"), file("var/x", "x")], |root, result| {
            result.unwrap();
            assert_eq!(std::fs::read(root.join("run/x")).unwrap(), b"x");
        });
    }

    #[test]
    fn a_later_entry_takes_the_place_of_an_earlier_one() {
        let kinds = || [file("x", "1"), directory("x"), link("x", "a")];
        for first in kinds() {
            for second in kinds() {
                unpack_in(&[first.clone(), second.clone()], |root, result| {
                    result.unwrap();
                    let found = std::fs::symlink_metadata(root.join("x")).unwrap().file_type();
                    let expected = (second.1 == Kind::Directory, matches!(second.1, Kind::Symlink(_)));
                    assert_eq!((found.is_dir(), found.is_symlink()), expected, "{first:?} {second:?}");
                });
            }
        }
        unpack_in(&[directory("d"), file("d/x", "1"), file("d", "2")], |root, result| {
            result.unwrap();
            assert_eq!(std::fs::read(root.join("d")).unwrap(), b"2");
        });
    }

    #[test]
    fn times_of_directories_survive_their_content() {
        use std::os::unix::fs::MetadataExt;
        unpack_in(&[directory("d"), file("d/x", "1"), hard_link("d/y", "d/x")], |root, result| {
            result.unwrap();
            for path in ["", "d", "d/x"] {
                assert_eq!(std::fs::metadata(root.join(path)).unwrap().mtime(), 77, "{path}");
            }
            assert_eq!(std::fs::metadata(root.join("d/x")).unwrap().nlink(), 2);
        });
    }

    #[test]
    fn a_link_to_nothing_in_the_archive_is_an_error() {
        unpack_in(&[hard_link("h", "absent")], |_, result| {
            assert!(matches!(result, Err(LayerError::Apply { path, .. }) if path == "h"));
        });
    }
}
