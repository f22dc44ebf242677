//! Reads an upper directory into a tree, and normalizes it at the same time.
//!
//! The upper directory itself changes, so that changeset, archive and snapshot agree. Rules are
//! applied, times become whole seconds that are not after the epoch, and extended attributes that
//! are not content are removed. The caller sets the times of directories at the end, because every
//! change in a directory changes its time.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};

use super::file::remove_tree;
use super::overlay::OPAQUE;
use crate::layer::{Action, Kind, LayerError, Meta, Opacity, Rewrite, Times, TreeNode, is_content};
use crate::port::{Commit, IoError, StoreError};
use crate::tree::{Dir, Entry, file_id, meta, timestamps};

/// Attributes with which overlayfs marks a file or directory whose content is partly in a lower
/// layer.
const INCOMPLETE: [&[u8]; 4] = [
    b"trusted.overlay.redirect",
    b"trusted.overlay.metacopy",
    b"user.overlay.redirect",
    b"user.overlay.metacopy",
];

/// Reads the upper directory `root` and applies `commit` to it. Its hooks ran in the period
/// `times`.
///
/// # Errors
/// [`LayerError::Unsupported`] if a part of a file or directory is in a lower layer,
/// [`StoreError::Io`].
pub(super) fn scan(root: &Path, commit: &Commit, times: &Times) -> Result<TreeNode, StoreError> {
    let root = Dir::open(root)?;
    Scanner { commit, times }.node(&root.itself()?, Kind::Directory)
}

struct Scanner<'a> {
    commit: &'a Commit,
    times: &'a Times,
}

impl Scanner<'_> {
    fn directory(&self, directory: &Dir<'_>, node: &mut TreeNode) -> Result<(), StoreError> {
        for entry in directory.entries()? {
            let entry = entry?;
            if let Some(inner) = self.entry(&entry)? {
                node.children.insert(entry.name, inner);
            }
        }
        Ok(())
    }

    /// Reads one entry, or drops it by a rule. Sockets are always dropped, because their processes
    /// have ended.
    fn entry(&self, entry: &Entry<'_>) -> Result<Option<TreeNode>, StoreError> {
        let kind = entry.kind()?;
        let action = kind.as_ref().map_or(Action::Drop, |kind| self.commit.rules.action(&entry.path, kind));
        let bytes = match (action, kind) {
            (Action::Drop, _) | (_, None) => {
                remove_tree(entry.directory(), &entry.name).map_err(entry.failed("remove"))?;
                return Ok(None);
            }
            (Action::Keep, Some(kind)) => return self.node(entry, kind).map(Some),
            (Action::Empty, _) => empty(entry)?,
            (Action::Rewrite(rewrite), _) => replace(entry, rewrite, self.times)?,
        };
        let node = self.node(entry, Kind::File(bytes))?;
        // The rewrite has changed the time after `node` compared it.
        date(entry, node.meta.mtime)?;
        Ok(Some(node))
    }

    fn node(&self, entry: &Entry<'_>, kind: Kind) -> Result<TreeNode, StoreError> {
        if kind == Kind::Whiteout {
            return Ok(TreeNode::new(kind, Meta::NONE));
        }
        let mut node = TreeNode::new(kind, meta(&entry.stat, &self.commit.clamp));
        node.file = file_id(&entry.stat);
        take_attributes(entry, &mut node)?;
        if node.kind == Kind::Directory {
            self.directory(&entry.enter()?, &mut node)?;
        } else if (entry.stat.st_mtime, entry.stat.st_mtime_nsec) != (node.meta.mtime, 0) {
            date(entry, node.meta.mtime)?;
        }
        Ok(node)
    }
}

/// Adds attributes that are content to `node`, and removes the others.
fn take_attributes(entry: &Entry<'_>, node: &mut TreeNode) -> Result<(), StoreError> {
    let failed = |error| entry.failed::<rustix::io::Errno>("read the attributes of")(error);
    for key in entry.file().attributes().map_err(failed)? {
        let value = entry.file().attribute(&key).map_err(failed)?.unwrap_or_default();
        if is_content(&key) {
            node.meta.xattrs.insert(key, value);
            continue;
        }
        // The archive would lack the part of the content that is in a lower layer.
        if INCOMPLETE.contains(&key.as_slice()) {
            let path = String::from_utf8_lossy(&entry.path).into_owned();
            let what = "a part of what overlayfs shows (mount with redirect_dir=off,metacopy=off)".to_owned();
            return Err(LayerError::Unsupported { path, what }.into());
        }
        if OPAQUE.contains(&key.as_slice()) && value == b"y" {
            node.opacity = Opacity::Opaque;
        }
        entry.file().remove_attribute(&key).map_err(failed)?;
    }
    Ok(())
}

fn date(entry: &Entry<'_>, mtime: i64) -> Result<(), IoError> {
    entry.file().set_times(&timestamps(mtime)).map_err(entry.failed("set the times of"))
}

/// Empties a file and returns its new size.
pub(super) fn empty(entry: &Entry<'_>) -> Result<u64, IoError> {
    let emptied = open_to_write(entry).and_then(|file| file.set_len(0));
    emptied.map(|()| 0).map_err(entry.failed("empty"))
}

/// Rewrites a part of a file and returns its new size.
pub(super) fn replace(entry: &Entry<'_>, rewrite: Rewrite, times: &Times) -> Result<u64, IoError> {
    let replaced = open_to_write(entry).and_then(|file| apply(rewrite, file, times));
    replaced.map_err(entry.failed("rewrite"))
}

fn apply(rewrite: Rewrite, mut file: File, times: &Times) -> io::Result<u64> {
    use std::io::{Seek, SeekFrom};
    let mut head = Vec::new();
    let limit = rewrite.head_bytes().map_or(u64::MAX, |bytes| bytes as u64);
    (&mut file).take(limit).read_to_end(&mut head)?;
    if let Some(new) = rewrite.apply(&head, times) {
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&new)?;
        // A rewrite that reads only the head keeps the rest of the file.
        if rewrite.head_bytes().is_none() {
            file.set_len(new.len() as u64)?;
        }
    }
    Ok(file.metadata()?.len())
}

fn open_to_write(entry: &Entry<'_>) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(entry.directory(), &*entry.name, flags, Mode::empty())?.into())
}
