//! Metadata that directories of an archive get after all their entries.

use std::collections::BTreeMap;
use std::io;

use crate::layer::Meta;

/// Real systems have a few hundred thousand directories at most, and few of them have attributes.
const LIMIT_BYTES: usize = 256 << 20;
/// Bytes that a directory uses in memory besides its path and attributes.
const DIRECTORY_BYTES: usize = 200;

/// Metadata of directories, which is set at the end: each new entry in a directory changes its
/// time.
pub(super) struct Deferred {
    metas: BTreeMap<Vec<u8>, Meta>,
    nowhere: Meta,
    bytes: usize,
}

impl Deferred {
    /// Starts empty. Directories that neither the archive nor a layer below has get `nowhere`.
    pub(super) fn new(nowhere: Meta) -> Self {
        Self { metas: BTreeMap::new(), nowhere, bytes: 0 }
    }

    /// Stores the metadata of a directory. A later call replaces it. Fails beyond a memory limit: a
    /// small compressed archive can decode to any number of directories.
    pub(super) fn set(&mut self, path: &[u8], meta: &Meta) -> io::Result<()> {
        let attributes: usize = meta.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        // The count never decreases, not even in `forget`: an archive could replace the same
        // directory forever.
        self.bytes = self.bytes.saturating_add(DIRECTORY_BYTES + path.len() + attributes);
        if self.bytes > LIMIT_BYTES {
            return Err(io::Error::other(format!(
                "the names and attributes of the archive's directories take more than {LIMIT_BYTES} bytes"
            )));
        }
        self.metas.insert(path.to_vec(), meta.clone());
        Ok(())
    }

    /// Stores the metadata of a directory that the archive has not listed so far: `meta`, from the
    /// layers below, or else `nowhere`.
    pub(super) fn imply(&mut self, path: &[u8], meta: Option<Meta>) -> io::Result<()> {
        let meta = meta.unwrap_or_else(|| self.nowhere.clone());
        self.set(path, &meta)
    }

    /// Returns true if this directory has stored metadata.
    pub(super) fn contains(&self, path: &[u8]) -> bool {
        self.metas.contains_key(path)
    }

    /// Forgets a removed directory and all directories below it.
    pub(super) fn forget(&mut self, path: &[u8]) {
        // Siblings such as `x-y` sort between `x` and `x/`, so the range starts behind the slash.
        let inside = [path, b"/"].concat();
        self.metas.remove(path);
        let gone = self.metas.range(inside.clone()..).map(|(path, _)| path.clone());
        let gone: Vec<_> = gone.take_while(|path| path.starts_with(&inside)).collect();
        gone.iter().for_each(|path| drop(self.metas.remove(path)));
    }

    /// Returns paths and metadata, deepest first.
    pub(super) fn deepest_first(&self) -> impl Iterator<Item = (&Vec<u8>, &Meta)> {
        self.metas.iter().rev()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_metadata_counts_and_removed_directories_are_forgotten() {
        let mut deferred = Deferred::new(Meta::IMPLIED_DIRECTORY);
        let meta = |mode| Meta { mode, ..Meta::IMPLIED_DIRECTORY };
        deferred.imply(b"a", None).unwrap();
        deferred.set(b"a", &meta(0o700)).unwrap();
        deferred.imply(b"a/b", Some(meta(0o711))).unwrap();
        deferred.imply(b"", None).unwrap();
        for path in [b"x".as_slice(), b"x/y", b"x/y/z", b"x-y", b"xx"] {
            deferred.set(path, &meta(0o777)).unwrap();
        }
        deferred.forget(b"x");
        let found: Vec<_> =
            deferred.deepest_first().map(|(path, meta)| (path.as_slice(), meta.mode)).collect();
        let root = Meta::IMPLIED_DIRECTORY.mode;
        assert_eq!(
            found,
            [(b"xx".as_slice(), 0o777), (b"x-y", 0o777), (b"a/b", 0o711), (b"a", 0o700), (b"", root)]
        );
    }

    #[test]
    fn the_memory_for_directories_is_limited() {
        let large =
            Meta { xattrs: [(b"user.a".to_vec(), vec![0; 8 << 20])].into(), ..Meta::IMPLIED_DIRECTORY };
        let mut deferred = Deferred::new(Meta::IMPLIED_DIRECTORY);
        let kept = (0..100).take_while(|_| deferred.set(b"always/the/same", &large).is_ok()).count();
        assert_eq!(kept, 31);
    }
}
