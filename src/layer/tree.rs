//! The tree of an upper directory, without the content of its files: a layer before it is encoded.

use std::collections::BTreeMap;

use super::entry::{Kind, Meta};

/// One name in a tree, with its children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeNode {
    /// Any kind except [`Kind::Hardlink`] (nodes of one file share [`TreeNode::file`] instead) and
    /// [`Kind::OpaqueWhiteout`] (see [`TreeNode::opacity`]).
    pub kind: Kind,
    pub meta: Meta,
    /// Identity of a file with several names; `None` for one name. Unique within one tree.
    pub file: Option<FileId>,
    /// For directories: their content, by name.
    pub children: BTreeMap<Vec<u8>, TreeNode>,
    /// For directories: whether the content of lower layers shows.
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
    pub device: u64,
    pub inode: u64,
}

/// Whether the content of a directory in lower layers shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opacity {
    /// The content shows where the upper directory has no entry of that name.
    Merged,
    /// The content is hidden.
    Opaque,
}
