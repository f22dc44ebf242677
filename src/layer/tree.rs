//! A layer before it is an archive: the tree of its upper directory, without the bytes of its files.

use std::collections::BTreeMap;

use super::entry::{Kind, Meta};

/// One name in a tree, and what is below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeNode {
    /// What it is: everything but [`Kind::Hardlink`] (several nodes share [`TreeNode::file`] instead) and
    /// [`Kind::OpaqueWhiteout`] (see [`TreeNode::opacity`]).
    pub kind: Kind,
    /// Mode, owner, time and extended attributes.
    pub meta: Meta,
    /// For files with several names: what they share. Unique within one tree.
    pub file: Option<FileId>,
    /// For directories: their content, by name.
    pub children: BTreeMap<Vec<u8>, TreeNode>,
    /// For directories: what becomes of the content that the directory has below.
    pub opacity: Opacity,
}

impl TreeNode {
    /// Returns a node without children and without further names.
    pub fn new(kind: Kind, meta: Meta) -> Self {
        Self { kind, meta, file: None, children: BTreeMap::new(), opacity: Opacity::Merged }
    }
}

/// A file by device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
}

/// What becomes of the content that a directory has in lower layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opacity {
    /// It is seen through.
    Merged,
    /// It is gone.
    Opaque,
}
