//! The layers below an upper directory, merged as overlayfs merges them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::rc::Rc;

use rustix::fs::{Mode, OFlags, Stat, openat};
use rustix::io::Errno;

use super::compare::equal_bytes;
use super::file::{DIRECTORY, failed, names, open_beneath, open_directory};
use super::overlay::is_opaque;
use crate::layer::{Clamp, Kind, LowerDir, Meta, TreeNode};
use crate::port::StoreError;
use crate::tree::{FileRef, file_id, is_whiteout, kind, meta};

/// One merged directory.
pub(super) struct MergedDir {
    /// This directory in each layer that has it and is not hidden, highest first. At least one.
    layers: Vec<OwnedFd>,
    /// Path within the root, for messages.
    path: PathBuf,
    context: Rc<Context>,
}

struct Context {
    upper: OwnedFd,
    /// Times are clamped before they are compared, because the times of an upper directory are
    /// clamped too.
    clamp: Clamp,
}

impl MergedDir {
    /// Opens the root of unpacked layers, lowest first; `None` if there are none. `upper` is the
    /// directory that is compared with them.
    pub(super) fn open(lowers: &[PathBuf], upper: OwnedFd, clamp: Clamp) -> Result<Option<Self>, StoreError> {
        let layers = lowers.iter().rev().map(|path| open_directory(path)).collect::<Result<Vec<_>, _>>()?;
        let context = Rc::new(Context { upper, clamp });
        Ok((!layers.is_empty()).then(|| Self { layers, path: PathBuf::from("/"), context }))
    }

    /// Returns the entry of the highest layer that has this name; `None` if that layer removes it.
    fn find(&self, name: &[u8]) -> Result<Option<(&OwnedFd, Stat, Kind)>, Errno> {
        for layer in &self.layers {
            let Some(stat) = stat(layer, name)? else { continue };
            return Ok(match kind(layer, name, &stat)? {
                None | Some(Kind::Whiteout) => None,
                Some(kind) => Some((layer, stat, kind)),
            });
        }
        Ok(None)
    }

    /// Returns the kind of the entry `name`, or `None` if it is missing.
    pub(super) fn kind(&self, name: &[u8]) -> Result<Option<Kind>, Errno> {
        Ok(self.find(name)?.map(|(_, _, kind)| kind))
    }

    /// Returns the directory `name`, or `None` if it is missing or not a directory.
    pub(super) fn directory(&self, name: &[u8]) -> Result<Option<Self>, Errno> {
        if self.kind(name)? != Some(Kind::Directory) {
            return Ok(None);
        }
        let layers = self.open_layers(name)?;
        Ok(Some(Self { layers, path: self.absolute(name), context: self.context.clone() }))
    }

    /// Opens the file `name`. Fails with [`Errno::NOENT`] if it is missing.
    pub(super) fn open_file(&self, name: &[u8]) -> Result<File, Errno> {
        let (layer, ..) = self.find(name)?.ok_or(Errno::NOENT)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(layer, name, flags, Mode::empty())?.into())
    }

    /// Returns the directory's own mode, owner, time and attributes.
    pub(super) fn read_meta(&self) -> Result<Meta, Errno> {
        let layer = &self.layers[0];
        let layer = FileRef::Open(layer.as_fd());
        Ok(Meta { xattrs: layer.content()?, ..meta(&layer.status()?, &self.context.clamp) })
    }

    /// Returns the entry `name` without children.
    pub(super) fn read_node(&self, name: &[u8]) -> Result<Option<TreeNode>, Errno> {
        let Some((layer, stat, kind)) = self.find(name)? else { return Ok(None) };
        let xattrs = FileRef::Named(layer.as_fd(), name).content()?;
        let mut node = TreeNode::new(kind, Meta { xattrs, ..meta(&stat, &self.context.clamp) });
        node.file = file_id(&stat);
        Ok(Some(node))
    }

    /// Opens the directory `name` in every layer, down to the first layer that hides the lower
    /// ones.
    fn open_layers(&self, name: &[u8]) -> Result<Vec<OwnedFd>, Errno> {
        let mut layers = Vec::new();
        for layer in &self.layers {
            match openat(layer, name, DIRECTORY, Mode::empty()) {
                Err(Errno::NOENT) => continue,
                // A file, a link or a removal hides the layers below it.
                Err(Errno::NOTDIR | Errno::LOOP) => break,
                opened => layers.push(opened?),
            }
            if is_opaque(FileRef::Named(layer.as_fd(), name))? {
                break;
            }
        }
        Ok(layers)
    }

    /// Returns the names of its entries, sorted.
    pub(super) fn merged_names(&self) -> Result<Vec<Vec<u8>>, Errno> {
        let mut merged: BTreeMap<Vec<u8>, bool> = BTreeMap::new();
        for layer in &self.layers {
            for name in names(layer)? {
                if merged.contains_key(&name) {
                    continue;
                }
                let is_there = stat(layer, &name)?.is_some_and(|stat| !is_whiteout(&stat));
                merged.insert(name, is_there);
            }
        }
        Ok(merged.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect())
    }

    fn compare(&self, name: &[u8], path: &[u8]) -> io::Result<bool> {
        let below = match self.open_file(name) {
            Err(Errno::NOENT) => return Ok(false),
            opened => opened?,
        };
        let above: File = open_beneath(&self.context.upper, path, OFlags::RDONLY | OFlags::NOFOLLOW)?.into();
        equal_bytes(below, above)
    }

    fn absolute(&self, name: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(name))
    }
}

#[cfg(test)]
impl MergedDir {
    /// Returns true for a directory that only one layer has and that holds removals. Overlayfs does
    /// not merge it, and would show their devices.
    pub(super) fn shows_removals(&self) -> bool {
        let removed =
            |name: &Vec<u8>| stat(&self.layers[0], name).unwrap().is_some_and(|stat| is_whiteout(&stat));
        self.layers.len() == 1 && names(&self.layers[0]).unwrap().iter().any(removed)
    }
}

impl LowerDir for MergedDir {
    type Error = StoreError;

    fn meta(&self) -> Result<Meta, StoreError> {
        self.read_meta().map_err(failed("inspect below", &self.path))
    }

    fn names(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        self.merged_names().map_err(failed("read directory below", &self.path))
    }

    fn node(&self, name: &[u8]) -> Result<Option<TreeNode>, StoreError> {
        self.read_node(name).map_err(failed("inspect below", &self.absolute(name)))
    }

    fn enter(&self, name: &[u8]) -> Result<Self, StoreError> {
        let path = self.absolute(name);
        let layers = self.open_layers(name).map_err(failed("open below", &path))?;
        Ok(Self { layers, path, context: self.context.clone() })
    }

    fn same_bytes(&self, name: &[u8], path: &[u8]) -> Result<bool, StoreError> {
        self.compare(name, path).map_err(failed("compare with what is below", &self.absolute(name)))
    }
}

fn stat(directory: &OwnedFd, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match FileRef::Named(directory.as_fd(), name).status() {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}
