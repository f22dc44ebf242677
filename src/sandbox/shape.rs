//! The type of a mount point.

use std::fs;
use std::io;
use std::path::Path;

/// The type of a mount point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    File,
    Directory,
}

impl Shape {
    /// Returns the shape that a mount point for `source` needs.
    pub(super) fn of(source: &Path) -> io::Result<Self> {
        let is_directory = fs::metadata(source)?.is_dir();
        Ok(if is_directory { Shape::Directory } else { Shape::File })
    }
}
