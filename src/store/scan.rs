//! An upper directory, read into a tree and put into the form of a snapshot on the way.
//!
//! In place, and therefore seen by the changeset, the archive and the snapshot alike: rules are applied; times are
//! whole seconds not after the epoch; extended attributes that are no content are gone. Directories get their times
//! last, by the caller, as every change within moves them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{ffi::OsStr, fs::File, io::Read, io::Write};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps, openat, statat, utimensat};

use super::file::{DIRECTORY, failed, names, remove_tree};
use super::xattr;
use crate::layer::{Action, FileId, Kind, LayerError, Meta, Opacity, Rewrite, Times, TreeNode, is_content};
use crate::port::{Commit, StoreError};

/// Attributes that say that a directory or file of the upper layer is not all there is of it.
const INCOMPLETE: [&[u8]; 4] = [
    b"trusted.overlay.redirect",
    b"trusted.overlay.metacopy",
    b"user.overlay.redirect",
    b"user.overlay.metacopy",
];

/// Reads the upper directory `root`, which is `path`, and applies `commit` to it; the hooks that filled it ran in `times`.
///
/// # Errors
/// [`LayerError::Unsupported`] if overlayfs kept only a part of a file or directory there, [`StoreError::Io`].
pub(super) fn scan(
    root: BorrowedFd<'_>,
    path: &Path,
    commit: &Commit,
    times: &Times,
) -> Result<TreeNode, StoreError> {
    let scanner = Scanner { root: path, commit, times };
    let stat = statat(root, ".", AtFlags::SYMLINK_NOFOLLOW).map_err(failed("inspect", path))?;
    scanner.node(root, b".", b"", &stat, Kind::Directory)
}

/// Returns what a file is, or `None` for a socket. `name` is needed for the target of a link.
pub(super) fn kind(
    directory: impl AsFd,
    name: &[u8],
    stat: &Stat,
) -> Result<Option<Kind>, rustix::io::Errno> {
    let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Kind::Directory,
        FileType::RegularFile => Kind::File(stat.st_size as u64),
        FileType::Symlink => Kind::Symlink(rustix::fs::readlinkat(directory, name, Vec::new())?.into_bytes()),
        FileType::CharacterDevice if (major, minor) == (0, 0) => Kind::Whiteout,
        FileType::CharacterDevice => Kind::CharDevice(major, minor),
        FileType::BlockDevice => Kind::BlockDevice(major, minor),
        FileType::Fifo => Kind::Fifo,
        _ => return Ok(None),
    }))
}

/// Returns mode, owner and time of a file; the time is not after `epoch`.
pub(super) fn meta(stat: &Stat, epoch: i64) -> Meta {
    let mtime = stat.st_mtime.min(epoch);
    Meta {
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime,
        xattrs: Default::default(),
    }
}

/// Returns what several names of one file share, or `None` if it has one name.
pub(super) fn file_id(stat: &Stat, kind: &Kind) -> Option<FileId> {
    let several = stat.st_nlink > 1 && matches!(kind, Kind::File(_));
    several.then_some(FileId { device: stat.st_dev, inode: stat.st_ino })
}

/// Times with this modification time, in whole seconds.
pub(super) fn timestamps(mtime: i64) -> Timestamps {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

struct Scanner<'a> {
    root: &'a Path,
    commit: &'a Commit,
    times: &'a Times,
}

impl Scanner<'_> {
    fn directory(&self, directory: &OwnedFd, path: &[u8], node: &mut TreeNode) -> Result<(), StoreError> {
        for name in names(directory).map_err(failed("read directory", &self.absolute(path)))? {
            let child = if path.is_empty() { name.clone() } else { [path, &name].join(&b'/') };
            if let Some(inner) = self.entry(directory.as_fd(), &name, &child)? {
                node.children.insert(name, inner);
            }
        }
        Ok(())
    }

    /// Reads one entry, or drops it by a rule. Sockets are always dropped: nothing answers behind them.
    fn entry(
        &self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
    ) -> Result<Option<TreeNode>, StoreError> {
        let absolute = self.absolute(path);
        let stat =
            statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("inspect", &absolute))?;
        let kind = kind(directory, name, &stat).map_err(failed("read link", &absolute))?;
        let action = kind.as_ref().map_or(Action::Drop, |kind| self.commit.rules.action(path, kind));
        let bytes = match (action, kind) {
            (Action::Drop, _) | (_, None) => {
                remove_tree(directory, name).map_err(failed("remove", &absolute))?;
                return Ok(None);
            }
            (Action::Keep, Some(kind)) => return self.node(directory, name, path, &stat, kind).map(Some),
            (Action::Empty, _) => empty(directory, name).map_err(failed("empty", &absolute))?,
            (Action::Rewrite(rewrite), _) => {
                replace(directory, name, rewrite, self.times).map_err(failed("rewrite", &absolute))?
            }
        };
        let node = self.node(directory, name, path, &stat, Kind::File(bytes))?;
        // Writing moved the time, which looked right when the file was inspected.
        self.date(directory, name, path, &node.meta)?;
        Ok(Some(node))
    }

    fn node(
        &self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        stat: &Stat,
        kind: Kind,
    ) -> Result<TreeNode, StoreError> {
        if kind == Kind::Whiteout {
            return Ok(TreeNode::new(kind, Meta::NONE));
        }
        let mut node = TreeNode::new(kind, meta(stat, self.commit.source_date_epoch));
        node.file = file_id(stat, &node.kind);
        self.attributes(directory, name, path, &mut node)?;
        if node.kind == Kind::Directory {
            let absolute = self.absolute(path);
            let inner = openat(directory, name, DIRECTORY, Mode::empty())
                .map_err(failed("open directory", &absolute))?;
            self.directory(&inner, path, &mut node)?;
        } else {
            self.clamp(directory, name, path, stat, &node.meta)?;
        }
        Ok(node)
    }

    fn attributes(
        &self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        node: &mut TreeNode,
    ) -> Result<(), StoreError> {
        let error =
            |error| failed::<rustix::io::Errno>("read the attributes of", &self.absolute(path))(error);
        for key in xattr::list(directory, name).map_err(error)? {
            let value = xattr::get(directory, name, &key).map_err(error)?.unwrap_or_default();
            if is_content(&key) {
                node.meta.xattrs.insert(key, value);
                continue;
            }
            // The content of such a file is partly in a lower layer, and the archive would lack it.
            if INCOMPLETE.contains(&key.as_slice()) {
                let path = String::from_utf8_lossy(path).into_owned();
                let what =
                    "a part of what overlayfs shows (mount with redirect_dir=off,metacopy=off)".to_owned();
                return Err(LayerError::Unsupported { path, what }.into());
            }
            if xattr::OPAQUE.contains(&key.as_slice()) && value == b"y" {
                node.opacity = Opacity::Opaque;
            }
            xattr::remove(directory, name, &key).map_err(error)?;
        }
        Ok(())
    }

    fn clamp(
        &self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        stat: &Stat,
        meta: &Meta,
    ) -> Result<(), StoreError> {
        if (stat.st_mtime, stat.st_mtime_nsec) == (meta.mtime, 0) {
            return Ok(());
        }
        self.date(directory, name, path, meta)
    }

    fn date(
        &self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        meta: &Meta,
    ) -> Result<(), StoreError> {
        utimensat(directory, name, &timestamps(meta.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("set the times of", &self.absolute(path)))
    }

    fn absolute(&self, path: &[u8]) -> PathBuf {
        self.root.join(OsStr::from_bytes(path))
    }
}

/// Takes a file's content away and returns its size.
pub(super) fn empty(directory: BorrowedFd<'_>, name: &[u8]) -> std::io::Result<u64> {
    open_to_write(directory, name)?.set_len(0)?;
    Ok(0)
}

/// Replaces a part of a file's content and returns its size.
pub(super) fn replace(
    directory: BorrowedFd<'_>,
    name: &[u8],
    rewrite: Rewrite,
    times: &Times,
) -> std::io::Result<u64> {
    use std::io::{Seek, SeekFrom};
    let mut file = open_to_write(directory, name)?;
    let mut head = Vec::new();
    let limit = rewrite.head_bytes().map_or(u64::MAX, |bytes| bytes as u64);
    (&mut file).take(limit).read_to_end(&mut head)?;
    if let Some(new) = rewrite.apply(&head, times) {
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&new)?;
        // A rewrite that saw only the head leaves the rest of the file.
        if rewrite.head_bytes().is_none() {
            file.set_len(new.len() as u64)?;
        }
    }
    Ok(file.metadata()?.len())
}

fn open_to_write(directory: BorrowedFd<'_>, name: &[u8]) -> std::io::Result<File> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(directory, name, flags, Mode::empty())?.into())
}
