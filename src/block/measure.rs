//! Measures the space that a tree needs on a disk.

use std::path::Path;

use rustix::fs::FileType;

use super::sparse;
use crate::disk::Content;
use crate::port::{DiskError, IoError};
use crate::tree::{Dir, Entry, Links, walk};

/// Measures everything below the directory `root`.
pub(super) fn measure(root: &Path) -> Result<Content, DiskError> {
    let (mut content, mut links) = (Content::default(), Links::default());
    walk(&Dir::open(root)?, &mut |entry| {
        content.entries += 1;
        // Hard links share an inode and its blocks, which count only for the first name.
        match links.first(&entry.stat, || ()) {
            Some(()) => Ok(()),
            None => add(entry, &mut content),
        }
    })?;
    Ok(content)
}

fn add(entry: &Entry<'_>, content: &mut Content) -> Result<(), IoError> {
    content.inodes += 1;
    match entry.file_type() {
        FileType::Directory => content.blocks += 1,
        FileType::RegularFile => {
            let bytes = sparse::data_bytes(entry)?;
            content.bytes += bytes;
            content.blocks += bytes.div_ceil(4096);
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn hard_links_count_once_and_holes_do_not_count() {
        let tree = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let at = |name: &str| tree.path().join(name);
        fs::create_dir(at("d")).unwrap();
        fs::write(at("d/a"), [1; 5000]).unwrap();
        fs::hard_link(at("d/a"), at("b")).unwrap();
        symlink("b", at("link")).unwrap();
        File::create(at("sparse")).unwrap().set_len(1 << 30).unwrap();
        let expected = Content { bytes: 5000, entries: 5, blocks: 1 + 2, inodes: 4 };
        assert_eq!(measure(tree.path()).unwrap(), expected);
    }
}
